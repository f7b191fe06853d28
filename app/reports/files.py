"""Reports as files: `<folder>/<feed>/<period>.json`, `.csv` and `.html`; those on all feeds in
`_all`.

Each file is written under a temporary name and then renamed, so that it is never read half-written.
These calls block: call them in a thread.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from app.reports.page import page
from app.reports.record import ALL, Report, document_of
from app.reports.table import to_csv

ALL_FOLDER = "_all"
"""No feed's name begins with `_`."""
_DATED = "[0-9]" * 4 + "-[0-9][0-9]-[0-9][0-9]"


class Format(StrEnum):
    """The forms of a report."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"


def rendered(report: Report, form: Format, revised: Mapping[str, Any] | None = None) -> bytes:
    """The report in that form."""
    if form is Format.HTML:
        return page(report, revised).encode()
    if form is Format.CSV:
        return to_csv(report).encode()
    document = document_of(report) | ({"revised": dict(revised)} if revised else {})
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def path_of(folder: Path, feed: str, period: str, form: Format) -> Path:
    """The path of a report's file. Colons, which some file systems do not allow, are left out of
    the name.
    """
    return _folder(folder, feed) / f"{period.replace(':', '')}.{form.value}"


def _folder(folder: Path, feed: str) -> Path:
    return folder / (ALL_FOLDER if feed == ALL else feed)


def write(folder: Path, report: Report, revised: Mapping[str, Any] | None = None) -> list[Path]:
    """Write the report in every form. Returns the files: JSON, CSV, HTML. Raises `OSError`."""
    paths = []
    for form in Format:
        path = path_of(folder, report.feed, report.period, form)
        write_whole(path, rendered(report, form, revised))
        paths.append(path)
    return paths


def prune(folder: Path, feed: str, before: date) -> int:
    """Remove the files of a feed's reports on days before that one. Returns how many. Raises
    `OSError`.
    """
    removed = 0
    for form in Format:
        for path in _folder(folder, feed).glob(f"{_DATED}*.{form.value}"):
            if path.name[: len("2026-11-21")] < before.isoformat():
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old content or all of the new. A new file gets mode
    0640; an existing one keeps its mode.

    Raises `OSError`.
    """
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o640
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
