"""One scan in one process: what it works with, and what its steps share."""

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
from app.ledger.delivery_documents import delivery_id
from app.ledger.scans import Scan
from app.reconcile import bounds
from app.reconcile.scanned_source import ScannedSource

log = structlog.get_logger()

T = TypeVar("T")

Since: TypeAlias = "timedelta | int | str | None"
"""Compare what was read since then, or what follows that position; `None`: everything."""
Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Told what is being done, how many rows are done, and about how many there are, where known."""
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Means:
    """What a process uses to reconcile."""

    source: ScannedSource
    ledger: Ledger
    intake: Intake
    heal_at_most: int
    now: Clock
    sleep: Sleep


@dataclass(slots=True)
class Run:
    """A scan in progress."""

    means: Means
    feed: Feed
    scan: Scan
    dry: bool
    tell: Progress
    saved_at: datetime
    acknowledge: str = ""
    """Who accepts changed rows as they are now; empty: no one, and the certificate names them."""

    @property
    def source(self) -> ScannedSource:
        return self.means.source

    @property
    def ledger(self) -> Ledger:
        return self.means.ledger

    async def patient(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the source; while it is unreachable, wait and ask again, unless the scan has only
        begun.

        Questions to the ledger are retried by themselves (`app/ledger/persistence.py`).
        """
        for wait in bounds.PATIENCE_SECONDS if self.scan.source_rows else ():
            try:
                return await ask()
            except SourceUnavailable as error:
                log.warning(
                    "reconciliation_waits", feed=self.feed.name, seconds=wait, error=str(error)
                )
                self.tell_wait(wait, error)
                await self.means.sleep(wait)
        return await ask()

    def tell_wait(self, seconds: float, error: RowrelayError) -> None:
        """Report that the scan waits for the source or the ledger."""
        self.tell(f"waiting {seconds:g} s: {error}", self.scan.source_rows, self.scan.total)

    async def save(self, *, at_once: bool = False) -> None:
        """Save the scan's progress every few seconds: a run that continues it starts there."""
        now = self.means.now()
        if not self.dry and (at_once or now - self.saved_at >= bounds.SAVED_EVERY):
            await self.ledger.scans.save(self.scan, now)
            self.saved_at = now


def named(feed: str, rows: Sequence[SourceRow], ids: list[str]) -> int:
    """Add the rows' ids to those that are named, up to the bound. Returns how many rows there are."""
    ids += [delivery_id(feed, row) for row in rows[: MISSING_NAMED - len(ids)]]
    return len(rows)
