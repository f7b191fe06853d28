"""Repeats queries that fail temporarily, before the failure is reported.

- A server that says how long to wait has done nothing or a part of what it was asked (Azure Cosmos
  DB: `RetryAfterMs=34`). Every query waits that long and is repeated: `TOLD_TIMES` times,
  `TOLD_SECONDS` in all.
- Long work runs under `persistent()`. A purge makes thousands of queries: with one command in
  twenty failing it would never finish if each failure restarted it. There, any query that fails
  temporarily is repeated, after the waits of `WAITS_SECONDS`, and the work continues. A server that
  is unreachable when the work begins is reported at once.

Queries can be repeated: moves are conditional, and inserts ignore duplicates. Those that cannot are
marked (`query_once`). The number of documents that a repeated query reports as changed may be too
low, because an earlier try may have changed them and its answer been lost: see `counted`.
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
"""How often, and how long in all, a query waits because a server says so."""
WAITS_SECONDS = (0.1, 0.5, 2.0, 5.0, 15.0, 30.0)
"""How long long-running work waits before it repeats a query; after the last wait it fails."""
LONG_SECONDS = 2.0
"""Waits of this length are logged as warnings."""

Sleep: TypeAlias = Callable[[float], Awaitable[object]]
Waiting: TypeAlias = Callable[[float, LedgerUnavailable], None]
"""Told how many seconds are waited, and why."""


def _nothing() -> None:
    """Never ends the work."""


def _untold(seconds: float, error: LedgerUnavailable) -> None:
    """Reports to no one."""
    del seconds, error


@dataclass(slots=True)
class _Work:
    """Long work in progress."""

    sleep: Sleep
    check: Callable[[], None]
    tell: Waiting
    about: dict[str, str]
    answered: bool = False
    """Whether the server has answered any of its queries."""


_work: ContextVar[_Work | None] = ContextVar("work", default=None)
_asked_again: ContextVar[int] = ContextVar("asked_again", default=0)
"""How many queries of this task were repeated."""


@contextmanager
def persistent(
    *,
    sleep: Sleep = asyncio.sleep,
    check: Callable[[], None] = _nothing,
    tell: Waiting = _untold,
    **about: str,
) -> Iterator[None]:
    """Repeat the body's queries when they fail temporarily.

    `check` raises where the work must end (its lease is lost); it is called before a query is
    repeated. `about`: fields for the log. Tasks that the body starts are included; earlier ones are
    not.
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
    """How many documents a move changed. If it was repeated, how many are `found` to have been
    changed.
    """
    before = _asked_again.get()
    said = await move
    return said if _asked_again.get() == before else await found()


@dataclass(slots=True)
class Asking:
    """A query that has failed temporarily."""

    once: bool
    """It must not be done twice, so it is repeated only where a server says to wait."""
    told: int = 0
    told_seconds: float = 0.0
    waits: Iterator[float] = field(default_factory=lambda: iter(WAITS_SECONDS))

    async def wait(self, error: LedgerUnavailable) -> None:
        """Wait until the query may be repeated. Raises `error` where it is not repeated."""
        work = _work.get()
        seconds = None if error.given_up else self._seconds(error, work)
        if seconds is None:
            error.given_up = True  # the callers of this query do not start waiting again
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
        """How long to wait; `None`: it is not repeated."""
        told = None if error.retry_after is None else error.retry_after.total_seconds()
        if told is not None and self.told < TOLD_TIMES and self.told_seconds + told <= TOLD_SECONDS:
            self.told, self.told_seconds = self.told + 1, self.told_seconds + told
            return told
        if work is None or self.once or (error.unreachable and not work.answered):
            return None
        wait = next(self.waits, None)
        return None if wait is None else max(wait, min(told or 0.0, WAITS_SECONDS[-1]))
