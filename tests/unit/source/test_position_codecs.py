"""How SQL Server's values come back into a statement, by the statement's text: what no other server
shows.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import column
from sqlalchemy.dialects import mssql, registry
from sqlalchemy.types import NullType, TypeEngine

from app.core.errors import SourceRefused
from app.core.keys import LONGEST_KEY
from app.core.position import Position
from app.core.rows import SourceRow
from app.feeds.feed import Feed
from app.ledger.delivery_documents import delivery_id
from app.source.plan import FeedPlan, plan_table
from app.source.position_codec import Codec, PartValue
from app.source.products.mssql.position_codecs import mssql_codec
from app.source.products.mssql.types import Hierarchyid, LongText, Spatial
from app.source.products.registry import PRODUCTS
from app.source.products.sqlite.position_codecs import sqlite_codec
from app.source.table import Column, SourceTable

DIALECT: Any = registry.load("mssql")(paramstyle="named")
FLOAT: Any = mssql.FLOAT
REAL: Any = mssql.REAL
BIT: Any = mssql.BIT
VARIANT: Any = mssql.SQL_VARIANT
MONEY: Any = mssql.MONEY
SMALLMONEY: Any = mssql.SMALLMONEY
OFFSET: Any = mssql.DATETIMEOFFSET
DATETIME2: Any = mssql.DATETIME2
ROWVERSION: Any = mssql.ROWVERSION
VARBINARY: Any = mssql.VARBINARY
TIME: Any = mssql.TIME
M = ":p AS NUMERIC(19, 4)"
CYRILLIC = "Cyrillic_General_CI_AS"
UTF8 = "Latin1_General_100_CI_AS_SC_UTF8"


def _codec(kind: TypeEngine[Any]) -> Codec:
    found = mssql_codec(Column("k", kind))
    assert found is not None
    return found


def _bound(kind: TypeEngine[Any], place: PartValue) -> tuple[str, object]:
    """The SQL of a position's value, and what is sent for it."""
    compiled = _codec(kind).bind("p", place).compile(dialect=DIALECT)
    return str(compiled), compiled.params["p"]


@pytest.mark.parametrize(
    ("kind", "value", "sql", "sent"),
    [
        (BIT(), True, ":p", 1),
        (mssql.BIGINT(), 2**63 - 1, ":p", 2**63 - 1),
        (
            mssql.DECIMAL(38, 10),
            Decimal("-1.0000000001"),
            "CAST(:p AS NUMERIC(38, 10))",
            "-1.0000000001",
        ),
        (
            MONEY(),
            Decimal("-922337203685477.5808"),
            "CAST(CAST(:p AS NUMERIC(19, 4)) AS MONEY)",
            "-922337203685477.5808",
        ),
        (
            SMALLMONEY(),
            Decimal("1.5000"),
            "CAST(CAST(:p AS NUMERIC(10, 4)) AS SMALLMONEY)",
            "1.5000",
        ),
        (FLOAT(), 0.1 + 0.2, ":p", 0.1 + 0.2),
        (REAL(), 0.10000000149011612, ":p", 0.10000000149011612),
        (mssql.NVARCHAR(20), "Ж ", "CAST(:p AS NVARCHAR(20))", "Ж "),
        (mssql.NVARCHAR(), "x", "CAST(:p AS NVARCHAR(max))", "x"),
        (
            mssql.NVARCHAR(20),
            "a\ud83d",
            "CAST(CAST(:p AS VARBINARY(max)) AS NVARCHAR(20))",
            b"a\x00\x3d\xd8",
        ),
        (
            mssql.VARCHAR(20, collation=CYRILLIC),
            "Ж1",
            f"CAST(:p COLLATE {CYRILLIC} AS VARCHAR(20))",
            "Ж1",
        ),
        (mssql.CHAR(5, collation=UTF8), "é    ", f"CAST(:p COLLATE {UTF8} AS CHAR(5))", "é    "),
        (VARBINARY(8), b"\x00\xff", "CAST(:p AS VARBINARY(8))", b"\x00\xff"),
        (ROWVERSION(), b"\0" * 7 + b"\1", "CAST(:p AS BINARY(8))", b"\0" * 7 + b"\1"),
        (Hierarchyid(), "/1/2.1/", "CONVERT(hierarchyid, :p)", "/1/2.1/"),
        (
            OFFSET(7),
            "2026-01-31 10:20:30.1234567 +05:30",
            "CONVERT(DATETIMEOFFSET(7), :p, 121)",
            "2026-01-31 10:20:30.1234567 +05:30",
        ),
        (
            DATETIME2(3),
            "2026-01-31 10:20:30.123",
            "CONVERT(DATETIME2(3), :p, 121)",
            "2026-01-31 10:20:30.123",
        ),
        (TIME(7), "10:20:30.1234567", "CONVERT(TIME(7), :p, 121)", "10:20:30.1234567"),
    ],
)
def test_a_value_comes_back_as_the_columns_own_type(
    kind: TypeEngine[Any], value: object, sql: str, sent: object
) -> None:
    assert _bound(kind, _codec(kind).place(value)) == (sql, sent)


