"""`watch`: runs a worker or beat, and starts it anew when it makes no progress."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import Annotated

import typer

import config
from app.cli.health import bounds_of
from app.cli.output import WRONG_USAGE, fail, load_config
from app.clock import utc_now
from app.errors import RowrelayError
from app.health import judge_mark
from app.ledger import Ledger
from app.ledger.progress import KEPT
from app.logs import configure_logging, log_what_nobody_caught
from app.progress import pause_between
from app.watch import Check, Patience, Watchdog

LONGEST_START = timedelta(seconds=60)
"""How long a process may take until its first mark, at least."""


def watch(command: Annotated[list[str], typer.Argument(help="The command, behind `--`.")]) -> None:
    """Run a worker or beat, pass signals and its exit code on, and start it anew when it makes no progress.

    The command must be the process itself (`celery …`), not a script that starts it: it is known by its process id.
    """
    loaded = load_config()
    settings = loaded.settings
    configure_logging(settings.log_level, settings.log_format)
    log_what_nobody_caught()
    patience = Patience(
        pause=pause_between(settings.progress_bound) * 1.5,
        start=max(LONGEST_START, 2 * settings.progress_bound),
        stop=settings.shutdown_grace + timedelta(seconds=2),
    )
    try:
        code = asyncio.run(_watch(loaded, command, patience))
    except OSError as error:
        fail(f"watch: {command[0]}: {error.strerror or error}", WRONG_USAGE)
    raise typer.Exit(code)


async def _watch(loaded: config.Config, command: list[str], patience: Patience) -> int:
    settings = loaded.settings
    ledger = Ledger.at(settings.mongo_url.get_secret_value(), settings.connect_timeout)
    try:
        return await Watchdog(command, progress_of(loaded, ledger), patience).run()
    finally:
        await ledger.close()


def progress_of(loaded: config.Config, ledger: Ledger) -> Check:
    """Whether a process of this machine makes progress, by its mark."""
    bounds, host = bounds_of(loaded), socket.gethostname()

    async def check(pid: int) -> str | None:
        now = utc_now()
        try:
            marks = [mark for mark in await ledger.progress.since(now - KEPT, host=host) if mark.pid == pid]
        except RowrelayError:
            return None
        if not marks:
            return "it has left no mark yet"
        return "; ".join(problem for mark in marks for problem in judge_mark(mark, bounds, now).problems) or None

    return check
