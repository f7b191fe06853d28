"""The T-SQL that a reconciliation sends, compiled without a server."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.dialects import mssql, registry

from app.core.errors import SourceRefused
from app.core.position import Position, ReadRange
from app.feeds.feed import Feed
from app.source.cursors.selection import Statement
from app.source.lookup import can_be_found, find_rows, keys_a_statement
from app.source.plan import FeedPlan, narrowed, plan_table
from app.source.products.registry import PRODUCTS
from app.source.scan import ScanRange, counted, stride, window
from app.source.table import Column, SourceTable

DIALECT: Any = registry.load("mssql")(paramstyle="named")
DIALECT._supports_offset_fetch = True
ROWVERSION: Any = mssql.ROWVERSION
TYPES = {
    "id": mssql.BIGINT(),
    "code": mssql.VARCHAR(length=20),
    "at": mssql.DATETIME(),
    "rv": ROWVERSION(),
    "note": mssql.NVARCHAR(length=100),
}
LAST: Position = ["0x00000000000007D1", 7]


def _plan(strategy: str, column: str, key: Any = "id", **fields: Any) -> FeedPlan:
    cursor = {"strategy": strategy, "column": column}
    plain = {"name": "orders", "table": "orders", "key": key, "cursor": cursor}
    feed = Feed.model_validate(plain | {"partner": {"url": "https://partner.example/"}} | fields)
    table = SourceTable(
        "orders", None, "orders", tuple(Column(name, kind) for name, kind in TYPES.items())
    )
    return plan_table(table, feed, PRODUCTS["mssql"])


def _narrow(*words: Any, **fields: Any) -> FeedPlan:
    return narrowed(_plan(*words, **fields))


def _sql(statement: Statement) -> str:
    """The statement on one line, without brackets and without the table's name before each column."""
    text = statement.select.compile(dialect=DIALECT).construct_expanded_state({}).statement
    return " ".join(text.replace("[orders].", "").replace("[", "").replace("]", "").split())


def test_a_window_reads_keys_and_cursor_column_only_and_ends_where_the_cursor_stood() -> None:
    assert _sql(window(_narrow("identity", "id"), ScanRange(ReadRange(None, 2000)), 100, 50)) == (
        "SELECT TOP 50 id FROM orders WHERE id > :id_1 AND id <= :id_2 ORDER BY id"
    )
    version, upto = "CAST(:position AS BINARY(8))", "CAST(:upto AS BINARY(8))"
    sql = _sql(window(_narrow("rowversion", "rv"), ScanRange(ReadRange(None, LAST)), LAST, 50))
    assert sql.startswith("SELECT TOP 50 id, rv FROM orders WHERE ")
    assert sql.partition(" WHERE ")[2] == (
        f"rv >= {version} AND (rv > {version} OR rv = {version} AND id > :key1) AND rv <= {upto} "
        f"AND (rv < {upto} OR rv = {upto} AND (id < :uptokey1 OR id IS NULL) OR rv = {upto} AND id = :uptokey1) "
        "ORDER BY rv, id"
    )


def test_a_row_in_a_span_that_was_walked_is_marked() -> None:
    stretch = ScanRange(ReadRange(500, 2000), (ReadRange(None, 700), ReadRange(900, 1000)))
    assert _sql(window(_narrow("identity", "id"), stretch, 500, 50)) == (
        "SELECT TOP 50 id, CASE WHEN (id IS NOT NULL AND id <= :id_1 OR id > :id_2 AND id <= :id_3) THEN 1 ELSE 0 END "
        "AS rowrelay_walked FROM orders WHERE id > :id_4 AND id <= :id_5 ORDER BY id"
    )


def test_what_is_below_the_floor_is_counted_by_the_server() -> None:
    plan = _narrow("identity", "id", where=[{"column": "note", "op": "=", "value": "paid"}])
    stretch = ScanRange(ReadRange(None, 2000), floor=1500)
    assert _sql(counted(plan, stretch, None, 50)) == (
        "SELECT count(*) AS count_1 FROM (SELECT TOP 50 id AS id, CASE WHEN (note = :note_1) THEN 1 ELSE 0 END AS "
        "rowrelay_matches FROM orders WHERE id IS NOT NULL AND id <= :id_1 AND id <= :id_2 ORDER BY id) AS walked "
        "WHERE walked.rowrelay_matches = 1"
    )
    assert _sql(stride(plan, stretch, None, 50)).endswith(
        "ORDER BY id OFFSET :param_1 ROWS FETCH FIRST :param_2 ROWS ONLY"
    )


def test_rows_are_found_by_key_in_the_columns_own_type_and_few_statement_texts() -> None:
    by_code = _plan("rowversion", "rv", "code", columns=["note"])
    assert _sql(find_rows(by_code, ["a%20b"])) == (
        "SELECT note, code, rv FROM orders WHERE code IN (CAST(:key0p0 AS VARCHAR(20)))"
    )
    by_both = _plan("rowversion", "rv", ["id", "at"], columns=["note"])
    statement = find_rows(by_both, ["7:2026-01-31T10%3A00%3A00"])
    assert (
        "(id = :key0p0 AND at = CONVERT(DATETIME, CONVERT(DATETIME2(3), :key0p1, 121)))"
        in f"({_sql(statement).partition('WHERE ')[2]})"
    )
    assert statement.select.compile(dialect=DIALECT).params["key0p1"] == "2026-01-31 10:00:00"
    for plan in (by_code, by_both):
        most = keys_a_statement(plan)
        key = "7:x" if plan is by_both else "x"
        texts = {_sql(find_rows(plan, [key] * count)) for count in (1, 2, 9, 10, 11, 49, most)}
        assert len(texts) <= 4
    with pytest.raises(StopIteration):
        find_rows(by_code, ["x"] * 501)


def test_a_key_of_another_form_is_not_looked_up() -> None:
    plan = _plan("rowversion", "rv", ["id", "code"])
    assert can_be_found(plan, "7:x%3Ay")
    for key in ("7", "7:x:y", "seven:x", "7:%-", "%-:x@['0x00000000000007D1', None]"):
        assert not can_be_found(plan, key)


@pytest.mark.parametrize("strategy", ["identity", "rowversion"])
def test_a_position_of_another_strategy_or_key_is_refused(strategy: str) -> None:
    wrong: Position = "0x01" if strategy == "identity" else ["0x00000000000007D1", 1, 2]
    with pytest.raises(SourceRefused, match="the strategy was changed, or the key"):
        window(
            _narrow(strategy, {"identity": "id", "rowversion": "rv"}[strategy]),
            ScanRange(ReadRange(None, wrong)),
            None,
            5,
        )
