"""What a cursor strategy is. Each is one file: a subclass here, and a line in `plan.STRATEGIES`.

A strategy only builds statements and draws conclusions from rows; the reader runs the statements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Row, Select
from sqlalchemy.types import TypeEngine

from app.feed import Feed
from app.models import Position
from app.source.catalogue import SourceTable
from app.source.gaps import Gaps


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and the values for the parameters it names."""

    select: Select[Any]
    parameters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a strategy builds its statements from. `places`: where its own columns stand in a row."""

    feed: Feed
    table: SourceTable
    columns: tuple[ColumnElement[Any], ...]
    """All that a page selects: first what is sent, then what only key and cursor need."""
    cursor: ColumnElement[Any]
    cursor_place: int
    key_places: tuple[int, ...]


class CursorStrategy(ABC):
    """How one feed's new rows are told from old ones."""

    column_type: ClassVar[TypeEngine[Any] | None] = None
    """What positions are bound as in a statement."""

    def __init__(self, selection: Selection) -> None:
        """Raises `SourceRefused` where the cursor column's type cannot serve this strategy."""
        self.selection = selection

    @abstractmethod
    def start(self) -> Statement | None:
        """For a cursor that has no position: the statement that finds one; `None` where none is needed."""

    @abstractmethod
    def started(self, rows: Sequence[Row[Any]], now: datetime) -> tuple[Position, Gaps]:
        """Where reading begins, from the rows of `start` (none where it gave `None`)."""

    @abstractmethod
    def page(self, position: Position, limit: int) -> Statement:
        """The next rows after `position`, in order, at most `limit`: keyset, never OFFSET."""

    @abstractmethod
    def waiting(self, position: Position, limit: int) -> Statement | None:
        """Counts the rows after `position`, up to `limit`; `None` where there are none by definition."""

    @abstractmethod
    def positions(self, rows: Sequence[Row[Any]]) -> list[Position]:
        """Each row's position. Raises `SourceRefused` where one could not be returned to."""

    def late(self, gaps: Gaps, limit: int) -> Statement:
        """The rows that lie in the gaps, in order, at most `limit`. Called only where `missing` gives gaps."""
        raise NotImplementedError

    def missing(self, after: Position, positions: Sequence[Position], now: datetime) -> Gaps:
        """What the rows just read leave out, and may still commit. Nothing, unless a strategy says otherwise."""
        del after, positions, now
        return ()
