"""Columns of a type that a login may not see are in the table all the same."""

from __future__ import annotations

from sqlalchemy import types
from sqlalchemy.dialects import mssql

from app.source.mssql_columns import Columns, Seen, merged

TYPES = mssql.dialect.ischema_names
SEEN: Seen = [
    ("id", "int", 4, 10, 0),
    ("phone", "varchar", 20, 0, 0),
    ("title", "nvarchar", 100, 0, 0),
    ("note", "nvarchar", -1, 0, 0),
    ("price", "decimal", 9, 12, 2),
    ("place", None, -1, 0, 0),
]
FOUND: Columns = [("id", types.INTEGER())]


def test_hidden_columns_come_in_the_tables_order_with_the_type_they_rest_on() -> None:
    columns = dict(merged(list(FOUND), SEEN, TYPES))
    assert [*columns] == ["id", "phone", "title", "note", "price", "place"]
    assert columns["id"] is FOUND[0][1]
    dialect = mssql.dialect()  # type: ignore[no-untyped-call]
    shown = {name: str(kind.compile(dialect=dialect)) for name, kind in columns.items() if name != "place"}
    assert shown == {
        "id": "INTEGER",
        "phone": "VARCHAR(20)",
        "title": "NVARCHAR(50)",
        "note": "NVARCHAR(max)",
        "price": "DECIMAL(12, 2)",
    }


def test_a_type_that_cannot_be_seen_at_all_is_nobodys() -> None:
    assert isinstance(dict(merged(list(FOUND), SEEN, TYPES))["place"], types.NullType)


def test_where_nothing_is_hidden_all_is_as_it_was_found() -> None:
    assert merged(FOUND, SEEN[:1], TYPES) is FOUND
