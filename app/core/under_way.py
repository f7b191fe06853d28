"""Work in progress on a process's event loop, handed over by its tasks.

A task hands its use case over and returns, so that waiting for a partner, the source or a slow
ledger occupies none of Celery's slots. What Celery does for a task is done here: failures are
logged and remembered, durations counted, and the process waits for the work before it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Protocol

import structlog

from app.core.errors import RowrelayError
from app.core.unforeseen import Troubles

log = structlog.get_logger()


@dataclass(slots=True)
class About:
    """What a piece of work is, for the log, the metrics and failure reports."""

    task: str
    feed: str | None = None
    subject: str | None = None
    """A batch, once it is known."""
    rests: bool = True
    """Whether it pauses after an unforeseen failure. A batch that fails waits for its own lease to
    run out.
    """

    @property
    def fields(self) -> dict[str, str]:
        """For the log."""
        named = {"task": self.task, "feed": self.feed, "batch": self.subject}
        return {name: value for name, value in named.items() if value is not None}


class Observer(Protocol):
    """Is told what begins and ends: the process's `app.monitoring.heartbeat.Activity`."""

    troubles: Troubles

    def task_begins(self, task_id: str) -> None:
        """It begins."""

    def task_ends(self, task_id: str, task: str, *, failed: bool) -> None:
        """It ends."""


def note_failure(troubles: Troubles, about: About, error: Exception) -> None:
    """Remember a failure, and log it: with its traceback, unless it is a `RowrelayError`."""
    troubles.failed(about.task, about.feed, about.subject, error)
    kind = type(error).__name__
    if isinstance(error, RowrelayError):
        log.warning("task_failed", error=str(error), kind=kind, retryable=error.retryable)
    else:
        log.error("task_crashed", kind=kind, exc_info=error)


class UnderWay:
    """One process's. Used on its event loop."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._tasks: dict[asyncio.Task[None], About] = {}
        self._numbers = count(1)

    def start(
        self,
        work: Callable[[], Awaitable[object]],
        about: About,
        *,
        alone: bool = False,
        context: Context | None = None,
    ) -> None:
        """Begin the work. `alone`: not while the same work is in progress, which will find what
        this would have found.

        `context`: the context for logs and traces; `None`: the caller's.
        """
        if alone and any(
            (one.task, one.feed) == (about.task, about.feed) for one in self._tasks.values()
        ):
            log.debug("task_under_way", **about.fields)
            return
        if about.rests and (trouble := self._observer.troubles.resting(about.task, about.feed)):
            log.info(
                "task_rests",
                failures=trouble.failures,
                until=trouble.rests_until.isoformat(),
                **about.fields,
            )
            return
        task = asyncio.get_running_loop().create_task(
            self._see_through(work, about), context=context
        )
        self._tasks[task] = about
        task.add_done_callback(self._tasks.pop)

    async def finished(self, within: timedelta | None = None) -> None:
        """Wait until no work is in progress, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within.total_seconds() if within else None):
                while self._tasks:
                    await asyncio.wait(list(self._tasks))

    async def _see_through(self, work: Callable[[], Awaitable[object]], about: About) -> None:
        troubles, failed = self._observer.troubles, True
        number = f"{about.task}/{next(self._numbers)}"
        self._observer.task_begins(number)
        structlog.contextvars.bind_contextvars(**about.fields)
        try:
            await work()
            failed = False
            troubles.went_well(about.task, about.feed, about.subject)
        except Exception as error:  # noqa: BLE001 - it is logged, and kept in mind
            note_failure(troubles, about, error)
        finally:
            self._observer.task_ends(number, about.task, failed=failed)
