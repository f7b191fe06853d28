"""What is past its retention: the days whose payloads or records are to go, and how much that is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from app.core.clock import Clock
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.archives import ArchivePart
from app.ledger.settled import CATEGORIES, TimeRange
from app.retention.run import Purged

_DAY = timedelta(days=1)
_READ_AT_ONCE = 1000


class Expiry:
    """Asks one ledger what of a feed is past its retention."""

    def __init__(self, ledger: Ledger, now: Clock) -> None:
        self._ledger = ledger
        self._now = now

    async def payload_days(self, feed: Feed, stripped_before: datetime | None) -> list[TimeRange]:
        """The days whose payloads are to be dropped. None where payloads leave with their records.

        `stripped_before`: up to when earlier purges have dropped them.
        """
        kept = feed.retention
        if kept.payload_days >= kept.days:
            return []
        before = self._now() - timedelta(days=kept.payload_days)
        start = stripped_before or await self._ledger.retention.first(feed.name, before)
        return list(days_between(start, before)) if start else []

    async def record_days(self, feed: Feed, purged_before: datetime | None) -> list[TimeRange]:
        """The days whose records are to be deleted: up to a midnight, so that each day is archived
        whole.

        `purged_before`: up to when earlier purges have deleted them. Anything left before that was
        restored, or kept by a wrong clock.
        """
        before = midnight(self._now() - timedelta(days=feed.retention.days))
        start = purged_before
        if purged_before is None or not await self._ledger.retention.any_restored(feed.name):
            earliest = min(purged_before or before, before)
            start = await self._ledger.retention.first(feed.name, earliest) or purged_before
        return list(days_between(start, before)) if start else []

    def stats_before(self, feed: Feed) -> datetime:
        """The moment before which minutes of statistics are to be deleted."""
        return self._now() - timedelta(days=feed.retention.stats_days)

    async def preview(self, feed: Feed, *, archived: bool) -> Purged:
        """Count what a purge would do, except for attempts. Reads each record whose payload would
        go.
        """
        purged = Purged(feed.name)
        purged.stats = await self._ledger.retention.count_stats(feed.name, self.stats_before(feed))
        stripped_before, purged_before = await self._ledger.purges.progress(feed.name)
        for day in await self.payload_days(feed, stripped_before):
            for category in CATEGORIES:
                purged.payloads += await self._ledger.retention.count_payloads(
                    feed.name, category, day
                )
        for day in await self.record_days(feed, purged_before):
            count = await self._count(feed, day)
            purged.records += count
            if count and archived:
                purged.files.append(ArchivePart(feed.name, day.start.date()).name)
        return purged

    async def _count(self, feed: Feed, day: TimeRange) -> int:
        """How many records are to go: from the index alone, unless some of the feed's were
        restored.
        """
        retention = self._ledger.retention
        if not await retention.any_restored(feed.name):
            return sum([await retention.count(feed.name, category, day) for category in CATEGORIES])
        count = 0
        for category in CATEGORIES:
            reading = await retention.read(feed.name, category, day)
            while chunk := await reading.next(_READ_AT_ONCE):
                count += len(chunk)
        return count


def midnight(moment: datetime) -> datetime:
    """When the moment's day begins, in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def days_between(start: datetime, end: datetime) -> Iterator[TimeRange]:
    """The days (UTC) that a time range touches, the first and the last cut to it."""
    while start < end:
        following = midnight(start) + _DAY
        yield TimeRange(start, min(following, end))
        start = following
