"""Asking again: what is done about a failure that passes before anybody is told of it.

- A server that says how long to wait did nothing of what it was asked, or a part (Azure Cosmos DB: `RetryAfterMs=34`).
  Every query waits for that long and asks again: `TOLD_TIMES` times, `TOLD_SECONDS` in all.
- Long work runs under `persistent()`. A purge asks some thousand queries, so that where one command in twenty fails it
  would never see its end if each failure began it anew. There, any failure that passes is asked again, after the
  waits of `WAITS_SECONDS`, and the work goes on where it was. A server that cannot be reached at all when the work
  begins is told of at once.

A query can be asked twice: moves are conditional, and inserts leave alone what is there. What is not so is marked as
such (`query_once`). What a query says that it *changed* may be too little, since an earlier asking may have done it and
its answer been lost: see `counted`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from app.core.errors import LedgerUnavailable

log = structlog.get_logger()

TOLD_TIMES, TOLD_SECONDS = 9, 10.0
"""How often, and for how long in all, a query waits as a server told it to."""
WAITS_SECONDS = (0.1, 0.5, 2.0, 5.0, 15.0, 30.0)
"""What long work waits before it asks the same query again; after the last it fails."""
LONG_SECONDS = 2.0
"""A wait that the log's readers should know of."""

Sleep: TypeAlias = Callable[[float], Awaitable[object]]
Waiting: TypeAlias = Callable[[float, LedgerUnavailable], None]
"""Told how many seconds are waited, and why."""


def _nothing() -> None:
    """Nothing ends the work."""


def _untold(seconds: float, error: LedgerUnavailable) -> None:
    """Nobody watches."""
    del seconds, error


@dataclass(slots=True)
class _Work:
    """Long work under way."""

    sleep: Sleep
    check: Callable[[], None]
    tell: Waiting
    about: dict[str, str]
    answered: bool = False
    """Whether the server has answered any query of it."""


_work: ContextVar[_Work | None] = ContextVar("work", default=None)
_asked_again: ContextVar[int] = ContextVar("asked_again", default=0)
"""How many queries of this task were asked again."""


@contextmanager
def persistent(
    *, sleep: Sleep = asyncio.sleep, check: Callable[[], None] = _nothing, tell: Waiting = _untold, **about: str
) -> Iterator[None]:
    """Have the queries of the body asked again where they fail by something that passes.

    `check` raises where the work must end (its lease is another's); it is called before a query is asked again.
    `about`: fields for the log. Tasks that the body starts are under it too; those from before are not.
    """
    token = _work.set(_Work(sleep, check, tell, about))
    try:
        yield
    finally:
        _work.reset(token)


def note_answered() -> None:
    """The server has answered a query."""
    if (work := _work.get()) is not None:
        work.answered = True


async def counted(move: Awaitable[int], found: Callable[[], Awaitable[int]]) -> int:
    """What a move says that it changed. Where it was asked again, what is `found` to have been changed by it."""
    before = _asked_again.get()
    said = await move
    return said if _asked_again.get() == before else await found()


@dataclass(slots=True)
class Asking:
    """One query that has failed by something that passes."""

    once: bool
    """It must not be done twice, so it is asked again only where a server says to wait."""
    told: int = 0
    told_seconds: float = 0.0
    waits: Iterator[float] = field(default_factory=lambda: iter(WAITS_SECONDS))

    async def wait(self, error: LedgerUnavailable) -> None:
        """Wait until the query may be asked again. Raises `error` where it is not asked again."""
        work = _work.get()
        seconds = None if error.given_up else self._seconds(error, work)
        if seconds is None:
            error.given_up = True  # what called this query does not begin anew with the waiting
            raise error
        if work:
            work.tell(seconds, error)
        say = log.warning if seconds >= LONG_SECONDS else log.debug
        say("ledger_waits", seconds=seconds, error=str(error), **(work.about if work else {}))
        await (work.sleep if work else asyncio.sleep)(seconds)
        if work:
            work.check()
        _asked_again.set(_asked_again.get() + 1)

    def _seconds(self, error: LedgerUnavailable, work: _Work | None) -> float | None:
        """How long to wait; `None`: it is not asked again."""
        told = None if error.retry_after is None else error.retry_after.total_seconds()
        if told is not None and self.told < TOLD_TIMES and self.told_seconds + told <= TOLD_SECONDS:
            self.told, self.told_seconds = self.told + 1, self.told_seconds + told
            return told
        if work is None or self.once or (error.unreachable and not work.answered):
            return None
        wait = next(self.waits, None)
        return None if wait is None else max(wait, min(told or 0.0, WAITS_SECONDS[-1]))
