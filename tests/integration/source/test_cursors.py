"""Each cursor strategy over a real database: SQLite always, and the T-SQL server that
TEST_MSSQL_URL names.
"""

# S608: the tests write SQL of their own, from the constants in this file.

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.source.reader import Source
from tests.support.sources import PRODUCTS, START, Reader, SourceTables, source_feed, source_tables

HOUR = timedelta(hours=1)
GUIDS = [
    "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
    "00000000-0000-0000-0000-0000000000FF",
    "F0000000-0000-0000-0000-000000000001",
]


@pytest.fixture(params=PRODUCTS)
async def tables(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SourceTables]:
    async with source_tables(request.param, tmp_path) as made:
        await made.make(
            "orders", id="BIGINT PRIMARY KEY", note="NVARCHAR", at="MOMENT", rv="ROWVERSION"
        )
        yield made


@pytest.fixture
async def source(tables: SourceTables) -> AsyncIterator[Source]:
    opened = tables.source()
    yield opened
    await opened.close()


def _rows(*ids: int, note: str = "new", at: str = "2026-01-01 10:00:00") -> list[dict[str, Any]]:
    return [{"id": number, "note": note, "at": at} for number in ids]


def _reader(source: Source, tables: SourceTables, strategy: str, **fields: Any) -> Reader:
    column = {"identity": "id", "rowversion": "rv", "timestamp": "at"}[strategy]
    return Reader(source, source_feed(tables.named("orders"), strategy, column, **fields))


STRATEGIES = pytest.mark.parametrize("strategy", ["identity", "rowversion", "timestamp"])


@STRATEGIES
@pytest.mark.parametrize("page_size", [1, 2, 100])
async def test_every_row_comes_once_and_in_order(
    tables: SourceTables, source: Source, strategy: str, page_size: int
) -> None:
    reader = _reader(source, tables, strategy, page_size=page_size)
    assert await reader.poll() == []
    await tables.write("orders", _rows(1, 2, 3, 4, 5))
    assert await reader.keys() == ["1", "2", "3", "4", "5"]
    assert await reader.poll() == []
    await tables.write("orders", _rows(6, 7, at="2026-01-01 10:00:01"))
    assert await reader.keys() == ["6", "7"]


@STRATEGIES
async def test_start_now_leaves_what_is_there(
    tables: SourceTables, source: Source, strategy: str
) -> None:
    await tables.write("orders", _rows(1, 2))
    reader = _reader(source, tables, strategy, cursor_start="now")
    assert await reader.poll() == []
    await tables.write("orders", _rows(3, at="2026-01-01 10:00:01"))
    assert await reader.keys() == ["3"]


@STRATEGIES
async def test_start_now_on_an_empty_table_misses_nothing_after_it(
    tables: SourceTables, source: Source, strategy: str
) -> None:
    reader = _reader(source, tables, strategy, cursor_start="now")
    assert await reader.poll() == []
    await tables.write("orders", _rows(1))
    assert await reader.keys() == ["1"]


async def test_start_at_a_position_reads_from_there(tables: SourceTables, source: Source) -> None:
    await tables.write("orders", [*_rows(1, 2), *_rows(3, at="2026-01-02 00:00:00")])
    after = _reader(source, tables, "rowversion")
    (first, *_) = await after.poll()
    assert isinstance(first.position, list)
    version = first.position[0]
    assert await _reader(source, tables, "rowversion", cursor_start=version).keys() == ["2", "3"]
    assert await _reader(source, tables, "identity", cursor_start=2).keys() == ["3"]
    assert await _reader(
        source, tables, "timestamp", cursor_start="2026-01-02T00:00:00"
    ).keys() == ["3"]


@STRATEGIES
async def test_waiting_rows_are_counted_up_to_the_limit(
    tables: SourceTables, source: Source, strategy: str
) -> None:
    await tables.write("orders", _rows(*range(1, 11)))
    reader = _reader(source, tables, strategy, page_size=4)
    assert await source.waiting(reader.feed, reader.cursor, 100) == 10
    await reader.page()
    assert await source.waiting(reader.feed, reader.cursor, 100) == 6
    assert await source.waiting(reader.feed, reader.cursor, 5) == 5


async def test_an_updated_row_is_seen_again_and_is_the_same_delivery_unless_changes_are_wanted(
    tables: SourceTables, source: Source
) -> None:
    inserts, changes = (
        _reader(source, tables, "rowversion", capture=wanted) for wanted in ("inserts", "changes")
    )
    await tables.write("orders", _rows(1, 2))
    assert await inserts.keys() == await changes.keys() == ["1", "2"]
    await tables.touch("orders", 1)
    (again,), (changed,) = await inserts.poll(), await changes.poll()
    assert (again.key, again.change) == ("1", None)
    assert isinstance(changed.position, list)
    assert (changed.key, changed.change) == ("1", changed.position[0])
    assert json.loads(changed.payload)["note"] == "changed"


