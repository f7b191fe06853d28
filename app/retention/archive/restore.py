"""Restores the records of an archive file to the ledger, for inspection, or to replay those that
still have a payload.

They return as they were, settled, so none of them is sent. `restored_at` says when they returned;
their retention counts from then. Records that are in the ledger already stay as they are. A restore
may die anywhere: a delivery's attempts are inserted before it, so every delivery there is whole,
and the same command restores the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.core.clock import Clock, utc_now
from app.core.errors import ArchiveDamaged, ArchiveUnavailable, LeaseLost
from app.ledger import Ledger
from app.ledger.archives import Contents
from app.ledger.counted import DONE_STATES
from app.ledger.persistence import persistent
from app.ledger.records import Record
from app.ledger.settled import settled
from app.retention.archive import file
from app.retention.archive.archive import some
from app.retention.purge_lock import HeldLock, PurgeLock, Tell

CHUNK = 500


@dataclass(slots=True)
class Restored:
    """What a restore did; in a dry run, what it would do."""

    file: str
    feed: str = ""
    restored: int = 0
    there: int = 0
    """Already in the ledger: they stay as they are."""


class Restoring:
    """Restores for one operator."""

    def __init__(self, ledger: Ledger, lock: PurgeLock, now: Clock = utc_now) -> None:
        self._ledger = ledger
        self._lock = lock
        self._now = now

    async def restore(
        self,
        path: Path,
        *,
        dry_run: bool = False,
        progress: Tell = lambda *_: None,
        patience: timedelta = timedelta(0),
    ) -> Restored:
        """Restore the file's records; in a dry run only count them. The whole file is checked
        first.

        Raises `ArchiveDamaged`, `ArchiveUnavailable` where the file cannot be read, `LeaseLost`
        where another process purges the feed for longer than `patience`.
        """
        restored = Restored(path.name)
        try:
            _, restored.feed = await asyncio.to_thread(checked, path)
            async with self._lock.acquired(restored.feed, patience, progress) as lock:
                if lock is None:
                    raise LeaseLost(
                        f"feed {restored.feed}: another process is purging it; try again later"
                    )
                with persistent(check=lock.check, feed=restored.feed):
                    await self._put_all_back(path, restored, lock, progress, dry_run=dry_run)
        except OSError as error:
            raise unreadable(path, error) from error
        return restored

    async def _put_all_back(
        self, path: Path, restored: Restored, lock: HeldLock, tell: Tell, *, dry_run: bool
    ) -> None:
        records = file.read(path)
        try:
            while chunk := await asyncio.to_thread(some, records, CHUNK):
                lock.check()
                await self._put_back(path, restored, chunk, dry_run=dry_run)
                tell(restored.restored + restored.there, "")
        finally:
            records.close()

    async def _put_back(
        self, path: Path, restored: Restored, chunk: list[Record], *, dry_run: bool
    ) -> None:
        for record in chunk:
            if record.delivery["feed"] != restored.feed or settled(record.delivery) is None:
                raise ArchiveDamaged(
                    f"archive {path}: {record.id}: of another feed, or not settled"
                )
        there = await self._ledger.retention.existing(record.id for record in chunk)
        absent = [record for record in chunk if record.id not in there]
        restored.there += len(there)
        if dry_run:
            restored.restored += len(absent)
            return
        done = [record.delivery for record in absent if record.delivery["state"] in DONE_STATES]
        await self._ledger.counts.mark(
            restored.feed, {one["finished_at"] for one in done}, self._now()
        )
        restored.restored += await self._ledger.retention.put_back(absent, self._now(), path.name)


def checked(path: Path, tell: Tell = lambda *_: None) -> tuple[Contents, str]:
    """What an archive file holds, and the feed of its first record. Reads the whole file, and
    blocks.

    Raises `ArchiveDamaged` where a line is not a record, or its manifest is missing or disagrees,
    and `OSError` where it cannot be read.
    """
    said = file.read_manifest(path)
    if said is None:
        raise ArchiveDamaged(
            f"archive {path}: no manifest beside it: {file.manifest_path(path).name}"
        )
    contents = file.check(path, lambda count: tell(count, ""), said.count)
    if said != contents:
        raise ArchiveDamaged(
            f"archive {path}: not what its manifest says: {_difference(said, contents)}"
        )
    records = file.read(path)
    try:
        first = next(records, None)
    finally:
        records.close()
    if first is None:
        raise ArchiveDamaged(f"archive {path}: holds no record")
    return contents, first.delivery["feed"]


def unreadable(path: Path, error: OSError) -> ArchiveUnavailable:
    """One line for an error of the file system."""
    return ArchiveUnavailable(f"archive {error.filename or path}: {error.strerror or error}")


def _difference(said: Contents, found: Contents) -> str:
    names = [
        name
        for name in Contents.__dataclass_fields__
        if getattr(said, name) != getattr(found, name)
    ]
    return ", ".join(
        f"{name} is {getattr(found, name)}, not {getattr(said, name)}" for name in names
    )
