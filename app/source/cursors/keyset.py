"""Reading in the order of (cursor column, key): the base of `rowversion`, `timestamp` and
`change_tracking`.

A position is the list of these values, each as JSON holds it. The key breaks ties, so a page may
end between two rows with the same version or moment. Order and comparison are both the server's, by
the columns' own collations, so they agree with each other whatever these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, ColumnElement, Row, Select, and_, false, func, not_, or_, select
from sqlalchemy.types import NullType
from sqlalchemy.types import (
    _Binary as Binary,
)  # the base of LargeBinary, BINARY and SQL Server's rowversion

from app.core.position import Position
from app.source.cursors.gaps import Gaps
from app.source.cursors.selection import Selection, Statement
from app.source.cursors.strategy import TIES, CursorStrategy
from app.source.position_codec import POSITION_CHARACTERS, Codec, Expression, PartValue, Unplaceable
from app.source.table import Column


@dataclass(frozen=True, slots=True)
class OrderColumn:
    """One column of the order: how its value stands in a position, and is compared with it."""

    column: ColumnElement[Any]
    codec: Codec
    parameter: str

    def above(self, value: PartValue) -> ColumnElement[bool]:
        """NULL stands below everything, as it does in the order of SQL Server and SQLite."""
        return self.column.is_not(None) if value is None else self.column > self.bound(value)

    def below(self, value: PartValue) -> ColumnElement[bool]:
        """The opposite of `above` and `equal` together."""
        return (
            false()
            if value is None
            else or_(self.column < self.bound(value), self.column.is_(None))
        )

    def equal(self, value: PartValue) -> ColumnElement[bool]:
        return self.column.is_(None) if value is None else self.column == self.bound(value)

    def bound(self, value: PartValue) -> Expression:
        """The value as a parameter of the column's own type."""
        return self.codec.bind(self.parameter, value)


class VersionCodec(Codec):
    """A version: `0x` and 16 hexadecimal digits, whether the column holds 8 bytes or, on SQLite, an
    integer.
    """

    def __init__(self, inner: Codec) -> None:
        self.name, self.type, self._inner = inner.name, inner.type, inner

    def place(self, value: object) -> PartValue:
        if isinstance(self.type, Binary):
            number = (
                int.from_bytes(value, "big")
                if isinstance(value, bytes) and len(value) == 8
                else None
            )
        else:
            number = value if isinstance(value, int) else None
        if number is None or not 0 <= number < 2**64:
            raise Unplaceable(f"holds {value!a:.40}, which is no version")
        return f"0x{number:016X}"

    def fits(self, place: PartValue) -> bool:
        return isinstance(place, str) and place.startswith("0x")

    def lowered(self, place: PartValue) -> PartValue:
        raise ValueError(f"{place!a:.40} is no version")

    def bind(self, parameter: str, place: PartValue) -> Expression:
        digits = str(place).removeprefix("0x")
        number = int(digits, 16)
        return self._inner.bind(
            parameter, f"0x{number:016X}" if isinstance(self.type, Binary) else number
        )


def example_key(column: Column) -> int | str:
    """A value of a column of the key, to show statements with."""
    return (
        2000
        if isinstance(column.type, (BigInteger, NullType)) or "INT" in str(column.type)
        else "0x2A"
    )


