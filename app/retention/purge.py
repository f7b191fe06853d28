"""Purge: what a feed's retention says is over leaves the ledger, and the archive has it first where there is one.

One run for a feed, in this order; each works by chunks, with a pause after each (see `app/retention/pace.py`):

- payloads of what was settled `payload_days` ago are dropped;
- minutes of `stats` that are older than `stats_days` are deleted;
- records of what was settled `days` ago, by whole days (UTC), are deleted with their attempts, the oldest day first.

A run may die, or freeze, between any two of its steps:

1. after the claim: its lease runs out, and the next run takes the feed over. Only one run purges a feed at a time; one
   that comes back from a freeze deletes what the same rules name, exactly as it was read, and does no harm by it;
2. after some payloads, before `stripped_before` is noted: the next run goes through them again, and changes nothing;
3. with an archive, anywhere up to the file's verification: see `app/retention/archive/archive.py`; nothing is deleted
   by then;
4. after the floor is raised, before the records are deleted: the floor says "may be gone", and that is true;
5. after records are deleted, before their attempts are: with an archive, the next run finds both in the file; without
   one, it finds the records' ids in `purges`, where they were noted before;
6. after the records of a day, before `purged_before` is noted: the next run finds nothing left of that day.

What an operator replays, or a poll sees at another position, while a run has already read it is no longer as it was
read, and stays for now. Its archive file then holds a version of it that was not purged, beside a later file with the
one that was.

Deliveries come first: at most `PURGE_SHARE` of the time goes to chunks, and a quarter of that while more than
`BUSY_BATCHES` batches are owed. It never stops altogether: a partner that is down for days must not fill the disk.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeAlias

import structlog

from app.core.clock import Clock, utc_now
from app.core.errors import LeaseLost, RowrelayError
from app.core.position import Position
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.archives import ArchivePart
from app.ledger.client import Document
from app.ledger.persistence import persistent
from app.ledger.purge_watermarks import PurgeWatermark, higher
from app.ledger.purges import Claim
from app.ledger.records import Record
from app.ledger.retention import CATEGORIES, Category, Settled, TimeRange, settled
from app.retention.archive.archive import Archive, InThread
from app.retention.pace import Pace
from app.retention.purge_lock import Held, PurgeLock, Tell

log = structlog.get_logger()

BUSY_BATCHES = 50
"""Batches owed, of all feeds: more of them, and deliveries are behind."""
PART_LIMIT = 1_000_000
"""Records in an archive file at most: it bounds what a killed run does again."""
ANOTHER = "another purge"
ALL_FEEDS = "*"
"""The feed of a report on all feeds."""
PruneFiles: TypeAlias = Callable[[str, datetime], Awaitable[int]]
"""Removes the files of a feed's reports on days that were over by a moment, and says how many."""
_DAY = timedelta(days=1)
_INSTANT = timedelta(milliseconds=1)
"""The shortest time that the ledger tells apart."""


@dataclass(frozen=True, slots=True)
class PurgeSettings:
    """How a process purges."""

    holder: str
    """Who it is, for others to read."""
    lease: timedelta
    share: float
    """The part of the time, above 0 and up to 1, that chunks may take."""
    archive_dir: Path | None = None


@dataclass(slots=True)
class Purged:
    """What one run did; of a dry run, what a run would do."""

    feed: str
    payloads: int = 0
    """Dropped; the records stay."""
    records: int = 0
    attempts: int = 0
    """Of the records; a dry run does not count them."""
    stats: int = 0
    """Minutes."""
    files: list[str] = field(default_factory=list)
    """Archive files that these records are in."""
    stopped: str | None = None
    """Why the run did not come to its end, if it did not."""
    chunk_ms: dict[str, float] = field(default_factory=dict)
    """What chunks took: `count`, `p50`, `p95` and `max`, of the last 10,000."""


class ReportsPurged(NamedTuple):
    """How much of what is over."""

    deleted: int
    """Reports and certificates in the ledger."""
    files: int
    """In `REPORTS_DIR`."""


@dataclass(slots=True)
class Run:
    """One purge of a feed under way."""

    feed: Feed
    held: Held
    pace: Pace
    tell: Tell
    purged: Purged
    floor: PurgeWatermark | None = None
    """As this run knows it."""

    @property
    def claim(self) -> Claim:
        """What the ledger is told of this run under."""
        return self.held.claim

    @property
    def done(self) -> int:
        """Payloads and records done with."""
        return self.purged.payloads + self.purged.records

    def tell_wait(self, seconds: float, error: RowrelayError) -> None:
        """Tell that the ledger is waited for."""
        self.tell(self.done, f"waiting {seconds:g} s: {error}")


