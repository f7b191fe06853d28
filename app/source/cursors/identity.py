"""The `identity` strategy: an ascending integer column, and gaps for the ids that were missing when
read.

A lower id can commit after a higher one was read, so an id passed over is asked for again until it
arrives or `gap_timeout` passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    func,
    select,
    union_all,
)
from sqlalchemy.types import (
    Boolean,
    Date,
    DateTime,
    Float,
    LargeBinary,
    Numeric,
    String,
    Time,
    TypeEngine,
    Uuid,
)

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.core.position import Gap, Position
from app.core.rows import Ahead
from app.feeds.cursors.identity import IdentityCursor
from app.feeds.feed import Feed
from app.source.cursors.gaps import GAP_RANGES, Gaps, missing
from app.source.cursors.selection import Selection, Statement
from app.source.cursors.strategy import CursorStrategy, advice
from app.source.findings import Finding, Level
from app.source.indexes import Index

LOWEST = -(2**63)
HIGHEST = 2**63 - 1
_GAP_SIZES = (1, 10, GAP_RANGES)
"""Statements exist for these numbers of ranges, the rest filled with empty ones: few texts, so
plans are reused.
"""
LIMITS_KEPT = 8
"""Statements of a page that are kept, one for each limit."""
_EMPTY_RANGE = (1, 0)
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
_NO_INTEGERS = (Boolean, Date, DateTime, Float, LargeBinary, String, Time, Uuid)


class Identity(CursorStrategy):
    """`WHERE id > :position ORDER BY id`, and the gaps again."""

    on_replica: ClassVar[str] = (
        "gaps age while it lags, so a row that it gets later than gap_timeout is passed over; "
        "make gap_timeout longer than it may ever lag, or read from the primary"
    )
    column_type: ClassVar[TypeEngine[Any] | None] = BigInteger()

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.column = selection.rows.c[selection.cursor.name]
        spec = selection.feed.cursor
        assert isinstance(spec, IdentityCursor)  # noqa: S101 - the registry goes by the schema's name
        self.gap_timeout, self.max_gaps = spec.gap_timeout, spec.max_gaps
        self._require_integers()
        self._rows = select(*selection.columns(selection.rows))
        self._pages = self._rows.order_by(self.column)
        self._ids = select(self.column).where(self.column.is_not(None))
        beyond = self._pages.where(self.column > bindparam("after", type_=BigInteger))
        self._next = lru_cache(LIMITS_KEPT)(beyond.limit)
        self._upto = beyond.where(self.column <= bindparam("upto", type_=BigInteger))
        self._late = {size: self._late_statement(size) for size in _GAP_SIZES}

    @property
    def every_row(self) -> Select[Any]:
        return self._rows

    @property
    def example(self) -> Position:
        return 2000

    def explained(self) -> Iterator[tuple[str, str, Statement]]:
        gaps = Gap(None, 0, _LONG_AGO), Gap(2001, 2004, _LONG_AGO)
        late = self.late(gaps, self.selection.feed.page_size // 2 + 1)
        yield (
            "gaps",
            f"each poll, while ids are missing: up to {GAP_RANGES} ranges a statement",
            late,
        )

    def findings(
        self, connection: Connection, indexes: Sequence[Index], *, view: bool
    ) -> Iterator[Finding]:
        yield from super().findings(connection, indexes, view=view)
        counter = self.selection.identity_counter
        counted = None if counter is None else connection.execute(counter).first()
        if counted is not None and len(counted) == 2 and counted[1] is not None and counted[1] < 0:
            column = self.selection.cursor.name
            said = f"{column} counts down: new rows come below the cursor; use strategy rowversion"
            yield Finding("identity", Level.FAILED, said)

    @property
    def lowest(self) -> Position:
        return LOWEST

    def start(self, where: int | str, horizon: Any = None) -> Statement | None:
        """With `now`: the last page of ids, so that transactions in flight at that moment leave
        gaps behind them.
        """
        del horizon
        if where != "now":
            return None
        return Statement(
            self._ids.order_by(self.column.desc()).limit(self.selection.feed.page_size)
        )

    def started(
        self, where: int | str, rows: Sequence[Row[Any]], now: datetime
    ) -> tuple[Position, Gaps]:
        """`beginning`: before every row. A number: after that id. `now`: after the highest id there
        is.
        """
        if where == "beginning":
            return None, ()
        if where != "now":
            return int(where), ()
        ids = self._checked([row[0] for row in reversed(rows)])
        # An empty table: every row to come is new, and `None` would ask for the start again.
        return (ids[-1], missing(ids[0], ids[1:], now)) if ids else (LOWEST, ())

    def page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        del horizon
        return Statement(self._pages.where(self.beyond(position)).limit(limit))

    def next_page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        after = self._id(position)
        if after is None:
            return self.page(position, limit, horizon)
        return Statement(self._next(limit), {"after": after})

    def page_upto(self, position: Position, upto: Position, horizon: Any = None) -> Statement:
        after = self._id(position)
        if after is None:
            return super().page_upto(position, upto, horizon)
        return Statement(self._upto, {"after": after, "upto": self._id(upto)})

    def latest(self, limit: int, horizon: Any = None) -> Statement:
        del horizon
        return Statement(
            self._rows.where(self.column.is_not(None)).order_by(self.column.desc()).limit(limit)
        )

    def last_upto(self, position: Position, limit: int) -> Statement:
        return Statement(
            self._rows.where(self.upto(position)).order_by(self.column.desc()).limit(limit)
        )

    def beyond(self, position: Position, name: str = "position") -> ColumnElement[bool]:
        del name  # SQLAlchemy names the parameter after the column, and numbers it
        after = self._id(position)
        return self.column.is_not(None) if after is None else self.column > after

    def upto(self, position: Position, name: str = "upto") -> ColumnElement[bool]:
        del name
        return self.column <= self._id(position)

    def waiting(self, position: Position, limit: int) -> Statement:
        rows = self._ids.where(self.beyond(position)).limit(limit).subquery()
        return Statement(select(func.count()).select_from(rows))

    def positions(self, rows: Sequence[Row[Any]], before: Position = None) -> list[Position]:
        """Raises `SourceRefused` for an id that is no 64-bit integer, or that two rows share."""
        del before
        place = self.selection.place(self.selection.cursor)
        return [*self._checked([row[place] for row in rows])]

    def late(self, gaps: Gaps, limit: int) -> Statement:
        """One index seek a range. At most `GAP_RANGES` gaps.

        A UNION ALL, because SQLite answers the same ranges joined by OR with a scan of the whole
        table as soon as the rows are to come in order (measured on 300,000 rows: 230 ms against 1
        ms).
        """
        size = next(size for size in _GAP_SIZES if size >= len(gaps))
        ranges = [(LOWEST if gap.low is None else gap.low, gap.high) for gap in gaps]
        ranges += [_EMPTY_RANGE] * (size - len(ranges))
        lows = {f"low{place}": low for place, (low, _) in enumerate(ranges)}
        highs = {f"high{place}": high for place, (_, high) in enumerate(ranges)}
        return Statement(self._late[size].limit(limit), lows | highs)

    def clock(self) -> Statement | None:
        sql = self.selection.sql
        return Statement(select(sql.utc_now.label("utc_now"))) if sql else None

    def newest(self, position: Position) -> list[Statement]:
        """The highest and the lowest id in the table, and the identity's own counter where there is
        one.
        """
        del position
        counter = self.selection.identity_counter
        ends = [select(func.max(self.column)), select(func.min(self.column))]
        return [Statement(rows) for rows in (ends if counter is None else [*ends, counter])]

    def ahead(self, cursor: Cursor, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        """Certain where the identity's counter itself stands below the position; else rows may just
        be deleted.
        """
        standing, feed = self._id(cursor.position), self.selection.feed
        highest, lowest = (_number(row) for row in newest[:2])
        counter = newest[2] if len(newest) > 2 else None
        if standing is None or standing == LOWEST:
            return None
        if counted := _counted_back(feed, standing, counter):
            return counted
        if passed := self._below_all(cursor, lowest):
            return passed
        if counter is not None or (highest is not None and standing <= highest):
            return None
        reason = f"the cursor stands at {standing}, ahead of the table's highest id {highest}: rows were deleted"
        return Ahead(f"{reason}, or the table truncated or restored; {advice(feed)}", certain=False)

    def _below_all(self, cursor: Cursor, lowest: int | None) -> Ahead | None:
        """Whether a row came below the lowest that was ever there, where the cursor does not ask
        for it any more.
        """
        before = self._id(cursor.lowest)
        if (
            before is None
            or lowest is None
            or lowest >= before
            or any(gap.low is None or gap.low <= lowest <= gap.high for gap in cursor.gaps)
        ):
            return None
        reason = (
            f"a row under id {lowest} lies below all that were there when reading began (the lowest was {before}), "
            "so no poll reads it: the identity was reseeded or counts down, or the id was given by hand; "
            f"look with: python -m app reconcile {self.selection.feed.name} --dry-run"
        )
        return Ahead(reason, certain=False)

    def missing(self, after: Position, positions: Sequence[Position], now: datetime) -> Gaps:
        return missing(
            self._id(after), [value for value in positions if isinstance(value, int)], now
        )

    def _late_statement(self, size: int) -> Select[Any]:
        rows = self.selection.rows
        needed = [column.name for column in self.selection.needed]
        branches = [
            select(*(rows.c[name] for name in needed)).where(
                self.column.between(
                    bindparam(f"low{place}", type_=BigInteger),
                    bindparam(f"high{place}", type_=BigInteger),
                )
            )
            for place in range(size)
        ]
        ranges = (union_all(*branches) if size > 1 else branches[0]).subquery("late")
        return select(*self.selection.columns(ranges)).order_by(
            ranges.c[self.selection.cursor.name]
        )

    def _id(self, position: Position) -> int | None:
        if position is None or isinstance(position, int):
            return position
        raise self.moved_strategy(position)

    def _require_integers(self) -> None:
        wanted = self.selection.feed.cursor.order
        found = self.selection.table.column(wanted, "cursor.column").type
        fraction = isinstance(found, Numeric) and bool(found.scale)
        if fraction or isinstance(found, _NO_INTEGERS):
            raise SourceRefused(
                f"feed {self.selection.feed.name}: cursor.column {wanted!r} is {found!r}; "
                "identity needs an integer column"
            )

    def _checked(self, values: Sequence[Any]) -> list[int]:
        """The ids as integers, ascending and distinct as they came."""
        ids = [value if type(value) is int else self._integer(value) for value in values]
        if ids and (ids[0] < LOWEST or ids[-1] > HIGHEST):
            raise self._unfit(f"{ids[0]} to {ids[-1]}, which is more than 64 bits hold")
        if len(set(ids)) < len(ids):
            double = next(left for left, right in pairwise(ids) if left == right)
            raise self._unfit(f"{double} more than once; a page could end between the two")
        return ids

    def _integer(self, value: Any) -> int:
        if isinstance(value, Decimal) and value == value.to_integral_value():
            return int(value)
        raise self._unfit(f"a value of type {type(value).__name__}")

    def _unfit(self, found: str) -> SourceRefused:
        feed = self.selection.feed
        return SourceRefused(
            f"feed {feed.name}: cursor.column {feed.cursor.order!r} holds {found}; identity needs distinct integers"
        )


def _number(row: Row[Any] | None) -> int | None:
    return None if row is None or row[0] is None else int(row[0])


def _counted_back(feed: Feed, standing: int, counter: Row[Any] | None) -> Ahead | None:
    """What the identity's own counter says: its last value, and what it counts by."""
    counted = _number(counter)
    if counter is None or counted is None:
        return None
    if (by := counter[-1]) is not None and len(counter) == 2 and by < 0:
        reason = f"the identity of {feed.table} counts down: new rows come below the cursor, where no poll reads them"
        return Ahead(f"{reason}; use strategy rowversion", certain=True)
    if standing <= counted:
        return None
    reason = (
        f"the cursor stands at {standing}, but the identity of {feed.table} has only reached {counted}: "
        f"the table was truncated, reseeded or restored to an older state; {advice(feed)}"
    )
    return Ahead(reason, certain=True)
