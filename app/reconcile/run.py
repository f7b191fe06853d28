"""One walk of one process: what it works with, and what each of its steps does alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar

import structlog

from app.core.certificates import MISSING_NAMED
from app.core.clock import Clock
from app.core.errors import RowrelayError, SourceUnavailable
from app.core.rows import SourceRow
from app.feeds.feed import Feed
from app.intake.intake import Intake
from app.ledger import Ledger
from app.ledger.deliveries import delivery_id
from app.ledger.scans import Scan
from app.reconcile import bounds
from app.source.reader import Source

log = structlog.get_logger()

T = TypeVar("T")

Since: TypeAlias = "timedelta | int | str | None"
"""Compare from what was read since then on, or from after that position on; `None`: everything."""
Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Told what is being done, how many rows of it are done, and about how many there are, where that is known."""
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Means:
    """What a process reconciles with."""

    source: Source
    ledger: Ledger
    intake: Intake
    heal_at_most: int
    now: Clock
    sleep: Sleep


@dataclass(slots=True)
class Run:
    """A walk under way."""

    means: Means
    feed: Feed
    walk: Scan
    dry: bool
    tell: Progress
    saved_at: datetime
    acknowledge: str = ""
    """Who takes changed rows as they are now; empty: nobody, they are named."""

    @property
    def source(self) -> Source:
        return self.means.source

    @property
    def ledger(self) -> Ledger:
        return self.means.ledger

    async def patient(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask; where the source cannot be reached, again after a while, unless the walk has only begun.

        What is asked of the ledger is asked again by itself (`app/ledger/persistence.py`).
        """
        for wait in bounds.PATIENCE_SECONDS if self.walk.source_rows else ():
            try:
                return await ask()
            except SourceUnavailable as error:
                log.warning("reconciliation_waits", feed=self.feed.name, seconds=wait, error=str(error))
                self.tell_wait(wait, error)
                await self.means.sleep(wait)
        return await ask()

    def tell_wait(self, seconds: float, error: RowrelayError) -> None:
        """Tell that the source, or the ledger, is waited for."""
        self.tell(f"waiting {seconds:g} s: {error}", self.walk.source_rows, self.walk.total)

    async def save(self, *, at_once: bool = False) -> None:
        """Keep how far the walk came, now and then: a run that goes on with it begins there."""
        now = self.means.now()
        if not self.dry and (at_once or now - self.saved_at >= bounds.SAVED_EVERY):
            await self.ledger.scans.save(self.walk, now)
            self.saved_at = now


def named(feed: str, rows: Sequence[SourceRow], ids: list[str]) -> int:
    """Add the rows' ids to those that are named, within the bound. Returns how many rows there are."""
    ids += [delivery_id(feed, row) for row in rows[: MISSING_NAMED - len(ids)]]
    return len(rows)
