"""One purge of a feed: the settings it runs under, its progress, and what it did."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from app.core.errors import RowrelayError
from app.feeds.feed import Feed
from app.ledger.purge_watermarks import PurgeWatermark
from app.ledger.purges import Claim
from app.retention.pace import Pace
from app.retention.purge_lock import HeldLock, Tell


@dataclass(frozen=True, slots=True)
class PurgeSettings:
    """How a process purges."""

    holder: str
    """Who holds the purge lock, for people to read."""
    lease: timedelta
    share: float
    """The part of the time, above 0 and up to 1, that chunks may take."""
    archive_dir: Path | None = None


@dataclass(slots=True)
class Purged:
    """What a purge did; in a dry run, what it would do."""

    feed: str
    payloads: int = 0
    """Dropped; their records stay."""
    records: int = 0
    attempts: int = 0
    """Of the records; a dry run does not count them."""
    stats: int = 0
    """Minutes of statistics."""
    files: list[str] = field(default_factory=list)
    """Archive files that hold these records."""
    stopped: str | None = None
    """Why the purge did not finish; `None`: it did."""
    chunk_ms: dict[str, float] = field(default_factory=dict)
    """How long chunks took: `count`, `p50`, `p95` and `max` of the last 10,000."""


@dataclass(slots=True)
class Run:
    """A purge of a feed in progress."""

    feed: Feed
    lock: HeldLock
    pace: Pace
    tell: Tell
    purged: Purged
    watermark: PurgeWatermark | None = None
    """The feed's purge watermark, as far as this run knows it."""

    @property
    def claim(self) -> Claim:
        """The claim under which the ledger accepts what this run notes."""
        return self.lock.claim

    @property
    def done(self) -> int:
        """Payloads and records handled so far."""
        return self.purged.payloads + self.purged.records

    def tell_wait(self, seconds: float, error: RowrelayError) -> None:
        """Report that the run waits for the ledger."""
        self.tell(self.done, f"waiting {seconds:g} s: {error}")


def percentiles_ms(chunk_seconds: Sequence[float]) -> dict[str, float]:
    """What `Purged.chunk_ms` says of these chunks; nothing of fewer than two."""
    if len(chunk_seconds) < 2:
        return {}
    cuts = statistics.quantiles(chunk_seconds, n=20)
    figures = {"p50": cuts[9], "p95": cuts[18], "max": max(chunk_seconds)}
    return {
        "count": len(chunk_seconds),
        **{name: round(seconds * 1000, 1) for name, seconds in figures.items()},
    }
