"""Columns of a type that a login may not see are in the table all the same."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import types
from sqlalchemy.dialects import mssql

from app.core.errors import SourceRefused
from app.source.plan import plan_table
from app.source.products.mssql.columns import Columns, Seen, merged
from app.source.products.mssql.position_codecs import mssql_codec
from app.source.products.registry import PRODUCTS
from app.source.table import Column, SourceTable
from tests.support.sources import source_feed

TYPES = mssql.dialect.ischema_names
SEEN = [
    Seen("id", "int", 4, 10, 0, None),
    Seen("phone", "varchar", 20, 0, 0, "Cyrillic_General_CI_AS"),
    Seen("title", "nvarchar", 100, 0, 0, None),
    Seen("note", "nvarchar", -1, 0, 0, None),
    Seen("price", "decimal", 9, 12, 2, None),
    Seen("place", None, -1, 0, 0, None),
]
FOUND: Columns = [("id", types.INTEGER())]


def test_hidden_columns_come_in_the_tables_order_with_the_type_they_rest_on() -> None:
    columns = dict(merged(list(FOUND), SEEN, TYPES))
    assert [*columns] == ["id", "phone", "title", "note", "price", "place"]
    assert columns["id"] is FOUND[0][1]
    dialect = _dialect()
    shown = {
        name: str(kind.compile(dialect=dialect))
        for name, kind in columns.items()
        if name != "place"
    }
    assert shown == {
        "id": "INTEGER",
        "phone": "VARCHAR(20) COLLATE Cyrillic_General_CI_AS",
        "title": "NVARCHAR(50)",
        "note": "NVARCHAR(max)",
        "price": "DECIMAL(12, 2)",
    }


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "bit",
            "tinyint",
            "smallint",
            "int",
            "bigint",
            "decimal",
            "numeric",
            "money",
            "smallmoney",
            "float",
            "real",
        ),
        *(
            "date",
            "time",
            "datetime",
            "datetime2",
            "smalldatetime",
            "datetimeoffset",
            "uniqueidentifier",
        ),
        *("char", "varchar", "nchar", "nvarchar", "binary", "varbinary"),
    ],
)
def test_a_hidden_column_can_be_the_key_whatever_an_alias_may_rest_on(kind: str) -> None:
    """Sizes as `sys.columns` gives them."""
    (named,) = merged(
        [], [Seen("k", kind, 8, 18, 4, "Cyrillic_General_CI_AS" if "char" in kind else None)], TYPES
    )
    codec = mssql_codec(Column(*named))
    assert codec is not None
    if kind == "varchar":  # text of a code page is compared by the column's, not by the database's
        assert "Cyrillic_General_CI_AS" in str(codec.bind("p", "Ж").compile(dialect=_dialect()))


def test_a_key_of_a_type_that_nobody_can_tell_is_refused_and_sent_as_a_value() -> None:
    columns = tuple(Column(*found) for found in merged(list(FOUND), SEEN, TYPES))
    table = SourceTable("orders", None, "orders", columns)
    feed = source_feed("orders", "identity", "id")
    plan = plan_table(table, feed, PRODUCTS["mssql"])
    assert plan.shape.names == ("id", "phone", "title", "note", "price", "place")
    with pytest.raises(SourceRefused, match=r"key: column 'place' of table 'orders' is NullType"):
        plan_table(table, feed.model_copy(update={"key": ("place",)}), PRODUCTS["mssql"])


def _dialect() -> Any:
    return mssql.dialect()  # type: ignore[no-untyped-call]


def test_a_type_that_cannot_be_seen_at_all_is_nobodys() -> None:
    assert isinstance(dict(merged(list(FOUND), SEEN, TYPES))["place"], types.NullType)


def test_where_nothing_is_hidden_all_is_as_it_was_found() -> None:
    assert merged(FOUND, SEEN[:1], TYPES) is FOUND
