"""What a cursor strategy is: how new rows are told from old ones, by the statements that it builds.

Each is a file beside this one, and a line in `registry.py`; its schema for `feeds.toml` is a file
in `app/feeds/cursors/`.

A strategy only builds statements and draws conclusions from rows; the reader runs the statements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import BigInteger, ColumnElement, Connection, FromClause, Row, Select
from sqlalchemy.types import TypeEngine

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.core.position import Position
from app.core.rows import Ahead
from app.feeds.feed import Feed
from app.source.cursors.findings import index_finding, unordered_finding
from app.source.cursors.gaps import Gaps
from app.source.cursors.selection import Selection, Statement
from app.source.findings import Finding, Level
from app.source.indexes import Index
from app.source.payload import RowShape
from app.source.products.product import Product
from app.source.table import Column, SourceTable

TIES = 1000
"""Rows that may be equal to the server in cursor column and key."""


class CursorStrategy(ABC):
    """How one feed's new rows are told from old ones."""

    on_replica: ClassVar[str]
    """What may go wrong where the database is a read-only replica, and what to do. Goes on from a
    colon.
    """
    column_type: ClassVar[TypeEngine[Any] | None] = None
    """What positions are bound as in a statement."""
    gap_timeout: timedelta = timedelta()
    """How long a gap is asked for again."""
    max_gaps: int = 1
    """Gaps that are kept at most."""

    @classmethod
    def cursor_column(cls, table: SourceTable, feed: Feed) -> Column:
        """What rows are ordered by. Raises `SourceRefused` for a column that the table does not
        have.
        """
        return table.column(feed.cursor.order, "cursor.column")

    @classmethod
    def prepared(cls, selection: Selection) -> Selection:
        """The selection with what the strategy selects from, where that is not the table itself."""
        return selection

    @classmethod
    def assumed_type(cls, product: Product) -> TypeEngine[Any]:
        """What the cursor column's type is taken to be where nobody has looked the table up."""
        del product
        return BigInteger()

    def __init__(self, selection: Selection) -> None:
        """Raises `SourceRefused` where the cursor column's type cannot serve this strategy."""
        self.selection = selection

    def confirm(self, connection: Connection) -> None:
        """Ask the catalogue for what the strategy rests on. Sync, for `AsyncConnection.run_sync`.

        Raises `SourceRefused` for what is missing.
        """
        del connection

    column: ColumnElement[Any]
    """The cursor column, in a statement."""

    @property
    @abstractmethod
    def every_row(self) -> Select[Any]:
        """What a page selects, of every row there is and in no order; for a caller that narrows it."""

    @property
    def found_rows(self) -> tuple[FromClause, Select[Any]]:
        """The rows that can be found by their keys, and what is selected of them, as a page would."""
        return self.selection.rows, self.every_row

    @abstractmethod
    def last_upto(self, position: Position, limit: int) -> Statement:
        """The last rows up to the position, at most `limit`: newest first. Not for `None`."""

    @property
    @abstractmethod
    def lowest(self) -> Position:
        """A position before every row."""

    @abstractmethod
    def start(self, where: int | str, horizon: Any = None) -> Statement | None:
        """The statement that finds where reading begins (`beginning`, `now`, a position); `None`
        where none is needed.

        `horizon` is what the statement of that name gave.
        """

    @property
    @abstractmethod
    def example(self) -> Position:
        """A position, to show statements with."""

    @property
    def example_horizon(self) -> Any:
        """What the statement `horizon` may give, to show statements with; `None` where there is
        none.
        """
        return None

    def explained(self) -> Iterator[tuple[str, str, Statement]]:
        """Statements that this strategy alone sends: name, when, and the statement with examples."""
        yield from ()

    @abstractmethod
    def started(
        self, where: int | str, rows: Sequence[Row[Any]], now: datetime
    ) -> tuple[Position, Gaps]:
        """Where reading begins, from the rows of `start` (none where it gave `None`)."""

    @abstractmethod
    def page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        """The next rows after `position`, in order, at most `limit`, and below the horizon: keyset,
        never OFFSET.
        """

    def next_page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        """As `page`, for each poll. A strategy that can keep the statement has its values in the
        parameters: making one anew costs more than running it.
        """
        return self.page(position, limit, horizon)

    def page_upto(self, position: Position, upto: Position, horizon: Any = None) -> Statement:
        """The rows after `position`, in order, up to and with the one at `upto`, as `page`.

        No limit: a row that came meanwhile may make them more, and must not push another out.
        """
        page = self.page(position, 1, horizon)
        return Statement(page.select.where(self.upto(upto)).limit(None), page.parameters)

    @abstractmethod
    def latest(self, limit: int, horizon: Any = None) -> Statement:
        """The newest rows that a page could read now, at most `limit`: newest first."""

    @abstractmethod
    def beyond(self, position: Position, name: str = "position") -> ColumnElement[bool]:
        """That a row lies after the position; after `None` lies every row that the cursor column
        orders.

        `name` begins the names of the parameters. Raises `SourceRefused` for what another strategy,
        or key, has left.
        """

    @abstractmethod
    def upto(self, position: Position, name: str = "upto") -> ColumnElement[bool]:
        """That a row lies at the position or before it: each row is either this or `beyond`. Not
        for `None`.
        """

    @abstractmethod
    def waiting(self, position: Position, limit: int) -> Statement:
        """Counts the rows after `position`, up to `limit`."""

    @abstractmethod
    def positions(self, rows: Sequence[Row[Any]], before: Position = None) -> list[Position]:
        """Each row's position; `before` stands for one that has none, with no such row in front of
        it.

        Raises `SourceRefused` where none could be returned to.
        """

    def reached(
        self, positions: Sequence[Position], before: Position, *, more: bool, horizon: Any = None
    ) -> Position:
        """Where a cursor stands that stood at `before` and has read rows at these positions, with
        `more` after them.

        `horizon`: below which they were read. Raises `SourceRefused` where it could not move on.
        """
        del more, horizon
        return positions[-1] if positions else before

    def tied(self, last: Position, following: Position) -> Statement | None:
        """The rows that the server holds equal to the last of a page, where the row after it may be
        one of them.

        Keys that differ to us may be equal to the server (`A` and `a`, by the column's collation):
        then they stand in no order, and the page after the one would not begin at the other. At
        most `TIES` rows and one.
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
        """Asked before each page, in a statement of its own: one value, below which all is
        committed.

        `None` where a page needs no such bound.
        """
        return None

    def horizon_of(self, row: Row[Any]) -> Any:
        """The horizon, from the row that its statement gave. Raises `SourceRefused` where no page
        can be read.
        """
        return row[0]

    def lasting(self) -> Statement | None:
        """Asked after each page: whether the source still had all that the page was to hold.
        `None`: it always has.
        """
        return None

    def lost(self, position: Position, row: Row[Any]) -> Ahead | None:
        """From the row of `lasting`: why a page read after the position may lack rows; then it is
        dropped.
        """
        del position, row
        return None

    def shaped(self, shape: RowShape) -> RowShape:
        """How rows become what goes on; the shape that is given, unless some rows are of another."""
        return shape

    def findings(
        self, connection: Connection, indexes: Sequence[Index], *, view: bool
    ) -> Iterator[Finding]:
        """What `doctor` says of the feed's cursor. Sync, for `AsyncConnection.run_sync`. Raises
        SQLAlchemy's errors.
        """
        yield index_finding(self.selection, indexes, view=view)
        yield unordered_finding(connection, self.selection, self.column)
        yield from self.replica_findings(connection)

    def replica_findings(self, connection: Connection) -> Iterator[Finding]:
        """Whether the database is a read-only copy, and what that means for the strategy."""
        if self.selection.product.read_only(connection):
            said = f"the database is read-only here, perhaps a replica: {self.on_replica}"
            yield Finding("replica", Level.WARNING, said)

    def clock(self) -> Statement | None:
        """Asked where gaps are opened or may expire: the server's time, in UTC. `None` where there
        are no gaps.
        """
        return None

    def change(self, position: Position) -> str:
        """Which change of its row this position is: the cursor column's part of it."""
        leading = position[0] if isinstance(position, list) else position
        return str(leading[1] if isinstance(leading, list) else leading)

    def late(self, gaps: Gaps, limit: int) -> Statement:
        """The rows that lie in the gaps, in order, at most `limit`. Called only where `missing`
        gives gaps.
        """
        raise NotImplementedError

    def missing(self, after: Position, positions: Sequence[Position], now: datetime) -> Gaps:
        """What the rows just read leave out, and may still commit. Nothing, unless a strategy says
        otherwise.
        """
        del after, positions, now
        return ()

    def refused(self, what: str) -> SourceRefused:
        """The error that names this feed's cursor column."""
        feed = self.selection.feed
        return SourceRefused(f"feed {feed.name}: cursor.column {feed.cursor.order!r} {what}")

    def moved_strategy(self, position: Position, why: str = "") -> SourceRefused:
        """The error for a position that another strategy, or another key, has left; or another type
        of a column.
        """
        feed = self.selection.feed
        return SourceRefused(
            f"feed {feed.name}: the cursor stands at {f'{position!r}':.200}, which is no {feed.cursor.strategy} "
            f"position{why and f' ({why})'}; the strategy was changed, or the key: "
            f"python -m app feeds rewind {feed.name} --to beginning --dry-run, or give it a new name"
        )


def advice(feed: Feed) -> str:
    """What an operator does about a cursor that is ahead of its table."""
    return (
        f"look with: python -m app feeds rewind {feed.name} --to beginning --dry-run; then rewind and resume; "
        "rows under keys that were there before count as delivered: if the table begins anew, give the feed a new name"
    )
