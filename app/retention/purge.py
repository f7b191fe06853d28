"""Purge: what is past a feed's retention leaves the ledger, through the archive where the feed has
one.

One run for a feed, in this order; each step works in chunks, with a pause after each (see
`app/retention/pace.py`):

- drop the payloads of what was settled `payload_days` ago;
- delete minutes of `stats` that are older than `stats_days`;
- delete the records of what was settled `days` ago, by whole days (UTC), with their attempts, the
  oldest day first.

A run may die, or freeze, between any two of its steps:

1. after the claim: its lease runs out, and the next run takes over. Only one run purges a feed at a
   time; one that wakes from a freeze deletes what the same rules name, exactly as it was read, and
   does no harm;
2. after some payloads, before `stripped_before` is noted: the next run goes through them again, and
   changes nothing;
3. with an archive, anywhere before the file is verified: see `app/retention/archive/archive.py`;
   nothing has been deleted by then;
4. after the purge watermark is raised, before the records are deleted: the watermark says "may be
   gone", which is true;
5. after records are deleted, before their attempts are: with an archive, the next run finds both in
   the file; without one, it finds the records' ids in `purges`, where they were noted first;
6. after the records of a day, before `purged_before` is noted: the next run finds nothing left of
   that day.

A delivery that an operator replays, or that a poll sees at another position, after a run has read
it no longer matches what was read, and stays for now. Its archive file then holds a version of it
that was not purged, and a later file the version that was.

Deliveries come first: chunks take at most `PURGE_SHARE` of the time, and a quarter of that while
more than `BUSY_BATCHES` batches are owed. Purge never stops altogether: a partner that is down for
days must not fill the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

import structlog

from app.core.clock import Clock, utc_now
from app.core.errors import LeaseLost
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.archives import ArchivePart
from app.ledger.client import Document
from app.ledger.persistence import persistent
from app.ledger.records import Record
from app.ledger.settled import CATEGORIES, Category, TimeRange
from app.retention.archive.archive import Archive, InThread
from app.retention.deletion import Deletion
from app.retention.expiry import Expiry
from app.retention.pace import Pace
from app.retention.purge_lock import PurgeLock, Tell
from app.retention.run import Purged, PurgeSettings, Run, percentiles_ms

log = structlog.get_logger()

BUSY_BATCHES = 50
"""With more batches owed than this, of all feeds, deliveries are behind."""
PART_LIMIT = 1_000_000
"""Records in an archive file at most: bounds what has to be repeated after a run was killed."""
ANOTHER = "another purge"
ALL_FEEDS = "*"
"""The feed of a report on all feeds."""
PruneFiles: TypeAlias = Callable[[str, datetime], Awaitable[int]]
"""Removes the files of a feed's reports on days that ended before a moment; returns how many."""
_DAY = timedelta(days=1)


class ReportsPurged(NamedTuple):
    """How many reports were deleted."""

    deleted: int
    """Reports and certificates in the ledger."""
    files: int
    """In `REPORTS_DIR`."""


