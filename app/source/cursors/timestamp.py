"""The `timestamp` strategy: a column that says when a row was written, for tables that have nothing better.

A moment is set when a row is written, and seen when its transaction commits. Rows younger than `lag`, by the server's
clock, are left for later; a transaction that stays open for longer than that is passed over. Moments travel as the
server's own text, and are turned back by the server into the column's type, so that no digit is lost on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, case, literal_column, select

from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Ahead
from app.source.cursors.cursor import Selection, Statement
from app.source.cursors.keyset import Keyset, OrderColumn


class Timestamp(Keyset):
    """`WHERE (moment, key) > (:position, :key) AND moment < now - lag ORDER BY moment, key`."""

    def __init__(self, selection: Selection) -> None:
        self._type, sql = selection.cursor.type, selection.sql
        self.selection = selection
        if sql and not isinstance(self._type, sql.moment_types):
            raise self.refused(f"is {self._type!r}; timestamp needs a column of dates and times")
        super().__init__(selection)

    @property
    def lowest(self) -> Position:
        return self.sql.lowest_moment(self._type)

    def below(self, horizon: Any) -> ColumnElement[bool] | None:
        del horizon
        return self.sql.settled(self.column, self._type, self.selection.feed.cursor)

    def beyond_value(self, part: OrderColumn, value: str) -> ColumnElement[bool]:
        """From a moment on, that moment included: several rows may share it."""
        return part.column >= part.bound(value)

    def held_back(self, horizon: Any) -> str | None:
        del horizon
        spec = self.selection.feed.cursor
        return (
            f"they are not older than cursor.lag, {spec.lag.total_seconds():g} s, by the server's clock: they hold "
            f'moments to come, or another clock than cursor.clock = "{spec.clock}" says'
        )

    def newest(self, position: Position) -> list[Statement]:
        moment = self.parts[0].bound(self.change(position))
        shown = self.parts[0].codec.shown(self.column)
        older = case((self.column < moment, literal_column("1")), else_=literal_column("0"))
        return [Statement(select(self.column if shown is None else shown, older).order_by(self.column.desc()).limit(1))]

    def ahead(self, cursor: Cursor, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        """Never certain: new rows carry later moments, so nothing is passed over but what is written with old ones."""
        position = cursor.position
        moment, older = (None, True) if newest[0] is None else tuple(newest[0])
        if moment is not None and not older:
            return None
        found = "the table is empty" if moment is None else f"the table's newest row is of {moment}"
        return Ahead(
            f"the cursor stands at {self.change(position)}, but {found}: rows were deleted, or an older state restored",
            certain=False,
        )
