"""The archive of one process: files that the ledger knows of, and that are verified before anything is deleted.

A file is begun, and only then is it decided what is in it: every settled record of the feed's day that is still in the
ledger. A crash may come between any two of these steps:

1. after the file is noted in the ledger as `writing`: it is begun again, under the same name;
2. after some or all of it is written, under a temporary name: that is taken away, and it is begun again;
3. after it got its name, which it gets once it is on disk, read back and the same: who comes next finds it under that
   name, checks it, and goes on with it. A name is given once: a file that is there is never replaced;
4. after the manifest: the same;
5. after the ledger says `verified`: who comes next checks the file against what the ledger says of it, and deletes
   what is in it, and nothing else;
6. after some or all of its records are deleted: the same, and those that are gone already cost nothing.

So the set of records that goes with a file is fixed by the file. What of that day is settled, or left, after that goes
into a file of its own, `…-2`. A file that the ledger does not know, because it was set back to a copy from before a
purge, counts as one of step 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import structlog

from app.core.clock import Clock
from app.core.errors import ArchiveDamaged, ArchiveUnavailable, RowrelayError
from app.ledger import Ledger
from app.ledger.archives import ArchivePart, Contents, Noted, PartState
from app.ledger.records import CHUNK_BYTES, Record
from app.retention.archive import file

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

Chunks: TypeAlias = AsyncGenerator[list[Record], None]
Check: TypeAlias = Callable[[], Awaitable[None]]
InThread: TypeAlias = Callable[..., Awaitable[Any]]
"""Does blocking work, given as a function and its arguments, beside the event loop."""


class Archive:
    """The files below one directory. Whoever calls it for a feed holds that feed's purge."""

    def __init__(self, root: Path, ledger: Ledger, now: Clock, in_thread: InThread = asyncio.to_thread) -> None:
        self._root = root
        self._in_thread = in_thread
        self._archives = ledger.archives
        self._now = now

    async def left_open(self, feed: str) -> list[ArchivePart]:
        """The verified files that a purge before this one left: what is in them may still be in the ledger.

        Raises `ArchiveUnavailable` where one is missing, `ArchiveDamaged` where it is not what it was.
        """
        left = []
        for noted in await self._archives.open(feed):
            if noted.state is PartState.VERIFIED:
                await self._confirm(noted)
            elif await self._is_there(noted.part):
                await self._adopt(noted.part)
            else:
                await self._run(file.remove_unfinished, self._path(noted.part))
                await self._archives.drop(noted.part)
                continue
            left.append(noted.part)
        return left

    async def next_part(self, part: ArchivePart) -> tuple[ArchivePart, bool]:
        """From this one on, the first of the day's files that the ledger is not done with, and whether it is there.

        One that is there is checked and noted as verified: it holds records that are in the ledger again.
        """
        while await self._archives.get(part):
            part = ArchivePart(part.feed, part.day, part.number + 1)
        if not await self._is_there(part):
            return part, False
        log.warning("archive_adopted", file=part.name)
        await self._archives.begin(part, self._now())
        await self._adopt(part)
        return part, True

    async def write(self, part: ArchivePart, chunks: Chunks, still_ours: Check) -> Contents | None:
        """Write a file of these records, verified and under its name; `None` where there are none.

        `still_ours` raises where another has taken the feed's purge over. Raises `ArchiveUnavailable`, and then nothing
        of the file is left.
        """
        first = await anext(chunks, None)
        if first is None:
            return None
        await self._archives.begin(part, self._now())
        writer = file.Writer(self._path(part))
        try:
            await self._run(writer.open)
            await self._run(writer.add, first)
            async for chunk in chunks:
                await self._run(writer.add, chunk)
            contents = await self._run(writer.finish)
            await still_ours()
            await self._run(file.publish, writer.path, self._path(part))
            await self._run(file.write_manifest, self._path(part), part, contents)
        except (RowrelayError, asyncio.CancelledError):
            writer.abandon()
            raise
        finally:
            writer.close()
        await self._archives.verified(part, contents, self._now())
        log.info("archive_written", file=part.name, count=contents.count, sha256=contents.sha256)
        return contents

    async def records(self, part: ArchivePart, size: Callable[[], int]) -> Chunks:
        """What is in a verified file, at most `size()` records at a time, fewer where they are heavy."""
        records = file.read(self._path(part))
        try:
            while chunk := await self._run(some, records, size()):
                yield chunk
        finally:
            records.close()

    async def done(self, part: ArchivePart) -> None:
        """Nothing of what is in the file is left to delete."""
        await self._archives.done(part, self._now())

    # --- steps of the above

    async def _confirm(self, noted: Noted) -> None:
        """Check a file against what the ledger says of it."""
        path = self._path(noted.part)
        if not await self._is_there(noted.part):
            raise ArchiveUnavailable(
                f"archive {path}: not there, and what is in it is not purged to the end: put it back; "
                "is ARCHIVE_DIR mounted, and the same for every worker?"
            )
        found = await self._run(file.check, path)
        if found != noted.contents:
            raise ArchiveDamaged(f"archive {path}: not what was verified; nothing more of it is deleted: put it back")

    async def _adopt(self, part: ArchivePart) -> None:
        """Check a file that is there under its name, and note it as verified."""
        path = self._path(part)
        contents = await self._run(file.check, path)
        said = await self._run(file.read_manifest, path)
        if said is None:
            await self._run(file.write_manifest, path, part, contents)
        elif said != contents:
            raise ArchiveDamaged(f"archive {path}: not what its manifest says; nothing of it is deleted: put it back")
        await self._archives.verified(part, contents, self._now())

    async def _is_there(self, part: ArchivePart) -> bool:
        """Raises `ArchiveUnavailable` where the archive's directory itself is not there."""
        return await self._run(_exists, self._root, self._path(part))

    def _path(self, part: ArchivePart) -> Path:
        return self._root / part.name

    async def _run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do blocking work in a thread. An error of the file system becomes one line."""
        with self._translated():
            result: T = await self._in_thread(work, *args, **kwargs)
            return result

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self._root
            raise ArchiveUnavailable(
                f"archive {where}: {error.strerror or error}; nothing was deleted that is not in a verified file"
            ) from error


def _exists(root: Path, path: Path) -> bool:
    root.stat()
    return path.exists()


def some(records: Generator[Record, None, None], size: int) -> list[Record]:
    """At most `size` more, fewer where they are heavy; none: that was all."""
    read: list[Record] = []
    held = 0
    while len(read) < size and held < CHUNK_BYTES:
        record = next(records, None)
        if record is None:
            break
        read.append(record)
        held += record.weight
    return read
