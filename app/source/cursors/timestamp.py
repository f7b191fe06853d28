"""The `timestamp` strategy: a column that says when a row was written, for tables that have nothing
better.

A moment is set when a row is written, and seen when its transaction commits. Rows younger than
`lag`, by the server's clock, are left for later; a transaction that stays open for longer than that
is passed over. Moments travel as the server's own text, and are turned back by the server into the
column's type, so that no digit is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Row, case, literal_column, select
from sqlalchemy.types import TypeEngine

from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Ahead
from app.feeds.cursors.timestamp import TimestampCursor
from app.source.cursors.keyset import Keyset, OrderColumn
from app.source.cursors.selection import Selection, Statement
from app.source.findings import Finding, Level
from app.source.indexes import Index
from app.source.products.product import Product


class Timestamp(Keyset):
    """`WHERE (moment, key) > (:position, :key) AND moment < now - lag ORDER BY moment, key`."""

    on_replica: ClassVar[str] = (
        "a row that it gets later than lag, under an earlier moment than one read, is passed over; "
        "make lag longer than it may ever lag, or read from the primary"
    )
    example_place: ClassVar[str] = "2026-01-31 10:00:00.1234567"

    def __init__(self, selection: Selection) -> None:
        self._type, sql, spec = selection.cursor.type, selection.sql, selection.feed.cursor
        assert isinstance(spec, TimestampCursor)  # noqa: S101 - the registry goes by the schema's name
        self._spec = spec
        self.selection = selection
        if sql and not isinstance(self._type, sql.moment_types):
            raise self.refused(f"is {self._type!r}; timestamp needs a column of dates and times")
        super().__init__(selection)

    @classmethod
    def assumed_type(cls, product: Product) -> TypeEngine[Any]:
        return product.cursors.usual_moment() if product.cursors else super().assumed_type(product)

    def findings(
        self, connection: Connection, indexes: Sequence[Index], *, view: bool
    ) -> Iterator[Finding]:
        yield from super().findings(connection, indexes, view=view)
        yield from self._clock_finding(connection)

    def _clock_finding(self, connection: Connection) -> Iterator[Finding]:
        """Whether the hour that comes twice, when daylight saving time ends, may be passed over."""
        clock = self._spec.clock
        if clock == "utc" or "OFFSET" in type(self._type).__name__.upper():
            return
        behind = (
            clock == "either"
            and int(connection.execute(select(self.sql.offset_minutes)).scalar_one()) < 0
        )
        if clock == "local" or behind:
            said = (
                f"{self._spec.column} may hold local time: in the autumn night in which an hour comes twice, rows of "
                "the second one lie below the cursor, and no poll reads them (the next reconciliation does); write UTC "
                'and set clock = "utc", or use strategy rowversion'
            )
            yield Finding("clock", Level.WARNING, said)

    @property
    def lowest(self) -> Position:
        return self.sql.lowest_moment(self._type)

    def below(self, horizon: Any) -> ColumnElement[bool] | None:
        del horizon
        return self.sql.settled(self.column, self._type, self._spec)

    def beyond_value(self, part: OrderColumn, value: str) -> ColumnElement[bool]:
        """From a moment on, that moment included: several rows may share it."""
        return part.column >= part.bound(value)

    def held_back(self, horizon: Any) -> str | None:
        del horizon
        spec = self._spec
        return (
            f"they are not older than cursor.lag, {spec.lag.total_seconds():g} s, by the server's clock: they hold "
            f'moments to come, or another clock than cursor.clock = "{spec.clock}" says'
        )

    def newest(self, position: Position) -> list[Statement]:
        moment = self.parts[0].bound(self.change(position))
        shown = self.parts[0].codec.shown(self.column)
        older = case((self.column < moment, literal_column("1")), else_=literal_column("0"))
        return [
            Statement(
                select(self.column if shown is None else shown, older)
                .order_by(self.column.desc())
                .limit(1)
            )
        ]

    def ahead(self, cursor: Cursor, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        """Never certain: new rows carry later moments, so nothing is passed over but what is
        written with old ones.
        """
        position = cursor.position
        moment, older = (None, True) if newest[0] is None else tuple(newest[0])
        if moment is not None and not older:
            return None
        found = "the table is empty" if moment is None else f"the table's newest row is of {moment}"
        return Ahead(
            f"the cursor stands at {self.change(position)}, but {found}: rows were deleted, or an older state restored",
            certain=False,
        )