class Keyset(CursorStrategy):
    """Pages in the order of (cursor column, key)."""

    example_place: ClassVar[str]
    """A value of the cursor column, as a position has it."""
    extra: ClassVar[tuple[str, ...]] = ()
    """Columns that are read after all others, from `extra_place` on."""
    precise: ClassVar[bool] = False
    """No two rows share a value of the cursor column."""

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        if selection.sql is None:
            raise self.refused(
                f"cannot serve: strategy {selection.feed.cursor.strategy} needs SQL Server"
            )
        self.sql = selection.sql
        self._columns = self.order_of(selection)
        codecs = dict(zip(selection.key, selection.key_codecs, strict=True))
        codecs[selection.cursor] = self.cursor_codec()
        self.parts = tuple(
            OrderColumn(
                selection.rows.c[column.name],
                codecs[column],
                f"key{place}" if place else "position",
            )
            for place, column in enumerate(self._columns)
        )
        self.column = self.parts[0].column
        texts = [part.codec.shown(part.column) for part in self.parts]
        shown = ((place, text) for place, text in enumerate(texts) if text is not None)
        added = [text.label(selection.fresh_name(f"rowrelay_{place}")) for place, text in shown]
        self._places = self._position_places(texts)
        extra = (selection.rows.c[name] for name in self.extra)
        self._rows = select(*selection.columns(selection.rows), *added, *extra)
        self.extra_place = selection.extra_place + len(added)
        self.order = [part.column for part in self.parts]

    @classmethod
    def order_of(cls, selection: Selection) -> list[Column]:
        """The columns that rows are ordered by."""
        return list(dict.fromkeys([selection.cursor, *selection.key]))

    @property
    def every_row(self) -> Select[Any]:
        return self._rows

    @property
    def example(self) -> Position:
        return [self.example_place, *(example_key(column) for column in self._columns[1:])]

    def start(self, where: int | str, horizon: Any = None) -> Statement | None:
        """With `now`: the last row that a page could read now."""
        return self.latest(1, horizon) if where == "now" else None

    def started(
        self, where: int | str, rows: Sequence[Row[Any]], now: datetime
    ) -> tuple[Position, Gaps]:
        del now
        if where == "beginning":
            return None, ()
        if where != "now":
            return self.selection.feed.cursor.parse_position(where), ()
        return (self.positions(rows)[0] if rows else self.lowest), ()

    def page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        beyond = self._rows.where(self.beyond(position)).order_by(*self.order)
        return self._below(beyond.limit(limit), horizon)

    def latest(self, limit: int, horizon: Any = None) -> Statement:
        last = self._rows.where(self.column.is_not(None)).order_by(
            *(column.desc() for column in self.order)
        )
        return self._below(last.limit(limit), horizon)

    def last_upto(self, position: Position, limit: int) -> Statement:
        last = self._rows.where(self.upto(position)).order_by(
            *(column.desc() for column in self.order)
        )
        return Statement(last.limit(limit))

    def waiting(self, position: Position, limit: int) -> Statement:
        rows = select(self.column).where(self.beyond(position)).limit(limit).subquery()
        return Statement(select(func.count()).select_from(rows))

    def positions(self, rows: Sequence[Row[Any]], before: Position = None) -> list[Position]:
        positions: list[Position] = []
        for row in rows:
            before = self._position(row, before)
            positions.append(before)
        return positions

    def reached(
        self, positions: Sequence[Position], before: Position, *, more: bool, horizon: Any = None
    ) -> Position:
        """The last place in the page that can be told from what follows it; where there is none,
        its last value.

        A row after that place is read again by the next page.
        """
        del horizon
        if not positions:
            return before
        told = (
            positions[-1:]
            if self.precise
            else [found for found in positions if isinstance(found, list)]
        )
        reached = told[-1] if told else positions[-1]
        if more and reached == before:
            raise self.refused(
                f"and key cannot be read past {self.change(reached)}: none of the next {len(positions)} rows has a "
                "value there that a position could hold (docs/types.md)"
            )
        return reached

    def cursor_codec(self) -> Codec:
        """How the cursor column's values stand in a position."""
        codec = self.selection.product.codec(self.selection.cursor)
        if codec is None:
            raise self.refused(f"is {self.selection.cursor.type!r}, which the server does not sort")
        return codec

    def _position(self, row: Row[Any], before: Position) -> Position:
        """A row's own position; of one whose key cannot stand in it, the cursor column's value
        alone.

        Where not even that can, the position of the row before it.
        """
        first, *rest = zip(self.parts, self._places, strict=True)
        try:
            value = first[0].codec.place(row[first[1]])
        except Unplaceable:
            return before
        try:
            position = [value, *(part.codec.place(row[place]) for part, place in rest)]
        except Unplaceable:
            position = []
        if (
            not position
            or sum(len(part) for part in position if isinstance(part, str)) > POSITION_CHARACTERS
        ):
            return value if isinstance(value, str) else before
        return position

    def tied(self, last: Position, following: Position) -> Statement | None:
        if not isinstance(last, list) or not isinstance(following, list) or last[0] != following[0]:
            return None
        same = [part.equal(value) for part, value in zip(self.parts, last, strict=True)]
        return Statement(self._rows.where(*same).limit(TIES + 1))

    def beyond(self, position: Position, name: str = "position") -> ColumnElement[bool]:
        if position is None:
            return self.column.is_not(None)
        parts = self._named(name)
        values = self._values(position)
        return (
            self.beyond_value(parts[0], values)
            if isinstance(values, str)
            else self._beyond_row(parts, values)
        )

    def upto(self, position: Position, name: str = "upto") -> ColumnElement[bool]:
        parts = self._named(name)
        values = self._values(position)
        return (
            not_(self.beyond_value(parts[0], values))
            if isinstance(values, str)
            else self._upto_row(parts, values)
        )

    def beyond_value(self, part: OrderColumn, value: str) -> ColumnElement[bool]:
        """That a row lies after a value of the cursor column (`part`) alone, as an operator writes
        it.
        """
        return part.above(value)

    def below(self, horizon: Any) -> ColumnElement[bool] | None:
        """That a row may be read already; `None` where every row may."""
        raise NotImplementedError

    def _below(self, rows: Select[Any], horizon: Any) -> Statement:
        bound = self.below(horizon)
        return Statement(rows if bound is None else rows.where(bound))

    def _named(self, name: str) -> tuple[OrderColumn, ...]:
        """The parts with parameters of that name, so that several positions stand in one statement.

        No parameter of ours ends in `_<number>`: SQLAlchemy gives such names, from columns, to the
        values of `where`.
        """
        if name == self.parts[0].parameter:
            return self.parts
        return tuple(
            replace(part, parameter=f"{name}key{place}" if place else name)
            for place, part in enumerate(self.parts)
        )

    def _values(self, position: Position) -> str | Sequence[PartValue]:
        """The position's parts; or a value of the cursor column alone, where the order is to be
        entered there.

        That is so where an operator gave one; and where a column's type was changed, so that the
        position is not of the form that it would have now: then some rows are read again, and none
        is passed over. Raises `SourceRefused` for a position that another strategy or key left.
        """
        if isinstance(position, str):
            return position
        if (
            not isinstance(position, list)
            or len(position) != len(self.parts)
            or position[0] is None
        ):
            raise self.moved_strategy(position)
        if all(part.codec.fits(value) for part, value in zip(self.parts, position, strict=True)):
            return position
        first = self.parts[0].codec
        try:
            lower = position[0] if first.fits(position[0]) else first.lowered(position[0])
        except ValueError as error:
            raise self.moved_strategy(position, f"{error}") from error
        if not isinstance(lower, str):
            raise self.moved_strategy(position)
        return lower

    def _beyond_row(
        self, parts: Sequence[OrderColumn], position: Sequence[PartValue]
    ) -> ColumnElement[bool]:
        """`(c, k) > (:c, :k)` written out, with `c >= :c` in front: it is what the seek on an index
        starts from.
        """
        alternatives: list[ColumnElement[bool]] = []
        tied: list[ColumnElement[bool]] = []
        for part, value in zip(parts, position, strict=True):
            alternatives.append(and_(*tied, part.above(value)))
            tied.append(part.equal(value))
        return and_(self.column >= parts[0].bound(position[0]), or_(*alternatives))

    def _upto_row(
        self, parts: Sequence[OrderColumn], position: Sequence[PartValue]
    ) -> ColumnElement[bool]:
        """`(c, k) <= (:c, :k)` written out, with `c <= :c` in front: it is where the seek ends."""
        alternatives: list[ColumnElement[bool]] = []
        tied: list[ColumnElement[bool]] = []
        for place, (part, value) in enumerate(zip(parts, position, strict=True)):
            alternatives.append(
                and_(*tied, part.below(value) if place else self.column < part.bound(value))
            )
            tied.append(part.equal(value))
        return and_(self.column <= parts[0].bound(position[0]), or_(*alternatives, and_(*tied)))

    def _position_places(self, texts: Sequence[Expression | None]) -> tuple[int, ...]:
        """Where in a row each part's value stands: its text, where one is selected, else the
        column.
        """
        places: list[int] = []
        extra = self.selection.extra_place
        for column, text in zip(self._columns, texts, strict=True):
            places.append(self.selection.place(column) if text is None else extra)
            extra += text is not None
        return tuple(places)