class Purging:
    """Purges for one process."""

    def __init__(
        self,
        ledger: Ledger,
        feeds: Mapping[str, Feed],
        terms: PurgeSettings,
        *,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        part_limit: int = PART_LIMIT,
        in_thread: InThread = asyncio.to_thread,
        prune_files: PruneFiles | None = None,
    ) -> None:
        self._ledger = ledger
        self._feeds = feeds
        self._terms = terms
        self._now = now
        self._sleep = sleep
        self._holding = PurgeLock(ledger, terms.holder, terms.lease, now=now, sleep=sleep)
        self._part_limit = part_limit
        self._prune_files = prune_files
        self._archive = Archive(terms.archive_dir, ledger, now, in_thread) if terms.archive_dir else None

    async def purge(
        self,
        feed: Feed,
        *,
        dry_run: bool = False,
        progress: Tell = lambda *_: None,
        patience: timedelta = timedelta(0),
    ) -> Purged:
        """Do for the feed what its retention says; in a dry run, count what that would be.

        Where another purges the feed, wait for that to end for `patience`, and then return, stopped by `ANOTHER`.
        Raises the ledger's errors, `ArchiveUnavailable` and `ArchiveDamaged`; running it again goes on.
        """
        if dry_run:
            return await self._look(feed)
        purged, pace = Purged(feed.name), Pace(self._terms.share, self._is_busy, self._sleep)
        try:
            async with self._holding.hold(feed.name, patience, progress) as held:
                if held is None:
                    purged.stopped = ANOTHER
                    return purged
                run = Run(feed, held, pace, progress, purged)
                with persistent(sleep=self._sleep, check=held.check, tell=run.tell_wait, feed=feed.name):
                    await self._purge(run)
        except LeaseLost as error:
            purged.stopped = ANOTHER
            log.warning("purge_lost", feed=feed.name, error=str(error))
        purged.chunk_ms = _summed_up(pace.chunk_seconds)
        log.info("purged", feed=feed.name, payloads=purged.payloads, records=purged.records, files=len(purged.files))
        return purged

    async def remember_counts(self, feed: Feed) -> None:
        """Count what of the feed has been settled up to shortly before now, so that `status` need not."""
        await self._ledger.counts.remember(feed.name, self._now())

    async def purge_reports(self) -> ReportsPurged:
        """Delete reports, their files, and certificates that are over; of all feeds, what is over for each feed.

        Raises the ledger's errors, and `Unavailable` where a file cannot be removed.
        """
        with persistent(sleep=self._sleep):
            return await self._purge_reports()

    async def _purge_reports(self) -> ReportsPurged:
        kept = {name: feed.retention.report_days for name, feed in self._feeds.items()}
        if kept:
            kept[ALL_FEEDS] = max(kept.values())
        deleted = files = 0
        for feed, days in kept.items():
            before = self._now() - timedelta(days=days)
            for drop in (self._ledger.retention.drop_reports, self._ledger.retention.drop_certificates):
                while some := await drop(feed, before):
                    deleted += some
            files += await self._prune_files(feed, before) if self._prune_files else 0
        return ReportsPurged(deleted, files)

    async def _purge(self, run: Run) -> None:
        """Payloads first: nothing that keeps records from being archived keeps personal data in the ledger."""
        await self._strip(run)
        await self._drop_stats(run)
        await self._finish_chunk(run)
        archive = self._archive if run.feed.retention.archive else None
        if archive:
            for part in await archive.left_open(run.feed.name):
                await self._drop_part(run, archive, part)
        else:
            await self._ledger.archives.give_up(run.feed.name, self._now())
        days = await self._days_over(run.feed, run.claim.purged_before)
        for day in days:
            before = run.done
            await (self._archive_day(run, archive, day) if archive else self._drop_day(run, day))
            if run.done > before or day is days[-1]:
                await self._ledger.purges.note_purged(run.claim, day.end)
        await self._ledger.purges.note_chunk(run.claim, [])

    # --- payloads

    async def _strip(self, run: Run) -> None:
        days = await self._days_stripped(run.feed, run.claim.stripped_before)
        for day in days:
            before = run.done
            for category in CATEGORIES:
                await self._strip_day(run, category, day)
            if run.done > before or day is days[-1]:
                await self._ledger.purges.note_stripped(run.claim, min(day.end, self._now() - _DAY))

    async def _strip_day(self, run: Run, category: Category, day: TimeRange) -> None:
        async with aclosing(self._chunks(run, category, day)) as chunks:
            async for documents in chunks:
                ids = [document["_id"] for document in documents]
                run.purged.payloads += await self._ledger.retention.strip(run.feed.name, category, ids, day)
                run.tell(run.done, "dropping payloads")

    # --- records

    async def _drop_day(self, run: Run, day: TimeRange) -> None:
        """Delete a day without an archive."""
        for category in CATEGORIES:
            async with aclosing(self._chunks(run, category, day)) as chunks:
                async for documents in chunks:
                    await self._drop_noted(run, _all_settled(documents))
                    run.tell(run.done, f"deleting {day.start.date()}")

    async def _drop_noted(self, run: Run, chunk: Sequence[Settled]) -> None:
        """Delete a chunk that is noted before, so that its attempts are found when its records are gone."""
        await self._ledger.purges.note_chunk(run.claim, [one.id for one in chunk])
        begun = self._now()
        gone = await self._drop(run, chunk)
        run.purged.attempts += await self._ledger.retention.drop_attempts_of(sorted(gone), begun)

    async def _archive_day(self, run: Run, archive: Archive, day: TimeRange) -> None:
        """Archive and delete a day: in one file, but for what comes later or is too much for one."""
        part = ArchivePart(run.feed.name, day.start.date())
        while True:
            part, there = await archive.next_part(part)
            if not there:
                async with aclosing(self._records(run, day, part)) as records:
                    if await archive.write(part, records, lambda: self._holding.renew(run.held)) is None:
                        return
            if not await self._drop_part(run, archive, part) and not there:
                return

    async def _drop_part(self, run: Run, archive: Archive, part: ArchivePart) -> int:
        """Delete what is in a verified file, as far as it is still in the ledger as it is in the file."""
        before = run.purged.records
        async with aclosing(archive.records(part, lambda: run.pace.size)) as chunks:
            async for records in chunks:
                run.held.check()
                async with run.pace.chunk() as chunk:
                    chunk.count = len(records)
                    await self._drop_records(run, records)
                run.tell(run.done, f"deleting {part.name}")
        await archive.done(part)
        deleted = run.purged.records - before
        if deleted:
            run.purged.files.append(part.name)
        return deleted

    async def _drop_records(self, run: Run, records: Sequence[Record]) -> None:
        gone = await self._drop(run, _all_settled([record.delivery for record in records]))
        attempts = [attempt["_id"] for record in records if record.id in gone for attempt in record.attempts]
        run.purged.attempts += await self._ledger.retention.drop_attempts(attempts)

    async def _drop(self, run: Run, chunk: Sequence[Settled]) -> set[str]:
        """Raise the floor, then delete. Returns which of the chunk are not in the ledger after that."""
        await self._raise_floor(run, chunk)
        deleted = await self._ledger.retention.drop(chunk)
        run.purged.records += deleted
        ids = {one.id for one in chunk}
        return ids if deleted == len(ids) else ids - await self._ledger.retention.existing(ids)

    async def _raise_floor(self, run: Run, chunk: Sequence[Settled]) -> None:
        logged_before = max(one.created_at for one in chunk) + _INSTANT
        position: Position = None
        for one in chunk:
            position = higher(position, one.position)
        known = run.floor
        if known and known.logged_before >= logged_before and higher(known.position, position) == known.position:
            return
        run.floor = await self._ledger.purge_watermarks.raise_to(run.feed.name, logged_before, position)

    async def _finish_chunk(self, run: Run) -> None:
        """Delete the attempts of what a purge before this one deleted, and then died."""
        ids = set(run.claim.chunk)
        if ids:
            begun = self._now()
            gone = ids - await self._ledger.retention.existing(ids)
            run.purged.attempts += await self._ledger.retention.drop_attempts_of(sorted(gone), begun)
            await self._ledger.purges.note_chunk(run.claim, [])

    async def _drop_stats(self, run: Run) -> None:
        before = self._stats_over(run.feed)
        await self._ledger.purges.note_stats(run.claim, before)
        more = True
        while more:
            run.held.check()
            async with run.pace.chunk():
                dropped = await self._ledger.retention.drop_stats(run.feed.name, before)
            run.purged.stats += dropped
            more = dropped > 0

    # --- reading

    async def _chunks(
        self, run: Run, category: Category, span: TimeRange, *, whole: bool = False
    ) -> AsyncGenerator[list[Document], None]:
        """What of a category settled in the span, a chunk at a time; what is done with one counts to its time."""
        reading = await self._ledger.retention.read(run.feed.name, category, span, whole=whole)
        try:
            more = True
            while more:
                run.held.check()
                async with run.pace.chunk() as chunk:
                    documents = await reading.next(run.pace.size)
                    chunk.count = len(documents)
                    more = bool(documents)
                    if more:
                        yield documents
        finally:
            await reading.close()

    async def _records(self, run: Run, day: TimeRange, part: ArchivePart) -> AsyncGenerator[list[Record], None]:
        """The records for one archive file: all that settled that day, up to as many as a file may hold."""
        count = 0
        for category in CATEGORIES:
            async with aclosing(self._chunks(run, category, day, whole=True)) as chunks:
                async for documents in chunks:
                    some = documents[: self._part_limit - count]
                    count += len(some)
                    run.tell(run.done, f"writing {part.name}: {count}")
                    yield await self._ledger.retention.records(some)
                    if count >= self._part_limit:
                        return

    async def _days_stripped(self, feed: Feed, mark: datetime | None) -> list[TimeRange]:
        """The days from which payloads are to go. None where payloads leave with the records."""
        kept = feed.retention
        if kept.payload_days >= kept.days:
            return []
        before = self._now() - timedelta(days=kept.payload_days)
        start = mark or await self._ledger.retention.first(feed.name, before)
        return list(days_between(start, before)) if start else []

    async def _days_over(self, feed: Feed, mark: datetime | None) -> list[TimeRange]:
        """The days from which records are to go: up to a midnight, so that each is archived whole.

        Below the mark nothing is left but by mistake (a clock that was wrong), or because it was restored.
        """
        before = midnight(self._now() - timedelta(days=feed.retention.days))
        start = mark
        if mark is None or not await self._ledger.retention.any_restored(feed.name):
            start = await self._ledger.retention.first(feed.name, min(mark or before, before)) or mark
        return list(days_between(start, before)) if start else []

    def _stats_over(self, feed: Feed) -> datetime:
        """Before which moment minutes of statistics are to go."""
        return self._now() - timedelta(days=feed.retention.stats_days)

    # --- bounds

    async def _is_busy(self) -> bool:
        return await self._ledger.retention.owed_batches() > BUSY_BATCHES

    # --- looking

    async def _look(self, feed: Feed) -> Purged:
        """Count what a run would do, but for the attempts. Reads each record whose payload would go."""
        purged = Purged(feed.name)
        purged.stats = await self._ledger.retention.count_stats(feed.name, self._stats_over(feed))
        stripped_before, purged_before = await self._ledger.purges.marks(feed.name)
        for day in await self._days_stripped(feed, stripped_before):
            for category in CATEGORIES:
                purged.payloads += await self._ledger.retention.count_payloads(feed.name, category, day)
        for day in await self._days_over(feed, purged_before):
            count = await self._count(feed, day)
            purged.records += count
            if count and self._archive and feed.retention.archive:
                purged.files.append(ArchivePart(feed.name, day.start.date()).name)
        return purged

    async def _count(self, feed: Feed, day: TimeRange) -> int:
        """How many records are over: by the index alone, unless some of the feed were restored."""
        retention = self._ledger.retention
        if not await retention.any_restored(feed.name):
            return sum([await retention.count(feed.name, category, day) for category in CATEGORIES])
        count = 0
        for category in CATEGORIES:
            reading = await retention.read(feed.name, category, day)
            while chunk := await reading.next(1000):
                count += len(chunk)
        return count


def midnight(moment: datetime) -> datetime:
    """When the moment's day begins, in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def days_between(start: datetime, end: datetime) -> Iterator[TimeRange]:
    """The days (UTC) that a span of time touches, the first and the last cut to it."""
    while start < end:
        following = midnight(start) + _DAY
        yield TimeRange(start, min(following, end))
        start = following


def _all_settled(documents: Sequence[Document]) -> list[Settled]:
    """What was read is settled; what an archive file holds is, too."""
    return [one for document in documents if (one := settled(document))]


def _summed_up(chunk_seconds: Sequence[float]) -> dict[str, float]:
    if len(chunk_seconds) < 2:
        return {}
    cuts = statistics.quantiles(chunk_seconds, n=20)
    figures = {"p50": cuts[9], "p95": cuts[18], "max": max(chunk_seconds)}
    return {"count": len(chunk_seconds), **{name: round(seconds * 1000, 1) for name, seconds in figures.items()}}
