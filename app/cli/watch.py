"""`watch`: runs a worker or beat, and starts it anew when it makes no progress."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from datetime import timedelta
from typing import Annotated

import typer

import config
from app.cli.loading import load_config
from app.cli.terminal import WRONG_USAGE, fail
from app.configuration.loaded import Loaded
from app.configuration.reload import Reloader
from app.core.clock import utc_now
from app.core.errors import RowrelayError
from app.core.logs import configure_logging, log_what_nobody_caught
from app.core.unforeseen import Troubles
from app.ledger import Ledger
from app.ledger.heartbeats import KEPT, Heartbeat, Role
from app.monitoring.health import Bounds, judge_process
from app.monitoring.heartbeat import pause_between
from app.monitoring.watchdog import Patience, Watchdog
from app.runtime.reader import open_reader

LONGEST_START = timedelta(seconds=60)
"""How long a process may take until its first heartbeat, at least."""


def watch(command: Annotated[list[str], typer.Argument(help="The command, behind `--`.")]) -> None:
    """Run a worker or beat, pass signals and its exit code on, and start it anew when it makes no
    progress.

    The command must be the process itself (`celery …`), not a script that starts it: it is known by
    its process id.
    """
    loaded = Loaded(load_config())
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


async def _watch(loaded: Loaded, command: list[str], patience: Patience) -> int:
    reloader = Reloader(loaded, loaded.replace)
    reloader.start()
    async with open_reader(loaded) as reader:
        check = ByHeartbeat(loaded, reader.ledger)
        try:
            return await Watchdog(command, check, patience, hung_up=reloader.ask).run()
        finally:
            await check.leave()


class ByHeartbeat:
    """Whether a process of this machine makes progress, by its heartbeat.

    While the check itself fails, the ledger says so, in a heartbeat of the watchdog's own.
    """

    def __init__(self, loaded: config.Config | Loaded, ledger: Ledger) -> None:
        self._loaded = loaded
        self._ledger = ledger
        self._troubles = Troubles()
        self._heard: int | None = None
        """The process whose heartbeat was there."""
        self._host, self._pid, self._started_at = socket.gethostname(), os.getpid(), utc_now()
        self._name = f"watch@{self._host}-{self._pid}"

    async def __call__(self, pid: int) -> str | None:
        """What is wrong with it; `None`: nothing, or the ledger is away. Raises what nobody
        foresaw.
        """
        failed = bool(self._troubles.current())
        try:
            with self._troubles.noted("watch", None):
                found = await self._ask(pid)
        except RowrelayError as error:
            if error.retryable:
                return None
            await self._say()
            raise
        except Exception:
            await self._say()
            raise
        if failed:
            await self.leave()
        return found

    async def leave(self) -> None:
        """Take back what was said."""
        with suppress(RowrelayError):
            await self._ledger.heartbeats.leave(Role.WATCH, self._name, self._pid)

    async def _ask(self, pid: int) -> str | None:
        await self._ledger.read_clock()
        now = utc_now()
        known = await self._ledger.heartbeats.since(now - KEPT, host=self._host)
        heartbeats = [one for one in known if one.pid == pid and one.role is not Role.WATCH]
        if heartbeats:
            self._heard = pid
        elif (
            pid == self._heard
        ):  # it took its heartbeat back: it ends on purpose, and may take its time
            return None
        else:
            return "it has sent no heartbeat yet"
        bounds = Bounds.of(self._loaded.feeds.values(), self._loaded.settings)
        return (
            "; ".join(
                problem
                for one in heartbeats
                for problem in judge_process(one, bounds, now).problems
            )
            or None
        )

    async def _say(self) -> None:
        told = self._troubles.current()
        heartbeat = Heartbeat(
            Role.WATCH,
            self._name,
            self._host,
            self._pid,
            self._started_at,
            utc_now(),
            troubles=told,
        )
        with suppress(RowrelayError):
            await self._ledger.heartbeats.put(heartbeat)
