"""The archive of one process: files that the ledger knows of, verified before anything is deleted.

A file is begun, and only then is its content decided: every settled record of the feed's day that
is still in the ledger. A crash may come between any two of these steps:

1. after the ledger notes the file as `writing`: it is begun again, under the same name;
2. after some or all of it is written, under a temporary name: that file is removed, and begun
   again;
3. after it gets its name, which happens once it is on disk, read back and unchanged: the next run
   finds it under that name, checks it, and continues with it. A name is given once: an existing
   file is never replaced;
4. after the manifest: the same;
5. after the ledger says `verified`: the next run checks the file against the ledger, then deletes
   what the file holds, and nothing else;
6. after some or all of its records are deleted: the same, and those already gone cost nothing.

So the file fixes the set of records that is deleted with it. What of that day settles later, or was
left, goes into a file of its own, `…-2`. A file that the ledger does not know, because the ledger
was restored from a backup taken before a purge, is treated as in step 3.
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
"""Runs blocking work, given as a function and its arguments, off the event loop."""


class Archive:
    """The files below one directory. Callers hold the purge lock of the feed."""

    def __init__(
        self, root: Path, ledger: Ledger, now: Clock, in_thread: InThread = asyncio.to_thread
    ) -> None:
        self._root = root
        self._in_thread = in_thread
        self._archives = ledger.archives
        self._now = now

    async def left_open(self, feed: str) -> list[ArchivePart]:
        """The verified files that an earlier purge left: what they hold may still be in the ledger.

        Raises `ArchiveUnavailable` where one is missing, `ArchiveDamaged` where one has changed.
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
        """The first of the day's files, from this one on, that the ledger has not finished, and
        whether it exists.

        One that exists is checked and noted as verified: it holds records that are in the ledger
        again.
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
        """Write a file of these records, verified and under its final name; `None` where there are
        none.

        `still_ours` raises where another process has taken the feed over. Raises
        `ArchiveUnavailable`; nothing of the file is left then.
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
        """The records of a verified file, at most `size()` at a time, fewer where they are large."""
        records = file.read(self._path(part))
        try:
            while chunk := await self._run(some, records, size()):
                yield chunk
        finally:
            records.close()

    async def done(self, part: ArchivePart) -> None:
        """Note that nothing the file holds is left to delete."""
        await self._archives.done(part, self._now())

    # --- steps of the above

    async def _confirm(self, noted: Noted) -> None:
        """Check a file against the ledger's record of it."""
        path = self._path(noted.part)
        if not await self._is_there(noted.part):
            raise ArchiveUnavailable(
                f"archive {path}: missing, and not all that it holds is purged yet: put it back; "
                "is ARCHIVE_DIR mounted, and the same for every worker?"
            )
        found = await self._run(file.check, path)
        if found != noted.contents:
            raise ArchiveDamaged(
                f"archive {path}: changed since it was verified; no more is deleted: put the original back"
            )

    async def _adopt(self, part: ArchivePart) -> None:
        """Check a file that exists under its final name, and note it as verified."""
        path = self._path(part)
        contents = await self._run(file.check, path)
        said = await self._run(file.read_manifest, path)
        if said is None:
            await self._run(file.write_manifest, path, part, contents)
        elif said != contents:
            raise ArchiveDamaged(
                f"archive {path}: not what its manifest says; nothing is deleted: put the original back"
            )
        await self._archives.verified(part, contents, self._now())

    async def _is_there(self, part: ArchivePart) -> bool:
        """Raises `ArchiveUnavailable` where the archive's directory itself is missing."""
        return await self._run(_exists, self._root, self._path(part))

    def _path(self, part: ArchivePart) -> Path:
        return self._root / part.name

    async def _run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread. A file system error becomes one line."""
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
    """The next records, at most `size`, fewer where they are large; none at the end."""
    read: list[Record] = []
    held = 0
    while len(read) < size and held < CHUNK_BYTES:
        record = next(records, None)
        if record is None:
            break
        read.append(record)
        held += record.weight
    return read
