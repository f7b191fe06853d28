"""What one read of the source gives: rows, and where the cursor stands after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from app.core.position import Gap, Position
from app.core.record import record

Columns: TypeAlias = "tuple[tuple[str, str], ...]"
"""Columns of a source table, in order: name and type, in the database's words."""


@record
class SourceRow:
    """One row as read from the source."""

    key: str
    """The row's key as text; parts of a composite key are joined by `:` (see
    `source.payload.key_text`).
    """
    position: Position
    payload: str
    """The row as a JSON object; empty when `error` is set."""
    error: str | None = None
    """Why the row has no payload: it becomes a dead letter with this reason."""
    change: str | None = None
    """With `capture = "changes"`: which change of the row this is. Part of the delivery's id."""
    content: int | None = None
    """A hash of what the row holds (see `source.content`); `None` where it has no JSON form."""


@dataclass(frozen=True, slots=True)
class LoggedRows:
    """The rows of a batch, all of which were new when they were logged a moment ago."""

    rows: Sequence[SourceRow]
    """In the order of the batch's ids."""
    at: datetime
    """When they were logged, as the ledger has it: in whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A cursor that stands beyond the newest row of its table."""

    reason: str
    certain: bool
    """The source went back, so rows may be passed over: the feed is paused. Else rows may just have
    been deleted.
    """


@dataclass(frozen=True, slots=True)
class NewForm:
    """Which columns are sent from a page on."""

    columns: Columns
    offered: tuple[str, ...] = ()
    """Columns that the table has besides, and that are not sent."""
    said: str | None = None
    """What changed in the table; `None`: nothing did, it is agreed for the first time."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one read of the source gave, and where the cursor stands after it."""

    rows: tuple[SourceRow, ...]
    position: Position
    gaps: tuple[Gap, ...]
    full: bool
    """More rows are likely waiting: read again at once."""
    expired: tuple[Gap, ...] = ()
    """Gaps given up on because `gap_timeout` passed."""
    ahead: Ahead | None = None
    """Nothing new was found, and the cursor stands beyond the table."""
    held: str | None = None
    """Nothing new was found, though rows lie beyond the cursor: how many, and why."""
    began: Position = None
    """On a feed's first page: after which position reading began; `None`: at the first row."""
    form: NewForm | None = None
    """To be agreed with the cursor's next move; `None`: nothing changes."""
    lowest: Position = None
    """Where the table's lowest row stands; `None` where that is on record already, or there is no
    row.
    """
