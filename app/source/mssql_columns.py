"""Columns that SQL Server's catalogue hides from a login that may only SELECT.

SQLAlchemy reads a table's columns joined to their types. A login sees a type that a user defined (`CREATE TYPE … FROM`)
only with some permission on it, which SELECT on the table is not: such a column would vanish from what is sent, without
a word. `sys.columns` names it all the same, with the system's type that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, text
from sqlalchemy.dialects import mssql
from sqlalchemy.types import NullType, TypeEngine

Seen: TypeAlias = "Sequence[tuple[str, str | None, int, int, int]]"
"""Name, the system's type, length in bytes, precision and scale of every column, in order."""
Columns: TypeAlias = "list[tuple[str, TypeEngine[Any]]]"

_COLUMNS = text(
    "SELECT c.name, TYPE_NAME(c.system_type_id), c.max_length, c.precision, c.scale "
    "FROM sys.columns AS c WHERE c.object_id = OBJECT_ID(:name) ORDER BY c.column_id"
)
_WIDE = ("nchar", "nvarchar")
_SIZED = (*_WIDE, "char", "varchar", "binary", "varbinary")
_EXACT = ("decimal", "numeric")


def all_columns(connection: Connection, schema: str | None, name: str, found: Columns) -> Columns:
    """The columns found by SQLAlchemy, and those that were hidden from it, in the table's order.

    One whose type the login may not see at all comes with `NullType`.
    """
    written = ".".join(f"[{part.replace(']', ']]')}]" for part in (schema, name) if part)
    rows = connection.execute(_COLUMNS, {"name": written})
    return merged(found, [(row[0], row[1], row[2], row[3], row[4]) for row in rows], mssql.dialect.ischema_names)


def merged(found: Columns, seen: Seen, types: Mapping[str, Callable[..., TypeEngine[Any]]]) -> Columns:
    """As found where nothing was hidden; else in the order that was seen."""
    known = dict(found)
    if all(name in known for name, *_ in seen):
        return found
    return [
        (name, known[name] if name in known else _type(types, kind, length, precision, scale))
        for name, kind, length, precision, scale in seen
    ]


def _type(
    types: Mapping[str, Callable[..., TypeEngine[Any]]], kind: str | None, length: int, precision: int, scale: int
) -> TypeEngine[Any]:
    made = types.get(kind or "")
    if made is None or kind is None:
        return NullType()
    if kind in _SIZED:
        return made(length=None if length < 0 else length // 2 if kind in _WIDE else length)
    return made(precision=precision, scale=scale) if kind in _EXACT else made()