class Purging:
    """Purges for one process."""

    def __init__(
        self,
        ledger: Ledger,
        feeds: Mapping[str, Feed],
        settings: PurgeSettings,
        *,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        part_limit: int = PART_LIMIT,
        in_thread: InThread = asyncio.to_thread,
        prune_files: PruneFiles | None = None,
    ) -> None:
        self._ledger = ledger
        self._feeds = feeds
        self._share = settings.share
        self._now = now
        self._sleep = sleep
        self._lock = PurgeLock(ledger, settings.holder, settings.lease, now=now, sleep=sleep)
        self._part_limit = part_limit
        self._prune_files = prune_files
        self._archive = (
            Archive(settings.archive_dir, ledger, now, in_thread) if settings.archive_dir else None
        )
        self._expiry = Expiry(ledger, now)
        self._deletion = Deletion(ledger, now)

    async def purge(
        self,
        feed: Feed,
        *,
        dry_run: bool = False,
        progress: Tell = lambda *_: None,
        patience: timedelta = timedelta(0),
    ) -> Purged:
        """Apply the feed's retention; in a dry run, count what that would do.

        Where another process purges the feed, wait up to `patience` for it to finish, then return,
        stopped by `ANOTHER`. Raises the ledger's errors, `ArchiveUnavailable` and `ArchiveDamaged`;
        running it again continues.
        """
        if dry_run:
            return await self._expiry.preview(feed, archived=self._archive_of(feed) is not None)
        purged, pace = Purged(feed.name), Pace(self._share, self._is_busy, self._sleep)
        try:
            async with self._lock.acquired(feed.name, patience, progress) as lock:
                if lock is None:
                    purged.stopped = ANOTHER
                    return purged
                run = Run(feed, lock, pace, progress, purged)
                with persistent(
                    sleep=self._sleep, check=lock.check, tell=run.tell_wait, feed=feed.name
                ):
                    await self._purge(run)
        except LeaseLost as error:
            purged.stopped = ANOTHER
            log.warning("purge_lost", feed=feed.name, error=str(error))
        purged.chunk_ms = percentiles_ms(pace.chunk_seconds)
        log.info(
            "purged",
            feed=feed.name,
            payloads=purged.payloads,
            records=purged.records,
            files=len(purged.files),
        )
        return purged

    async def remember_counts(self, feed: Feed) -> None:
        """Count what of the feed was settled until shortly before now, so that `status` need not."""
        await self._ledger.counts.remember(feed.name, self._now())

    async def purge_reports(self) -> ReportsPurged:
        """Delete reports, their files, and certificates past their retention; those of all feeds
        once every feed's `report_days` have passed.

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
            for drop in (
                self._ledger.retention.drop_reports,
                self._ledger.retention.drop_certificates,
            ):
                while some := await drop(feed, before):
                    deleted += some
            files += await self._prune_files(feed, before) if self._prune_files else 0
        return ReportsPurged(deleted, files)

    async def _purge(self, run: Run) -> None:
        """Payloads first: whatever delays archiving, personal data leaves the ledger on time."""
        await self._strip(run)
        await self._drop_stats(run)
        await self._deletion.interrupted(run)
        archive = self._archive_of(run.feed)
        if archive:
            for part in await archive.left_open(run.feed.name):
                await self._deletion.archived(run, archive, part)
        else:
            await self._ledger.archives.give_up(run.feed.name, self._now())
        days = await self._expiry.record_days(run.feed, run.claim.purged_before)
        for day in days:
            before = run.done
            await (self._archive_day(run, archive, day) if archive else self._delete_day(run, day))
            if run.done > before or day is days[-1]:
                await self._ledger.purges.note_purged(run.claim, day.end)
        await self._ledger.purges.note_chunk(run.claim, [])

    # --- payloads and statistics

    async def _strip(self, run: Run) -> None:
        days = await self._expiry.payload_days(run.feed, run.claim.stripped_before)
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
                run.purged.payloads += await self._ledger.retention.strip(
                    run.feed.name, category, ids, day
                )
                run.tell(run.done, "dropping payloads")

    async def _drop_stats(self, run: Run) -> None:
        before = self._expiry.stats_before(run.feed)
        await self._ledger.purges.note_stats(run.claim, before)
        more = True
        while more:
            run.lock.check()
            async with run.pace.chunk():
                dropped = await self._ledger.retention.drop_stats(run.feed.name, before)
            run.purged.stats += dropped
            more = dropped > 0

    # --- records

    async def _delete_day(self, run: Run, day: TimeRange) -> None:
        """Delete a day that is not archived."""
        for category in CATEGORIES:
            async with aclosing(self._chunks(run, category, day)) as chunks:
                async for documents in chunks:
                    await self._deletion.documents(run, documents)
                    run.tell(run.done, f"deleting {day.start.date()}")

    async def _archive_day(self, run: Run, archive: Archive, day: TimeRange) -> None:
        """Archive and delete a day: in one file, except for late records and more than a file may
        hold.
        """
        part = ArchivePart(run.feed.name, day.start.date())
        while True:
            part, exists = await archive.next_part(part)
            if not exists:
                async with aclosing(self._records(run, day, part)) as records:
                    if (
                        await archive.write(part, records, lambda: self._lock.renew(run.lock))
                        is None
                    ):
                        return
            if not await self._deletion.archived(run, archive, part) and not exists:
                return

    def _archive_of(self, feed: Feed) -> Archive | None:
        return self._archive if feed.retention.archive else None

    # --- reading

    async def _chunks(
        self, run: Run, category: Category, time_range: TimeRange, *, whole: bool = False
    ) -> AsyncGenerator[list[Document], None]:
        """What of a category settled in the time range, a chunk at a time. The caller's work on a
        chunk counts towards the chunk's time.
        """
        reading = await self._ledger.retention.read(
            run.feed.name, category, time_range, whole=whole
        )
        try:
            more = True
            while more:
                run.lock.check()
                async with run.pace.chunk() as chunk:
                    documents = await reading.next(run.pace.size)
                    chunk.count = len(documents)
                    more = bool(documents)
                    if more:
                        yield documents
        finally:
            await reading.close()

    async def _records(
        self, run: Run, day: TimeRange, part: ArchivePart
    ) -> AsyncGenerator[list[Record], None]:
        """The records for one archive file: all that settled that day, as many as a file may hold."""
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

    async def _is_busy(self) -> bool:
        return await self._ledger.retention.owed_batches() > BUSY_BATCHES
