"""Columns that SQL Server's catalogue hides from a login that may only SELECT.

SQLAlchemy reads a table's columns joined to their types. A login sees a type that a user defined
(`CREATE TYPE … FROM`) only with some permission on it, which SELECT on the table is not: such a
column would vanish from what is sent, without a word. `sys.columns` names it all the same, with the
system's type that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Connection, text
from sqlalchemy.types import NullType, TypeEngine

from app.source.table import quoted_table


class Seen(NamedTuple):
    """A column as `sys.columns` has it."""

    name: str
    kind: str | None
    """The system's type that it rests on."""
    length: int
    """In bytes; -1: any."""
    precision: int
    scale: int
    collation: str | None


Columns: TypeAlias = "list[tuple[str, TypeEngine[Any]]]"

_COLUMNS = text(
    "SELECT c.name, TYPE_NAME(c.system_type_id), c.max_length, c.precision, c.scale, c.collation_name "
    "FROM sys.columns AS c WHERE c.object_id = OBJECT_ID(:name) ORDER BY c.column_id"
)
_DIGITS = text("SELECT name, scale FROM sys.columns WHERE object_id = OBJECT_ID(:name)")
_WIDE = ("nchar", "nvarchar")
_TEXT = (*_WIDE, "char", "varchar")
_SIZED = (*_TEXT, "binary", "varbinary")
_EXACT = ("decimal", "numeric")


def all_columns(connection: Connection, schema: str | None, name: str, found: Columns) -> Columns:
    """The columns found by SQLAlchemy, and those that were hidden from it, in the table's order.

    One whose type the login may not see at all comes with `NullType`. Sync, for
    `AsyncConnection.run_sync`.
    """
    named = quoted_table(schema, name)
    rows = connection.execute(_COLUMNS, {"name": named})
    types: Any = connection.dialect  # only dialects that can read a catalogue have this attribute
    columns = merged(found, [Seen(*row) for row in rows], types.ischema_names)
    _tell_digits(connection, named, columns)
    return columns


def _tell_digits(connection: Connection, named: str, columns: Columns) -> None:
    """Give types of dates and times the digits of a second that SQL Server declares: SQLAlchemy
    leaves them out.
    """
    untold = {name: kind for name, kind in columns if getattr(kind, "precision", 0) is None}
    if untold:
        for name, digits in connection.execute(_DIGITS, {"name": named}):
            if name in untold:
                vars(untold[name])["precision"] = digits


def merged(
    found: Columns, seen: Sequence[Seen], types: Mapping[str, Callable[..., TypeEngine[Any]]]
) -> Columns:
    """As found where nothing was hidden; else in the order that was seen."""
    known = dict(found)
    if all(column.name in known for column in seen):
        return found
    return [(column.name, known.get(column.name) or _type(types, column)) for column in seen]


def _type(types: Mapping[str, Callable[..., TypeEngine[Any]]], column: Seen) -> TypeEngine[Any]:
    kind = column.kind
    made = types.get(kind or "")
    if made is None or kind is None:
        return NullType()
    if kind in _SIZED:
        size = None if column.length < 0 else column.length // 2 if kind in _WIDE else column.length
        return made(length=size, collation=column.collation) if kind in _TEXT else made(length=size)
    return made(precision=column.precision, scale=column.scale) if kind in _EXACT else made()