async def test_equal_versions_are_split_between_pages_and_none_is_lost(
    tables: SourceTables, source: Source
) -> None:
    if tables.mssql:
        pytest.skip("a test cannot choose versions there")
    await tables.insert(
        "orders", [{"id": n, "note": "n", "at": None, "rv": 7 + n // 20} for n in range(1, 41)]
    )
    reader = _reader(source, tables, "rowversion", page_size=3)
    assert sorted(map(int, await reader.keys())) == list(range(1, 41))


async def test_versions_may_be_blobs_on_sqlite(tables: SourceTables, source: Source) -> None:
    if tables.mssql:
        pytest.skip("versions are binary there")
    await tables.make("blobs", id="BIGINT PRIMARY KEY", rv="BLOB")
    await tables.insert("blobs", [{"id": n, "rv": (255 + n).to_bytes(8, "big")} for n in (1, 2, 3)])
    reader = Reader(source, source_feed("blobs", "rowversion", "rv", page_size=1))
    assert await reader.keys() == ["1", "2", "3"]
    assert reader.cursor.position == ["0x0000000000000102", 3]


MOMENTS = {
    "sqlite": ["TEXT"],
    "mssql": [
        "DATETIME",
        "DATETIME2(7)",
        "DATETIME2(3)",
        "DATETIME2(0)",
        "SMALLDATETIME",
        "DATETIMEOFFSET(7)",
        "DATE",
    ],
}


@pytest.mark.parametrize("place", range(7))
async def test_moments_keep_every_digit_of_their_type(
    tables: SourceTables, source: Source, place: int
) -> None:
    kinds = MOMENTS[tables.product]
    if place >= len(kinds):
        pytest.skip("no more types here")
    await tables.make("moments", id="INT PRIMARY KEY", at=kinds[place])
    steps = [f"2026-01-01 10:00:00.{n:03}" for n in (0, 3, 7, 10, 997)] + [
        "2026-01-01 10:00:01.000"
    ]
    if "(7)" in kinds[place] or kinds[place] == "TEXT":
        steps += [f"2026-01-01 10:00:01.{n:07}" for n in (1, 2, 9_999_999)]
    for number, moment in enumerate([*steps, *steps], start=1):
        await tables.run(f"INSERT INTO {tables.named('moments')} VALUES ({number}, '{moment}')")  # noqa: S608 - names of ours
    reader = Reader(source, source_feed(tables.named("moments"), "timestamp", "at", page_size=2))
    keys = [int(key) for key in await reader.keys()]
    assert sorted(keys) == list(range(1, 2 * len(steps) + 1))
    assert await reader.poll() == []


async def test_young_rows_wait_by_the_servers_clock(tables: SourceTables, source: Source) -> None:
    now = "SYSUTCDATETIME()" if tables.mssql else "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    await tables.write("orders", _rows(1))
    await tables.write("orders", _rows(2))
    await tables.run(f"UPDATE {tables.named('orders')} SET at = {now} WHERE id = 2")  # noqa: S608 - names of ours
    reader = _reader(source, tables, "timestamp", cursor_lag="1h", cursor_clock="utc")
    assert await reader.keys() == ["1"]
    assert await reader.poll() == []
    late = _rows(3, at="2026-01-01 10:00:01")
    await tables.write("orders", late)
    assert await reader.keys() == ["3"]


KEYS: dict[str, tuple[str, list[Any]]] = {
    "int": ("INT", [3, 1, 2, 2_000_000_000]),
    "bigint": ("BIGINT", [9_007_199_254_740_993, -5, 9_223_372_036_854_775_807, 0]),
    "guid": ("GUID", GUIDS),
    "nvarchar": ("NVARCHAR", ["b", "A", "ä-1", "a b", "größer 😀", "it's", "x:y"]),
    "varchar": ("VARCHAR(20)", ["b-1", "b1", "A", "co-op", "coop", "a'"]),
    "decimal": ("DECIMAL(12,2)", [1, 2, 3]),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("page_size", [1, 3])
async def test_keys_of_each_type_break_ties(
    tables: SourceTables, source: Source, kind: str, page_size: int
) -> None:
    declared, values = KEYS[kind]
    await tables.make("keyed", k=declared, tenant="INT", at="MOMENT")
    rows = [
        {"k": value, "tenant": tenant, "at": "2026-01-01 10:00:00"}
        for value in values
        for tenant in (1, 2)
    ]
    await tables.insert("keyed", rows)
    feed = source_feed(
        tables.named("keyed"), "timestamp", "at", key=["k", "tenant"], page_size=page_size
    )
    reader = Reader(source, feed)
    keys = await reader.keys()
    assert len(keys) == len(set(keys)) == 2 * len(values)
    assert await reader.poll() == []


async def test_a_null_in_a_key_stops_no_other_row(tables: SourceTables, source: Source) -> None:
    await tables.make("keyed", k="INT", tenant="INT", at="MOMENT")
    pairs = [(None, 1), (None, 2), (1, None), (1, 1)]
    await tables.insert(
        "keyed", [{"k": k, "tenant": tenant, "at": "2026-01-01 10:00:00"} for k, tenant in pairs]
    )
    feed = source_feed(tables.named("keyed"), "timestamp", "at", key=["k", "tenant"], page_size=1)
    rows = await Reader(source, feed).poll()
    assert len(rows) == 4
    assert [row.error is None for row in rows] == [False, False, False, True]


@STRATEGIES
async def test_rows_that_a_where_leaves_out_are_passed_over_and_make_no_gap(
    tables: SourceTables, source: Source, strategy: str
) -> None:
    where = [{"column": "note", "op": "in", "value": ["paid", "o'; DROP TABLE orders; --"]}]
    reader = _reader(source, tables, strategy, where=where, page_size=2)
    await tables.write("orders", [*_rows(1, 2, 3), *_rows(4, note="paid"), *_rows(5, 6)])
    assert await reader.keys() == ["4"]
    assert all(gap.low is None for gap in reader.cursor.gaps)
    await tables.write("orders", _rows(7, at="2026-01-01 10:00:01"))
    before = reader.cursor.position
    assert await reader.poll() == []
    assert reader.cursor.position != before


async def test_a_late_row_that_a_where_leaves_out_closes_its_gap(
    tables: SourceTables, source: Source
) -> None:
    where = [{"column": "note", "op": "=", "value": "paid"}]
    reader = _reader(source, tables, "identity", where=where, cursor_start=0)
    await tables.write("orders", _rows(2, 5, note="paid"))
    assert await reader.keys() == ["2", "5"]
    await tables.write("orders", _rows(1, 3))
    await tables.write("orders", _rows(4, note="paid"))
    assert await reader.keys() == ["4"]
    assert reader.cursor.gaps == ()


@pytest.mark.parametrize(
    ("op", "value", "found"),
    [
        ("=", "b", ["2"]),
        ("!=", "b", ["1", "3"]),
        ("<", "b", ["1"]),
        (">=", "b", ["2", "3"]),
        ("in", ["a", "c"], ["1", "3"]),
        ("not in", ["a", "c"], ["2"]),
        ("like", "%c%", ["3"]),
        ("is null", None, ["4"]),
        ("is not null", None, ["1", "2", "3"]),
    ],
)
async def test_each_condition_means_what_it_says(
    tables: SourceTables, source: Source, op: str, value: Any, found: list[str]
) -> None:
    await tables.write(
        "orders", [{"id": n, "note": note} for n, note in enumerate(["a", "b", "c", None], start=1)]
    )
    reader = _reader(
        source, tables, "identity", where=[{"column": "note", "op": op, "value": value}]
    )
    assert await reader.keys() == found


@pytest.mark.parametrize("column", ["nope", "note = 'x' OR 1=1; --", "1"])
async def test_a_condition_on_what_is_no_column_is_refused(
    tables: SourceTables, source: Source, column: str
) -> None:
    reader = _reader(
        source, tables, "identity", where=[{"column": column, "op": "=", "value": "x"}]
    )
    with pytest.raises(SourceRefused, match="where: table 'orders' has no column"):
        await reader.poll()


async def test_two_transactions_that_commit_out_of_order_are_both_read(
    tables: SourceTables, source: Source
) -> None:
    """On SQLite one transaction writes at a time, so there the later commit is made up."""
    reader = _reader(source, tables, "identity", cursor_start=0)
    if not tables.mssql:
        await tables.write("orders", _rows(2))
        assert await reader.keys() == ["2"]
        await tables.write("orders", _rows(1))
    else:
        await tables.make("identities", id="IDENTITY", note="NVARCHAR")
        reader.feed = source_feed(tables.named("identities"), "identity", "id", cursor_start=0)
        async with tables.transaction() as slow:
            await tables.insert_within(slow, "identities", [{"note": "slow"}])
            await tables.insert("identities", [{"note": "fast"}])
            assert await reader.keys() == ["2"]
    assert await reader.keys() == ["1"]
    assert reader.cursor.gaps == ()


async def test_a_version_that_commits_late_is_not_passed_over(
    tables: SourceTables, source: Source
) -> None:
    if not tables.mssql:
        pytest.skip("SQLite lets one transaction write at a time")
    reader = _reader(source, tables, "rowversion")
    async with tables.transaction() as slow:
        await tables.insert_within(slow, "orders", _rows(1))
        await tables.insert("orders", _rows(2))
        assert await reader.poll() == []
    assert await reader.keys() == ["1", "2"]


@STRATEGIES
async def test_rows_deleted_from_the_end_are_only_noted(
    tables: SourceTables, source: Source, strategy: str
) -> None:
    reader = _reader(source, tables, strategy)
    await tables.write("orders", [*_rows(1, 2), *_rows(3, at="2026-01-02 10:00:00")])
    await reader.poll()
    await tables.run(f"DELETE FROM {tables.named('orders')} WHERE id = 3")  # noqa: S608 - names of ours
    page = await reader.page(START + HOUR)
    if tables.mssql and strategy == "rowversion":
        assert page.ahead is None
    else:
        assert page.ahead is not None
        assert not page.ahead.certain
        assert "the cursor stands at" in page.ahead.reason


async def test_a_table_that_is_as_it_was_is_not_ahead(tables: SourceTables, source: Source) -> None:
    await tables.write("orders", _rows(1, 2))
    for strategy in ("identity", "rowversion", "timestamp"):
        reader = _reader(source, tables, strategy)
        await reader.poll()
        assert (await reader.page(START + HOUR)).ahead is None


async def test_an_identity_that_went_back_is_certain_and_deleted_rows_are_not(
    tables: SourceTables, source: Source
) -> None:
    await tables.make("counted", id="IDENTITY", note="NVARCHAR")
    await tables.insert("counted", [{"note": f"{n}"} for n in range(5)])
    reader = Reader(source, source_feed(tables.named("counted"), "identity", "id"))
    await reader.poll()
    await tables.run(f"DELETE FROM {tables.named('counted')} WHERE id > 3")  # noqa: S608 - names of ours
    assert (await reader.page(START + HOUR)).ahead is None
    reset = "DELETE FROM counted", "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'counted'"
    await tables.run(*([f"TRUNCATE TABLE {tables.named('counted')}"] if tables.mssql else reset))
    ahead = (await reader.page(START + 2 * HOUR)).ahead
    assert ahead is not None
    assert ahead.certain
    assert "the cursor stands at 5, but the identity of" in ahead.reason
    assert (
        f"has only reached {1 if tables.mssql else 0}" in ahead.reason
    )  # a truncated table's seed reads 1 there
    assert "feeds rewind orders" in ahead.reason


async def test_a_version_beyond_the_database_is_a_restore(
    tables: SourceTables, source: Source
) -> None:
    if not tables.mssql:
        pytest.skip("SQLite keeps no record of versions")
    reader = _reader(source, tables, "rowversion")
    reader.cursor = Cursor("orders", position=["0x7FFFFFFFFFFFFFFF", 1])
    ahead = (await reader.page()).ahead
    assert ahead is not None
    assert ahead.certain
    assert "was restored to an older state" in ahead.reason


async def test_whether_the_cursor_is_ahead_is_looked_at_once_a_minute(
    tables: SourceTables, source: Source
) -> None:
    reader = _reader(source, tables, "identity")
    await tables.write("orders", _rows(1, 2))
    await reader.poll()
    assert (await reader.page()).ahead is None
    await tables.write("orders", _rows(3))
    await reader.poll(START + timedelta(seconds=30))
    await tables.run(f"DELETE FROM {tables.named('orders')}")  # noqa: S608 - names of ours
    assert (await reader.page(START + timedelta(seconds=59))).ahead is None, (
        "rows that it moves past are no reason to look again"
    )
    assert (await reader.page(START + timedelta(seconds=61))).ahead is not None


async def test_a_poll_seeks_the_index_and_reads_no_row_twice(
    tables: SourceTables, source: Source
) -> None:
    if tables.mssql:
        pytest.skip("reads SQLite's plans")
    await tables.run(
        "CREATE INDEX orders_rv ON orders (rv)", "CREATE INDEX orders_at ON orders (at)"
    )
    for strategy, index in (("rowversion", "orders_rv"), ("timestamp", "orders_at")):
        reader = _reader(source, tables, strategy)
        page = next(s for s in await source.explain(reader.feed) if s.name == "page")
        async with tables.engine.connect() as connection:
            plan = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {page.sql}", dict(page.parameters)
            )
            details = [str(row.detail) for row in plan]
        assert any(f"SEARCH orders USING INDEX {index}" in detail for detail in details), details
