"""Options of Celery's commands that this application does not honour are refused, with what to use."""

from __future__ import annotations

from types import SimpleNamespace

import click
import pytest
from celery import Celery
from celery.bin.beat import beat
from celery.bin.worker import worker

from tasks.options import problems

COMMANDS: dict[str, click.Command] = {"worker": worker, "beat": beat}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("worker", "--autoscale=8,2"), "--autoscale is not supported: a pool of threads has one size"),
        (("worker", "-B"), "--beat is not supported: run beat as a process of its own, celery -A celery_app beat"),
        (("worker", "--pool=prefork"), "--pool prefork is not supported: Celery takes the word for threads"),
        (("worker", "-P", "gevent"), "--pool gevent is not supported: a worker runs threads"),
        (("worker", "--max-tasks-per-child", "5"), "--max-tasks-per-child is not supported: there are no child"),
        (("worker", "--time-limit=5"), "--time-limit is not supported: a thread cannot be stopped"),
        (("worker", "--detach"), "--detach needs --logfile"),
        (("beat", "-S", "celery.beat:PersistentScheduler"), "--scheduler is not supported: entries come"),
        (("beat", "-s", "schedule"), "--schedule is not supported: beat keeps no file"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_with_what_to_use(
    options: tuple[str, ...], told: str
) -> None:
    (problem,) = _problems(*options)
    assert problem.startswith(told)


@pytest.mark.parametrize(
    "options",
    [
        ("worker", "--concurrency", "4", "-l", "INFO"),
        ("worker", "--pool", "processes", "--max-tasks-per-child", "5", "--time-limit=5"),
        ("worker", "--detach", "--logfile", "w.log"),
        ("beat", "-l", "INFO"),
    ],
)
def test_what_is_honoured_is_not_refused(options: tuple[str, ...]) -> None:
    assert _problems(*options) == []


def test_one_from_the_environment_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_WORKER_AUTOSCALE", "8,2")
    (problem,) = _problems("worker")
    assert problem.startswith("CELERY_WORKER_AUTOSCALE is not supported: ")


def _problems(name: str, *options: str) -> list[str]:
    """What Celery's own command line makes of the options, and what we say of that."""
    command = COMMANDS[name]
    with Celery(set_as_current=False) as app:
        context = click.Context(
            command,
            info_name=name,
            obj=SimpleNamespace(app=app),
            auto_envvar_prefix=f"CELERY_{name.upper()}",
        )
        with context:
            command.parse_args(context, list(options))
            return list(problems(name, context, ["celery", name, *options]))
