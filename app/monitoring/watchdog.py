"""A watchdog: runs a worker or beat as its child, and restarts it when it makes no progress.

Docker restarts a container that ends, not one that is unhealthy; systemd checks neither. So
something outside the stuck process has to act on what `app.monitoring.health` finds. When the child
ends by itself, its exit code is passed on: whoever started the watchdog decides whether to start it
again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

log = structlog.get_logger()

FORWARDED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
FAILURES = 3
"""Checks in a row that find no progress before the child is ended: a heartbeat may be late once."""

Check = Callable[[int], Awaitable[str | None]]
"""What is wrong with the process of that id; `None`: nothing, or it cannot be told now."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the watchdog waits."""

    pause: timedelta
    """Between two checks."""
    start: timedelta
    """How long a new child may take until its first check succeeds."""
    stop: timedelta
    """From SIGTERM to SIGKILL, for a child that makes no progress."""


class Watchdog:
    """Watches over one command."""

    def __init__(
        self,
        command: Sequence[str],
        check: Check,
        patience: Patience,
        *,
        hung_up: Callable[[], object] = lambda: None,
    ) -> None:
        """`hung_up`: called for a SIGHUP, which is passed on as well."""
        self._command = command
        self._check = check
        self._patience = patience
        self._hung_up = hung_up
        self._child: asyncio.subprocess.Process | None = None
        self._stopped_by: signal.Signals | None = None

    async def run(self) -> int:
        """Run the command until it ends by itself or is told to. Returns its exit code; 128 + the
        signal that ended it.

        Raises `OSError` where the command cannot be run.
        """
        loop = asyncio.get_running_loop()
        for number in FORWARDED:
            loop.add_signal_handler(number, self._forward, number)
        while True:
            ended = await self._attend()
            if ended is not None:
                return ended

    async def _attend(self) -> int | None:
        """Run one child to its end. `None`: it was ended for lack of progress, and is to be
        restarted.
        """
        self._child = None
        child = await asyncio.create_subprocess_exec(*self._command, start_new_session=True)
        self._child = child
        if self._stopped_by is not None:  # while the child was being started
            _send(os.kill, child.pid, self._stopped_by)
        log.info("watch_started", pid=child.pid)
        ending = asyncio.create_task(child.wait())
        reason = await self._watch(child.pid, ending)
        if reason is not None:
            log.error("watch_restarts", pid=child.pid, reason=reason)
            await self._end(child, ending)
        code = await ending
        if reason is not None and self._stopped_by is None:
            return None
        return code if code >= 0 else 128 - code

    async def _watch(self, pid: int, ending: asyncio.Task[int]) -> str | None:
        """Check until the child ends (`None`), or has made no progress for too long (why)."""
        started_by, failures = time.monotonic() + self._patience.start.total_seconds(), 0
        while not ending.done():
            await asyncio.wait({ending}, timeout=self._patience.pause.total_seconds())
            reason = None if ending.done() else await self._checked(pid)
            failures = failures + 1 if reason else 0
            if reason is None:
                started_by = 0.0
            elif failures >= FAILURES and time.monotonic() > started_by:
                return reason
        return None

    async def _checked(self, pid: int) -> str | None:
        """What the check finds; nothing where the check itself fails: the child goes on then.

        The check reports its own failure in the ledger, see `app.cli.watch`.
        """
        try:
            return await self._check(pid)
        except Exception as error:
            log.exception("watch_check_failed", pid=pid, kind=type(error).__name__)
            return None

    async def _end(self, child: asyncio.subprocess.Process, ending: asyncio.Task[int]) -> None:
        """Ask the child to stop, then kill it and what it has started."""
        _send(os.kill, child.pid, signal.SIGTERM)
        await asyncio.wait({ending}, timeout=self._patience.stop.total_seconds())
        _send(os.killpg, child.pid, signal.SIGKILL)

    def _forward(self, number: signal.Signals) -> None:
        if number in STOPS:
            self._stopped_by = number
        if self._child is not None:
            _send(os.kill, self._child.pid, number)
        if number == signal.SIGHUP:
            self._hung_up()


def _send(send: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it may have ended a moment ago
        send(target, number)
