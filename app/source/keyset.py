"""What `rowversion` and `timestamp` share: rows ordered by the cursor column, then by the key.

A position is the list of these values, each as JSON holds it. The key breaks ties, so a page may end between two rows
with the same version or moment. Order and comparison are both the server's, by the columns' own collations, so they
agree with each other whatever these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, Row, Select, and_, bindparam, false, func, not_, or_, select
from sqlalchemy.types import BigInteger, LargeBinary, TypeEngine, Unicode
from sqlalchemy.types import _Binary as Binary  # the base of LargeBinary, BINARY and SQL Server's rowversion

from app.feed import parse_position
from app.models import Position
from app.source.catalogue import Column
from app.source.cursor_sql import CursorSql, Expression
from app.source.cursors import CursorStrategy, Selection, Statement
from app.source.gaps import Gaps

PartValue: TypeAlias = "int | str | None"


@dataclass(frozen=True, slots=True)
class Part:
    """One column of the order: how its value stands in a position, and is compared with it."""

    known: Column
    column: ColumnElement[Any]
    sql: CursorSql
    parameter: str

    def above(self, value: PartValue) -> ColumnElement[bool]:
        """NULL stands below everything, as it does in the order of SQL Server and SQLite."""
        return self.column.is_not(None) if value is None else self.column > self.bound(value)

    def below(self, value: PartValue) -> ColumnElement[bool]:
        """The opposite of `above` and `equal` together."""
        return false() if value is None else or_(self.column < self.bound(value), self.column.is_(None))

    def equal(self, value: PartValue) -> ColumnElement[bool]:
        return self.column.is_(None) if value is None else self.column == self.bound(value)

    def bound(self, value: PartValue) -> Expression:
        """The value as a parameter of the column's own type."""
        return self.sql.typed(_parameter(self.parameter, self.driver_value(value)), self.known.type)

    def driver_value(self, value: PartValue) -> int | str | bytes | None:
        if isinstance(value, str) and isinstance(self.known.type, Binary):
            return bytes.fromhex(value.removeprefix("0x"))
        return value

    def position_value(self, value: object) -> PartValue:
        """The driver's value as JSON holds it. Raises `TypeError` for a type that could not be returned to."""
        if isinstance(value, str) and not _storable(value):
            raise TypeError(f"column {self.known.name!r} holds text that is not Unicode")
        if value is None or isinstance(value, (int, str)):
            return value
        if isinstance(value, UUID):
            return str(value)
        if isinstance(value, Decimal):
            return format(value, "f")
        if isinstance(value, (bytes, bytearray, memoryview)):
            return "0x" + bytes(value).hex().upper()
        raise TypeError(f"column {self.known.name!r} holds a value of type {type(value).__name__}")


class VersionPart(Part):
    """A version: `0x` and 16 hexadecimal digits, whether the column holds 8 bytes or, on SQLite, an integer."""

    __slots__ = ()

    def driver_value(self, value: PartValue) -> int | str | bytes | None:
        number = int(str(value), 16)
        return number.to_bytes(8, "big") if isinstance(self.known.type, Binary) else number

    def position_value(self, value: object) -> PartValue:
        number = int.from_bytes(value, "big") if isinstance(value, (bytes, bytearray)) else value
        if not isinstance(number, int) or not 0 <= number < 2**64:
            raise TypeError(f"column {self.known.name!r} holds {value!r}, which is no version")
        return f"0x{number:016X}"


