"""What `doctor` looks at on this machine: packages, files open at once, the directories that are
written to.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from app import VERSION
from app.reads.doctor.check import Check, checked, found
from app.source.findings import Level
from config import Settings

PACKAGES = (
    "celery",
    "kombu",
    "redis",
    "pymongo",
    "sqlalchemy",
    "aioodbc",
    "pyodbc",
    "pydantic",
    "flower",
)
"""Those whose version matters most when something goes wrong."""

_GIB = 2**30
_LITTLE_SPACE = _GIB
"""Bytes free below which a directory is doubtful: a day's archive or reports may be larger."""


async def check_machine(settings: Settings, besides: Iterable[Check]) -> list[Check]:
    """What a command that was started as a worker is would meet on this machine. `besides`: what a
    worker itself must say of it."""
    checks = [found("versions", Level.OK, versions()), *besides]
    checks += await _check_directory("reports (REPORTS_DIR)", settings.reports_dir, made=True)
    if settings.archive_dir is not None:
        checks += await _check_directory("archive (ARCHIVE_DIR)", settings.archive_dir, made=False)
    return checks


def versions() -> str:
    """Ours, Python's, and those of the packages that are there."""
    told = [f"Rowrelay {VERSION}", f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            told.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(told)


async def _check_directory(name: str, directory: Path, *, made: bool) -> list[Check]:
    """Whether files can be written there by who runs this, and how much room there is. `made`: a
    worker makes it.
    """

    async def write() -> str:
        there = directory
        while made and not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            what = (
                "is no directory"
                if there.exists()
                else "does not exist: make it, for the user that workers run as"
            )
            raise OSError(f"{there}: {what}")
        _write_in(there)
        later = "" if there == directory else "; it is made with the first file"
        return f"{directory}: writable, {shutil.disk_usage(there).free / _GIB:.1f} GiB free{later}"

    first = await checked(name, write)
    if not first.ok or (free := _free(directory)) is None or free >= _LITTLE_SPACE:
        return [first]
    return [
        first,
        found(
            f"{name.partition(' ')[0]}: space",
            Level.WARNING,
            f"{free / _GIB:.1f} GiB free: make room",
        ),
    ]


def _write_in(directory: Path) -> None:
    """Write a file there and remove it. Raises `OSError`, which says how to mend it."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor.", dir=directory) as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        said = error.strerror or str(error)
        raise OSError(
            f"{directory}: {said}; workers must be able to write there, and so must whoever runs this"
        ) from error


def _free(directory: Path) -> int | None:
    return shutil.disk_usage(directory).free if directory.is_dir() else None
