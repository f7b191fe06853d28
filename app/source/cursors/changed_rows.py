"""Rows as change tracking gives them: those that changed or all of the table, each with a version;
and deleted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
)

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.core.position import Position
from app.core.rows import Ahead, SourceRow
from app.source.cursors.keyset import Keyset
from app.source.cursors.selection import Selection, Statement
from app.source.payload import RowShape, payload_json
from app.source.products.product import ChangesSql
from app.source.table import Column

VERSION, OPERATION, THERE, WALKED = (
    "SYS_CHANGE_VERSION",
    "SYS_CHANGE_OPERATION",
    "rowrelay_there",
    "rowrelay_walked",
)
DELETED = "_deleted"
"""What says, in a delivery's payload, that the row was deleted: beside the key, and `true`."""
_D: ColumnElement[Any] = literal_column("'D'")


@dataclass(frozen=True, slots=True)
class ChangeShape(RowShape):
    """Rows, and the keys of rows that were deleted."""

    operation: int = 0
    """Where a row says what happened to it."""
    key_names: tuple[str, ...] = ()
    deleted: str = DELETED

    def source_row(self, row: Sequence[Any], position: Position) -> SourceRow:
        if row[self.operation] != "D":
            return RowShape.source_row(self, row, position)
        found = self.key_row(row, position)
        if found.error:
            return found
        decoders = dict(self.decoders)
        values = [decoders.get(place, _as_it_is)(row[place]) for place in self.key_places]
        payload = payload_json(
            dict(zip(self.key_names, values, strict=True)) | {self.deleted: True}
        )
        return replace(found, payload=payload.decode())


class _Order(Keyset):
    """An order that the strategy reads rows in; it alone knows how far."""

    extra: ClassVar[tuple[str, ...]] = (OPERATION, WALKED)

    @property
    def lowest(self) -> Position:
        return None

    def newest(self, position: Position) -> list[Statement]:
        del position
        return []

    def ahead(self, cursor: Cursor, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        del cursor, newest
        return None


class Changes(_Order):
    """Changed rows, by (version, key)."""

    def below(self, horizon: Any) -> ColumnElement[bool] | None:
        return (
            None
            if horizon is None
            else self.column <= bindparam("horizon", int(horizon), type_=BigInteger)
        )


class Walk(_Order):
    """Every row of the table, by its key."""

    @classmethod
    def order_of(cls, selection: Selection) -> list[Column]:
        return list(selection.key)

    def below(self, horizon: Any) -> ColumnElement[bool] | None:
        del horizon
        return None


def sql_of(selection: Selection) -> ChangesSql:
    found = selection.sql.changes if selection.sql else None
    if found is None:
        feed, product = selection.feed, selection.product.name
        raise SourceRefused(
            f"feed {feed.name}: strategy change_tracking needs SQL Server; SOURCE_URL names {product}"
        )
    return found


def changed(selection: Selection) -> FromClause:
    """Each row that changed, as it is now."""
    changed, rows = sql_of(selection).changed(selection.table, selection.key), selection.rows
    key = [column.name for column in selection.key]
    known = [changed.c[name] for name in (VERSION, OPERATION, *key)]
    held = [rows.c[column.name] for column in selection.table.columns if column.name not in key]
    there = rows.c[selection.key[0].name].label(THERE)
    joined = changed.outerjoin(rows, and_(*(rows.c[name] == changed.c[name] for name in key)))
    return (
        select(*known, null().label(WALKED), there, *held).select_from(joined).subquery("changes")
    )


def whole(selection: Selection) -> FromClause:
    """Each row of the table, with its last version; 0 where that is not kept any more."""
    rows = sql_of(selection).versioned(selection.table, selection.key)
    version = func.coalesce(rows.c[VERSION], literal_column("0")).label(VERSION)
    walked = cast(bindparam("walked", 0, type_=BigInteger), BigInteger).label(WALKED)
    operation: ColumnElement[Any] = literal_column("'I'")
    there: ColumnElement[Any] = literal_column("1")
    marks = operation.label(OPERATION), walked, there.label(THERE)
    held = (rows.c[column.name] for column in selection.table.columns)
    return select(version, *marks, *held).subquery("walk")


def without_deletes(
    rows: FromClause, conditions: ColumnElement[bool] | None
) -> ColumnElement[bool]:
    """A row that was deleted after its change comes again, under the version of that."""
    there = rows.c[OPERATION] != _D, rows.c[THERE].is_not(None)
    return and_(*there) if conditions is None else and_(*there, conditions)


def with_deletes(rows: FromClause, conditions: ColumnElement[bool] | None) -> ColumnElement[bool]:
    known = or_(rows.c[OPERATION] == _D, rows.c[THERE].is_not(None))
    return known if conditions is None else and_(known, conditions)


def _as_it_is(value: Any) -> Any:
    return value