class Keyset(CursorStrategy):
    """Pages in the order of (cursor column, key)."""

    cursor_part: ClassVar[type[Part]] = Part

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        if selection.sql is None:
            raise self.refused(f"cannot serve: strategy {selection.feed.cursor.strategy.value} needs SQL Server")
        self.sql = selection.sql
        columns = list(dict.fromkeys([selection.cursor, *selection.key]))
        kinds = [self.cursor_part] + [Part] * (len(columns) - 1)
        self.parts = tuple(
            kind(column, selection.rows.c[column.name], self.sql, "position" if place == 0 else f"key{place}")
            for place, (kind, column) in enumerate(zip(kinds, columns, strict=True))
        )
        self.column = self.parts[0].column
        texts = [self.sql.text(part.column, part.known.type) for part in self.parts]
        shown = ((place, text) for place, text in enumerate(texts) if text is not None)
        added = [text.label(selection.fresh_name(f"rowrelay_{place}")) for place, text in shown]
        self._places = self._position_places(texts)
        self._rows = select(*selection.columns(selection.rows), *added)
        self._order = [part.column for part in self.parts]

    @property
    def every_row(self) -> Select[Any]:
        return self._rows

    @property
    def ordering(self) -> Sequence[ColumnElement[Any]]:
        return self._order

    def start(self, where: int | str, horizon: Any = None) -> Statement | None:
        """With `now`: the last row that a page could read now."""
        if where != "now":
            return None
        last = self._rows.where(self.column.is_not(None)).order_by(*(column.desc() for column in self._order))
        return self._below(last.limit(1), horizon)

    def started(self, where: int | str, rows: Sequence[Row[Any]], now: datetime) -> tuple[Position, Gaps]:
        del now
        if where == "beginning":
            return None, ()
        if where != "now":
            return parse_position(self.selection.feed.cursor.strategy, where), ()
        return (self.positions(rows)[0] if rows else self.lowest), ()

    def page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        beyond = self._rows.where(self.beyond(position)).order_by(*self._order)
        return self._below(beyond.limit(limit), horizon)

    def waiting(self, position: Position, limit: int) -> Statement:
        rows = select(self.column).where(self.beyond(position)).limit(limit).subquery()
        return Statement(select(func.count()).select_from(rows))

    def positions(self, rows: Sequence[Row[Any]]) -> list[Position]:
        try:
            return [
                [part.position_value(row[place]) for part, place in zip(self.parts, self._places, strict=True)]
                for row in rows
            ]
        except TypeError as error:
            raise self.refused(f"and key cannot make a position: {error}") from error

    def beyond(self, position: Position, name: str = "position") -> ColumnElement[bool]:
        if position is None:
            return self.column.is_not(None)
        parts = self._named(name)
        if isinstance(position, str):
            return self.beyond_value(parts[0], position)
        return self._beyond_row(parts, self._row_position(position))

    def upto(self, position: Position, name: str = "upto") -> ColumnElement[bool]:
        parts = self._named(name)
        if isinstance(position, str):
            return not_(self.beyond_value(parts[0], position))
        return self._upto_row(parts, self._row_position(position))

    def beyond_value(self, part: Part, value: str) -> ColumnElement[bool]:
        """That a row lies after a value of the cursor column (`part`) alone, as an operator writes it."""
        return part.above(value)

    def below(self, horizon: Any) -> ColumnElement[bool] | None:
        """That a row may be read already; `None` where every row may."""
        raise NotImplementedError

    def _below(self, rows: Select[Any], horizon: Any) -> Statement:
        bound = self.below(horizon)
        return Statement(rows if bound is None else rows.where(bound))

    def _named(self, name: str) -> tuple[Part, ...]:
        """The parts with parameters of that name, so that several positions stand in one statement.

        No parameter of ours ends in `_<number>`: SQLAlchemy gives such names, from columns, to the values of `where`.
        """
        if name == self.parts[0].parameter:
            return self.parts
        return tuple(
            replace(part, parameter=f"{name}key{place}" if place else name) for place, part in enumerate(self.parts)
        )

    def _row_position(self, position: Position) -> Sequence[PartValue]:
        """The position as one of a row. Raises `SourceRefused` for one that another strategy or key left."""
        if not isinstance(position, list) or len(position) != len(self.parts) or not isinstance(position[0], str):
            raise self.moved_strategy(position)
        return position

    def _beyond_row(self, parts: Sequence[Part], position: Sequence[PartValue]) -> ColumnElement[bool]:
        """`(c, k) > (:c, :k)` written out, with `c >= :c` in front: it is what the seek on an index starts from."""
        alternatives: list[ColumnElement[bool]] = []
        tied: list[ColumnElement[bool]] = []
        for part, value in zip(parts, position, strict=True):
            alternatives.append(and_(*tied, part.above(value)))
            tied.append(part.equal(value))
        return and_(self.column >= parts[0].bound(position[0]), or_(*alternatives))

    def _upto_row(self, parts: Sequence[Part], position: Sequence[PartValue]) -> ColumnElement[bool]:
        """`(c, k) <= (:c, :k)` written out, with `c <= :c` in front: it is where the seek ends."""
        alternatives: list[ColumnElement[bool]] = []
        tied: list[ColumnElement[bool]] = []
        for place, (part, value) in enumerate(zip(parts, position, strict=True)):
            alternatives.append(and_(*tied, part.below(value) if place else self.column < part.bound(value)))
            tied.append(part.equal(value))
        return and_(self.column <= parts[0].bound(position[0]), or_(*alternatives, and_(*tied)))

    def _position_places(self, texts: Sequence[Expression | None]) -> tuple[int, ...]:
        """Where in a row each part's value stands: its text, where one is selected, else the column."""
        places: list[int] = []
        extra = self.selection.extra_place
        for part, text in zip(self.parts, texts, strict=True):
            places.append(self.selection.place(part.known) if text is None else extra)
            extra += text is not None
        return tuple(places)


def _storable(text: str) -> bool:
    """Whether it has a form in UTF-8, as the ledger keeps it. Half a surrogate pair, as SQL Server takes, has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parameter(name: str, value: int | str | bytes | None) -> BindParameter[Any]:
    kinds: dict[type, TypeEngine[Any]] = {int: BigInteger(), str: Unicode(), bytes: LargeBinary()}
    return bindparam(name, value, type_=next(found for kind, found in kinds.items() if isinstance(value, kind)))