@pytest.mark.parametrize("kind", [BIT(), MONEY(), FLOAT(), mssql.NVARCHAR(20), VARBINARY(8)])
def test_what_a_key_text_says_is_what_the_position_says(kind: TypeEngine[Any]) -> None:
    values: dict[type, list[Any]] = {
        mssql.BIT: [True, False],
        mssql.MONEY: [Decimal("12.5000")],
        mssql.FLOAT: [1.0, -0.5, 1e300],
        mssql.NVARCHAR: ["a:b", " Ж ", "a\ud83d"],
        mssql.VARBINARY: [b"", b"\x00\xff"],
    }
    codec = _codec(kind)
    for value in values[type(kind)]:
        assert codec.read(codec.write(value)) == codec.place(value)


def test_a_datetime_key_is_found_by_what_the_driver_gave_for_it() -> None:
    codec = _codec(mssql.DATETIME())
    place = codec.read(codec.write(datetime(2026, 1, 31, 10, 20, 30, 997000)))  # noqa: DTZ001 - the column has no offset
    assert _bound(mssql.DATETIME(), place) == (
        "CONVERT(DATETIME, CONVERT(DATETIME2(3), :p, 121))",
        "2026-01-31 10:20:30.997000",
    )


@pytest.mark.parametrize(
    ("kind", "shown", "place"),
    [
        (DATETIME2(7), "2026-01-31 10:20:30.997", "2026-01-31 10:20:30.9970000"),
        (DATETIME2(7), "2026-01-31 10:20:30.1234567", "2026-01-31 10:20:30.1234567"),
        (OFFSET(7), "2026-01-31 10:20:30.997 +05:30", "2026-01-31 10:20:30.9970000 +05:30"),
        (DATETIME2(7), "2026-01-31 10:20:30", "2026-01-31 10:20:30"),
        (DATETIME2(0), "2026-01-31 10:20:30", "2026-01-31 10:20:30"),
        (mssql.DATETIME(), "2026-01-31 10:20:30.997", "2026-01-31 10:20:30.997"),
    ],
)
def test_a_position_of_ours_fits_whatever_digits_the_server_writes(
    kind: TypeEngine[Any], shown: str, place: str
) -> None:
    codec = _codec(kind)
    assert codec.place(shown) == place
    assert codec.fits(place)


def test_a_datetimeoffset_is_shown_whole() -> None:
    shown = _codec(OFFSET(7)).shown(column("at"))
    assert shown is not None
    assert "VARCHAR(40)" in str(shown.compile(dialect=DIALECT))


def _plan(
    strategy: str, column: str, types: dict[str, TypeEngine[Any]], key: str = "id"
) -> FeedPlan:
    cursor = {"strategy": strategy, "column": column}
    plain = {"name": "orders", "table": "orders", "key": key, "cursor": cursor}
    feed = Feed.model_validate(plain | {"partner": {"url": "https://partner.example/"}})
    table = SourceTable(
        "orders", None, "orders", tuple(Column(name, kind) for name, kind in types.items())
    )
    return plan_table(table, feed, PRODUCTS["mssql"])


@pytest.mark.parametrize(
    "kind",
    [
        mssql.TEXT(),
        mssql.NTEXT(),
        mssql.IMAGE(),
        mssql.XML(),
        VARIANT(),
        Spatial(),
        LongText(),
        NullType(),
    ],
)
@pytest.mark.parametrize("strategy", ["identity", "rowversion", "timestamp"])
def test_a_key_that_cannot_tell_rows_apart_is_refused_by_name_when_the_feed_is_planned(
    kind: TypeEngine[Any], strategy: str
) -> None:
    types = {"id": mssql.BIGINT(), "k": kind, "rv": ROWVERSION(), "at": DATETIME2(7)}
    column = {"identity": "id", "rowversion": "rv", "timestamp": "at"}[strategy]
    with pytest.raises(SourceRefused, match=r"feed orders: key: column 'k' of table 'orders' is"):
        _plan(strategy, column, types, key="k")


@pytest.mark.parametrize(
    ("kind", "position", "entered"),
    [
        (DATETIME2(7), "2026-01-31 10:20:30.997", "2026-01-31 10:19:30"),  # was datetime
        (mssql.DATETIME(), "2026-01-31 10:20:30.1234567", "2026-01-31 10:19:30"),  # was datetime2
        (mssql.SMALLDATETIME(), "2026-01-31 10:20:30.997", "2026-01-31 10:19:30"),  # was datetime
        (DATETIME2(0), "0001-01-01 00:00:10.5", "0001-01-01 00:00:00"),  # no earlier moment
        (mssql.DATE(), "2026-01-31 10:20:30.997", "2026-01-30 10:20:30"),
        (DATETIME2(7), "2026-01-31", "2026-01-30 00:00:00"),  # was date
    ],
)
def test_a_position_of_the_columns_former_type_is_entered_where_no_row_is_passed_over(
    kind: TypeEngine[Any], position: str, entered: str
) -> None:
    plan = _plan("timestamp", "at", {"id": mssql.BIGINT(), "at": kind})
    compiled = plan.strategy.page([position, 7], 10).select.compile(dialect=DIALECT)
    assert compiled.params["position"] == entered
    assert "[orders].[at] >= " in str(compiled)
    assert "key1" not in compiled.params


