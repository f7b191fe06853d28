"""One archive file: written, read back, verified. Nothing here knows the ledger; everything here
blocks.

    <ARCHIVE_DIR>/orders/orders-2026-01-31.ndjson.zst        a line a delivery (see `app/ledger/records.py`)
    <ARCHIVE_DIR>/orders/orders-2026-01-31.ndjson.zst.json   its manifest: counts, hash, first and last id

Zstandard (RFC 8878) with a checksum in each frame: `zstdcat FILE` reads it, and `sha256sum FILE`
gives the manifest's hash. Files may hold personal data: only their owner can read them.

A file may have been written by anyone: lines, what they unpack to, and the manifest are bounded.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import orjson

from app.core.errors import ArchiveDamaged
from app.ledger.archives import ArchivePart, Contents
from app.ledger.records import LINE_BYTES, Record, from_line, glance, to_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORMAT = "rowrelay-archive-1"
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}
_BOUNDS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
"""A window of 8 MiB to unpack with; we write with 2 MiB."""
_MANIFEST_BYTES = 2**16
_TEMPORARY = ".tmp"


class _Hashed:
    """A file whose bytes are hashed and counted as they are read or written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes, /) -> int:
        self._note(data)
        return self._file.write(data)

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._note(data)
        return data

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, /) -> int:
        raise OSError(f"an archive file is read from its start, not from {offset}")

    def close(self) -> None:
        self._file.close()

    def _note(self, data: bytes) -> None:
        self._hash.update(data)
        self.bytes += len(data)


class _Seen:
    """Sums over the lines so far."""

    def __init__(self) -> None:
        self.count = self.attempts = 0
        self.first_id = self.last_id = ""

    def note(self, delivery_id: str, attempts: int) -> None:
        self.first_id = self.first_id or delivery_id
        self.last_id = delivery_id
        self.count += 1
        self.attempts += attempts

    def contents(self, hashed: _Hashed) -> Contents:
        return Contents(
            self.count, self.attempts, hashed.bytes, hashed.sha256, self.first_id, self.last_id
        )


class Writer:
    """Writes an archive file under a temporary name in its final directory. Raises `OSError`."""

    def __init__(self, final: Path) -> None:
        """Touches no file until `open`."""
        self.path = final.with_name(f".{final.name}.{uuid4().hex[:8]}{_TEMPORARY}")
        self._opened = ExitStack()
        self._seen = _Seen()

    def open(self) -> None:
        """Create the file, and its feed's directory, but not the archive's own."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = self._opened.enter_context(os.fdopen(descriptor, "wb"))
        self._hashed = _Hashed(self._file)
        self._compressed = self._opened.enter_context(
            zstd.ZstdFile(self._hashed, "w", options=_OPTIONS)
        )

    def add(self, records: Iterable[Record]) -> None:
        """Write these, a line each."""
        for record in records:
            line = to_line(record)
            if len(line) > LINE_BYTES:
                raise ArchiveDamaged(
                    f"archive {self.path.name}: {record.id}: a line of {len(line)} bytes is too long"
                )
            self._compressed.write(line)
            self._seen.note(record.id, len(record.attempts))

    def finish(self) -> Contents:
        """Flush it to disk, read it back, and compare. Raises `ArchiveDamaged` where they differ."""
        self._compressed.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        _forget_cached(self._file.fileno())
        self.close()
        written, found = self._seen.contents(self._hashed), check(self.path)
        if found != written:
            raise ArchiveDamaged(
                f"archive {self.path.name}: wrote {written}, but read back {found}"
            )
        return written

    def abandon(self) -> None:
        """Remove what was written, if possible; otherwise the next attempt at the part does."""
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file, finished or not."""
        with suppress(OSError):
            self._opened.close()


def _forget_cached(descriptor: int) -> None:
    """Have what is read back come from the disk, on systems that allow it."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def check(
    path: Path, tell: Callable[[int], None] = lambda _: None, most: int | None = None
) -> Contents:
    """What a file holds, by reading every line. `tell`: called now and then with the number of
    lines; `most`: how many there may be.

    Raises `ArchiveDamaged`, which says where the file is broken, and `OSError` where it cannot be
    read.
    """
    seen = _Seen()
    with path.open("rb") as file:
        hashed = _Hashed(file)
        for line in _lines(path, hashed):
            try:
                seen.note(*glance(line))
            except ValueError as error:
                raise ArchiveDamaged(f"archive {path}: line {seen.count + 1}: {error}") from error
            if most is not None and seen.count > most:
                raise ArchiveDamaged(
                    f"archive {path}: more than the {most} lines that its manifest says"
                )
            if seen.count % 1000 == 0:
                tell(seen.count)
    return seen.contents(hashed)


def read(path: Path) -> Generator[Record, None, None]:
    """The file's records. Raises `ArchiveDamaged` where a line is not one, `OSError` where it
    cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(_lines(path, _Hashed(file)), 1):
            try:
                yield from_line(line)
            except ValueError as error:
                raise ArchiveDamaged(f"archive {path}: line {number}: {error}") from error


def _lines(path: Path, file: _Hashed) -> Iterator[bytes]:
    try:
        unpacked, number = zstd.ZstdFile(file, "r", options=_BOUNDS), 1
        while line := unpacked.readline(LINE_BYTES + 1):
            if len(line) > LINE_BYTES:
                raise ArchiveDamaged(
                    f"archive {path}: line {number}: longer than {LINE_BYTES} bytes"
                )
            yield line
            number += 1
    except (zstd.ZstdError, EOFError) as error:
        raise ArchiveDamaged(f"archive {path}: {error}") from error


# --- names and manifests


def manifest_path(path: Path) -> Path:
    """The path of an archive file's manifest."""
    return path.with_name(path.name + ".json")


def publish(written: Path, final: Path) -> None:
    """Give a verified file its final name. Raises `FileExistsError` where that name is taken: that
    file stays.
    """
    try:
        os.link(written, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if final.exists():
            raise FileExistsError(f"{final} exists") from None
        written.rename(final)
    written.unlink(missing_ok=True)
    _sync_directory(final.parent)


def write_manifest(path: Path, part: ArchivePart, contents: Contents) -> None:
    """Write the manifest beside a file, whole or not at all."""
    about = {
        "format": FORMAT,
        "file": path.name,
        "feed": part.feed,
        "day": part.day.isoformat(),
        "part": part.number,
    }
    target = manifest_path(path)
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}{_TEMPORARY}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            orjson.dumps(
                about | asdict(contents), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
            )
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    _sync_directory(path.parent)


def read_manifest(path: Path) -> Contents | None:
    """What a file holds according to its manifest; `None` without one. Raises `ArchiveDamaged` for
    an invalid one.
    """
    try:
        with manifest_path(path).open("rb") as file:
            about = orjson.loads(file.read(_MANIFEST_BYTES))
        return Contents(**{name: about[name] for name in Contents.__dataclass_fields__})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"archive {manifest_path(path)}: not a manifest: {error}") from error


def remove_unfinished(final: Path) -> int:
    """Remove a file's unfinished temporary files. Returns how many there were."""
    begun = [*final.parent.glob(f".{final.name}.*{_TEMPORARY}")]
    for path in begun:
        path.unlink(missing_ok=True)
    return len(begun)


def _sync_directory(directory: Path) -> None:
    """Make new names survive a crash of the machine (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
