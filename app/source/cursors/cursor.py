"""What a cursor strategy is. Each is one file: a subclass here, and a line in `plan.STRATEGIES`.

A strategy only builds statements and draws conclusions from rows; the reader runs the statements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, FromClause, Integer, Row, Select, TableClause, case, func
from sqlalchemy.sql import literal_column, quoted_name
from sqlalchemy.types import TypeEngine

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.core.position import Position
from app.core.rows import Ahead
from app.feeds.feed import Feed
from app.source.codec import Codec
from app.source.cursors.gaps import Gaps
from app.source.products.product import SHORT, CursorSql, Product
from app.source.rows import KEY_CHARACTERS
from app.source.table import Column, SourceTable
from app.source.where import matches

TIES = 1000
"""Rows that may be equal to the server in cursor column and key."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and the values for the parameters it names."""

    select: Select[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a strategy builds its statements from, and where things stand in a row."""

    feed: Feed
    table: SourceTable
    rows: TableClause
    """What is selected from."""
    read: tuple[Column, ...]
    """The columns that a page reads: first those that are sent, then those that only key and cursor need."""
    cursor: Column
    key: tuple[Column, ...]
    key_codecs: tuple[Codec, ...]
    """How the values of each column of the key stand in positions and ids."""
    where: tuple[Column, ...]
    """The column of each of the feed's conditions."""
    product: Product
    identity_counter: Select[Any] | None = None
    weighed: tuple[Column, ...] = ()
    """The columns whose bytes are added up in place of their being read; none: a row says nothing of its size."""

    @property
    def sql(self) -> CursorSql | None:
        """What is known of the product's versions, moments and identities."""
        return self.product.cursors

    @property
    def match_place(self) -> int | None:
        """Where a row says, with 1 or 0, whether it meets the feed's conditions; `None` where there are none."""
        return len(self.read) if self.where else None

    @property
    def extra_place(self) -> int:
        """Where in a row the columns begin that a strategy adds."""
        return len(self.read) + len(self.where[:1]) + len(self.weighed[:1])

    @property
    def size_place(self) -> int:
        """Where a row says how many bytes the `weighed` columns hold."""
        return len(self.read) + len(self.where[:1])

    def columns(self, rows: FromClause) -> list[ColumnElement[Any]]:
        """What a page selects from `rows`, which has the table's columns.

        Rows that the conditions leave out are read too: were they not, the cursor could not move past them, and each
        poll would search through them again; and with `identity` each would look like a gap.
        """
        columns = [self._read(rows, column) for column in self.read]
        if self.where:
            met = matches(self.feed.where, self.where, rows)
            columns.append(
                case((met, literal_column("1")), else_=literal_column("0")).label(self.fresh_name("rowrelay_matches"))
            )
        if self.weighed:
            columns.append(self._size(rows).label(self.fresh_name("rowrelay_bytes")))
        return columns

    @property
    def needed(self) -> list[Column]:
        """Every column that `columns` is made of."""
        return list(dict.fromkeys(self.read + self.where + self.weighed))

    def _size(self, rows: FromClause) -> ColumnElement[Any]:
        """What a row holds, with the names that its JSON repeats."""
        sizes = [self.product.size(rows.c[column.name], column.type) for column in self.weighed]
        names = sum(len(column.name) + 4 for column in self.weighed)
        total: ColumnElement[Any] = literal_column(str(names + SHORT * sum(size is None for size in sizes)), Integer())
        for size in sizes:
            if size is not None:
                total += func.coalesce(size, literal_column("0"))
        return total

    def _read(self, rows: FromClause, column: Column) -> ColumnElement[Any]:
        plain: ColumnElement[Any] = rows.c[column.name]
        limit = max(self.feed.max_payload, KEY_CHARACTERS) if column in self.key else self.feed.max_payload
        found = self.product.selected(plain, column.type, limit)
        return plain if found is plain else found.label(quoted_name(column.name, quote=True))

    def place(self, column: Column) -> int:
        """Where a column that is read stands in a row."""
        return self.read.index(column)

    def fresh_name(self, name: str) -> str:
        """The name, changed until no column of the table has it."""
        taken = {column.name.casefold() for column in self.table.columns}
        while name in taken:
            name += "_"
        return name


class CursorStrategy(ABC):
    """How one feed's new rows are told from old ones."""

    column_type: ClassVar[TypeEngine[Any] | None] = None
    """What positions are bound as in a statement."""

    def __init__(self, selection: Selection) -> None:
        """Raises `SourceRefused` where the cursor column's type cannot serve this strategy."""
        self.selection = selection

    column: ColumnElement[Any]
    """The cursor column, in a statement."""

    @property
    @abstractmethod
    def every_row(self) -> Select[Any]:
        """What a page selects, of every row there is and in no order; for a caller that narrows it."""

    @property
    @abstractmethod
    def ordering(self) -> Sequence[ColumnElement[Any]]:
        """What pages are in the order of."""

    @property
    @abstractmethod
    def lowest(self) -> Position:
        """A position before every row."""

    @abstractmethod
    def start(self, where: int | str, horizon: Any = None) -> Statement | None:
        """The statement that finds where reading begins (`beginning`, `now`, a position); `None` where none is needed.

        `horizon` is what the statement of that name gave.
        """

    @abstractmethod
    def started(self, where: int | str, rows: Sequence[Row[Any]], now: datetime) -> tuple[Position, Gaps]:
        """Where reading begins, from the rows of `start` (none where it gave `None`)."""

    @abstractmethod
    def page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        """The next rows after `position`, in order, at most `limit`, and below the horizon: keyset, never OFFSET."""

    @abstractmethod
    def latest(self, limit: int, horizon: Any = None) -> Statement:
        """The newest rows that a page could read now, at most `limit`: newest first."""

    @abstractmethod
    def beyond(self, position: Position, name: str = "position") -> ColumnElement[bool]:
        """That a row lies after the position; after `None` lies every row that the cursor column orders.

        `name` begins the names of the parameters. Raises `SourceRefused` for what another strategy, or key, has left.
        """

    @abstractmethod
    def upto(self, position: Position, name: str = "upto") -> ColumnElement[bool]:
        """That a row lies at the position or before it: each row is either this or `beyond`. Not for `None`."""

    @abstractmethod
    def waiting(self, position: Position, limit: int) -> Statement:
        """Counts the rows after `position`, up to `limit`."""

    @abstractmethod
    def positions(self, rows: Sequence[Row[Any]], before: Position = None) -> list[Position]:
        """Each row's position; `before` stands for one that has none, with no such row in front of it.

        Raises `SourceRefused` where none could be returned to.
        """

    def reached(self, positions: Sequence[Position], before: Position, *, more: bool) -> Position:
        """Where a cursor stands that stood at `before` and has read rows at these positions, with `more` behind them.

        Raises `SourceRefused` where it could not move on.
        """
        del more
        return positions[-1] if positions else before

    def tied(self, last: Position, following: Position) -> Statement | None:
        """The rows that the server holds equal to the last of a page, where the row behind it may be one of them.

        Keys that differ to us may be equal to the server (`A` and `a`, by the column's collation): then they stand in
        no order, and the page behind the one would not begin at the other. At most `TIES` rows and one.
        """
        del last, following
        return None

    @abstractmethod
    def newest(self, position: Position) -> list[Statement]:
        """What tells whether `position` is ahead of the table: one seek a statement."""

    @abstractmethod
    def ahead(self, cursor: Cursor, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        """Whether a cursor that stands somewhere is ahead of the table, or rows come below it.

        Said from the first row of each statement of `newest`.
        """

    def held_back(self, horizon: Any) -> str | None:
        """Why rows beyond the position may be left out of a page; `None` where none ever are."""
        del horizon
        return None

    def horizon(self) -> Statement | None:
        """Asked before each page, in a statement of its own: one value, below which all is committed.

        `None` where a page needs no such bound.
        """
        return None

    def clock(self) -> Statement | None:
        """Asked where gaps are opened or may expire: the server's time, in UTC. `None` where there are no gaps."""
        return None

    def change(self, position: Position) -> str:
        """Which change of its row this position is: the cursor column's part of it."""
        leading = position[0] if isinstance(position, list) else position
        return str(leading[1] if isinstance(leading, list) else leading)

    def late(self, gaps: Gaps, limit: int) -> Statement:
        """The rows that lie in the gaps, in order, at most `limit`. Called only where `missing` gives gaps."""
        raise NotImplementedError

    def missing(self, after: Position, positions: Sequence[Position], now: datetime) -> Gaps:
        """What the rows just read leave out, and may still commit. Nothing, unless a strategy says otherwise."""
        del after, positions, now
        return ()

    def refused(self, what: str) -> SourceRefused:
        """The error that names this feed's cursor column."""
        feed = self.selection.feed
        return SourceRefused(f"feed {feed.name}: cursor.column {feed.cursor.column!r} {what}")

    def moved_strategy(self, position: Position, why: str = "") -> SourceRefused:
        """The error for a position that another strategy, or another key, has left; or another type of a column."""
        feed = self.selection.feed
        return SourceRefused(
            f"feed {feed.name}: the cursor stands at {f'{position!r}':.200}, which is no {feed.cursor.strategy.value} "
            f"position{why and f' ({why})'}; the strategy was changed, or the key: "
            f"python -m app feeds rewind {feed.name} --to beginning --dry-run, or give it a new name"
        )


def advice(feed: Feed) -> str:
    """What an operator does about a cursor that is ahead of its table."""
    return (
        f"look with: python -m app feeds rewind {feed.name} --to beginning --dry-run; then rewind and resume; "
        "rows under keys that were there before count as delivered: if the table begins anew, give the feed a new name"
    )