@pytest.mark.parametrize(
    ("kind", "position"),
    [
        (DATETIME2(7), "2026-01-31 10:20:30.1234567"),
        (DATETIME2(3), "2026-01-31 10:20:30.997"),
        (DATETIME2(7), "2026-01-31 10:20:30.123456"),
        (mssql.DATETIME(), "2026-01-31 10:20:30.997"),
        (mssql.SMALLDATETIME(), "2026-01-31 10:20:00.000"),
        (OFFSET(7), "2026-01-31 10:20:30.1234567 -03:30"),
        (OFFSET(7), "2026-01-31 10:20:30.1234567"),  # was datetime2, which took the offset +00:00
        (DATETIME2(), "2026-01-31 10:20:30.997"),  # precision not known
    ],
)
def test_a_position_of_the_columns_own_type_is_entered_where_it_stands(
    kind: TypeEngine[Any], position: str
) -> None:
    plan = _plan("timestamp", "at", {"id": mssql.BIGINT(), "at": kind})
    compiled = plan.strategy.page([position, 7], 10).select.compile(dialect=DIALECT)
    assert (compiled.params["position"], compiled.params["key1"]) == (position, 7)


def test_a_position_with_an_offset_is_refused_where_the_column_has_none_any_more() -> None:
    plan = _plan("timestamp", "at", {"id": mssql.BIGINT(), "at": DATETIME2(7)})
    with pytest.raises(
        SourceRefused, match=r"it has an offset, and the column's type is now DATETIME2\(7\)"
    ):
        plan.strategy.page(["2026-01-31 10:20:30.1234567 +05:30", 7], 10)


@pytest.mark.parametrize(
    ("kind", "was"),
    [
        (mssql.NVARCHAR(20), 7),
        (mssql.UNIQUEIDENTIFIER(), "A-1"),
        (mssql.BIGINT(), "7"),
        (FLOAT(), "1.5"),
    ],
)
def test_a_key_of_another_type_enters_the_order_at_the_moment(
    kind: TypeEngine[Any], was: PartValue
) -> None:
    plan = _plan("timestamp", "at", {"id": kind, "at": DATETIME2(7)})
    position: Position = ["2026-01-31 10:20:30.1234567", was]
    compiled = plan.strategy.page(position, 10).select.compile(dialect=DIALECT)
    assert compiled.params["position"] == "2026-01-31 10:20:30.1234567"
    assert "key1" not in compiled.params


_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=6),
    st.binary(max_size=4),
    st.sampled_from(
        [
            "1",
            "01",
            "1.0",
            "inf",
            "%s1",
            "%x61",
            "61",
            61,
            1,
            1.0,
            b"1",
            b"\x61",
            "\udcff",
            "\udced\udcb3",
        ]
    ),
)


def _class_of(kind: TypeEngine[Any], value: object) -> tuple[object, ...]:
    """What SQLite tells apart: values of one storage class that are equal are one."""
    del kind
    storage = "number" if isinstance(value, (int, float)) else type(value).__name__
    return storage, value


@given(left=_VALUES, right=_VALUES, kind=st.sampled_from([NullType(), mssql.BIGINT(), FLOAT()]))
def test_values_that_sqlite_tells_apart_have_different_key_texts(
    left: object, right: object, kind: TypeEngine[Any]
) -> None:
    codec = sqlite_codec(kind)(Column("k", kind))
    if codec.write(left) == codec.write(right):
        assert _class_of(kind, left) == _class_of(kind, right)
    if left is not None:
        assert codec.read(codec.write(left)) == codec.place(left)


@given(
    st.text(st.sampled_from("ab%:"), min_size=0, max_size=4),
    st.integers(LONGEST_KEY - 2, LONGEST_KEY + 2),
)
def test_a_key_up_to_1_kib_stands_in_the_id_as_it_is_and_a_longer_one_as_a_hash(
    tail: str, size: int
) -> None:
    key = "k" * (size - len(tail)) + tail
    made = delivery_id("orders", SourceRow(key, None, "", change="0x01"))
    if len(key) <= LONGEST_KEY:
        assert made == f"orders:{key}:0x01"
    else:
        assert len(made) < 160
        assert made != delivery_id("orders", SourceRow(key + "x", None, "", change="0x01"))
