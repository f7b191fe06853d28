"""Options of Celery's commands that this application does not honour, refused before anything
starts.

Each would be found out in the middle of work: by a worker that ends, by a limit that limits
nothing, or by a process that no health check sees. Celery takes each from the environment too, as
`CELERY_WORKER_AUTOSCALE`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from click.core import ParameterSource

_THREADS = "a worker runs threads, whose number is WORKER_CONCURRENCY (or --concurrency)"
_MORE = "for more processes start more workers"
_NO_CHILDREN = f"there are no child processes: {_THREADS}"
_NO_LIMIT = "a thread cannot be stopped; LEASE, STATEMENT_TIMEOUT and partner.timeout bound what a task may take"
_WORKER = {
    "autoscale": f"a pool of threads has one size: {_THREADS}; {_MORE}",
    "beat": "run beat as a process of its own, celery -A celery_app beat, so that `health` sees it",
}
"""Parameter of `celery worker` → what to use."""
_WITH_CHILDREN = {
    "max_tasks_per_child": _NO_CHILDREN,
    "max_memory_per_child": f"{_NO_CHILDREN}; limit the worker's memory from outside",
    "pool_start_method": _NO_CHILDREN,
    "time_limit": _NO_LIMIT,
    "soft_time_limit": _NO_LIMIT,
}
"""Those that a pool of processes honours, and threads do not."""
_POOLS = {
    "eventlet": _THREADS,
    "gevent": _THREADS,
    "prefork": f"Celery takes the word for threads: {_THREADS}; {_MORE}, or use --pool processes",
}
_CHILDREN = "processes"
_BEAT = {
    "schedule": "beat keeps no file: the ledger's ticks say which periods are due",
    "scheduler": "entries come from feeds.toml; change it there",
}
_POOL = re.compile(r"\0(?:-P\0?|--pool[=\0])([^\0]+)")


def refuse_unsupported(name: str) -> click.Option:
    """An option that nobody writes, for `celery worker` or `celery beat`: it looks at all the
    others.

    Click asks those that were not written last, so it sees them all. A refusal exits with code 2.
    """

    def look(context: click.Context, _option: click.Parameter, _value: Any) -> None:
        for problem in problems(name, context, sys.argv):
            raise click.UsageError(problem, context)

    return click.Option(
        ["--unsupported"], is_flag=True, hidden=True, expose_value=False, callback=look
    )


def problems(name: str, context: click.Context, argv: Sequence[str]) -> Iterator[str]:
    """What of a command line, or of the environment in its place, cannot be honoured."""
    pool = (_pool_asked_for(context, argv) or "threads") if name == "worker" else "threads"
    unsupported = (
        _BEAT if name == "beat" else _WORKER if pool == _CHILDREN else {**_WORKER, **_WITH_CHILDREN}
    )
    for option in context.command.params:
        if option.name in unsupported and _given(context, option.name):
            yield f"{_named(context, option)} is not supported: {unsupported[option.name]}"
    if pool in _POOLS:
        yield f"--pool {pool} is not supported: {_POOLS[pool]}"
    if context.params.get("detach") and not context.params.get("logfile"):
        yield "--detach needs --logfile: without one nothing that the process says is kept"


def _pool_asked_for(context: click.Context, argv: Sequence[str]) -> str | None:
    """By its name: Celery turns the word into a class of its own choice."""
    if found := _POOL.search("\0" + "\0".join(argv)):
        return found[1]
    pool = next((option for option in context.command.params if option.name == "pool"), None)
    return pool.resolve_envvar_value(context) if pool else None


def _named(context: click.Context, option: click.Parameter) -> str:
    """The option as it was given: by its long name, or by its variable."""
    if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
        return max(option.opts, key=len)
    return f"{context.auto_envvar_prefix}_{str(option.name).upper()}"


def level_asked_for() -> str | None:
    """The level that was asked for (`-l`); `None` for none, or for one that logging has not."""
    context = click.get_current_context(silent=True)
    if context is None or not _given(context, "loglevel"):
        return None
    level = context.params.get("loglevel")
    return (
        {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR"}.get(level)
        if isinstance(level, int)
        else None
    )


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) in (
        ParameterSource.COMMANDLINE,
        ParameterSource.ENVIRONMENT,
    )
