"""The T-SQL that each strategy sends, compiled without a server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import column
from sqlalchemy.dialects import mssql, registry
from sqlalchemy.types import TypeEngine

from app.core.errors import SourceRefused
from app.core.position import Gap, Position
from app.feeds.feed import Feed
from app.source.cursors.selection import Statement
from app.source.explain import explain_unseen
from app.source.plan import FeedPlan, plan_table
from app.source.products.registry import PRODUCTS
from app.source.table import Column, SourceTable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON = (3000).to_bytes(8, "big")


def _untyped(kind: Callable[[], Any]) -> TypeEngine[Any]:
    """A type whose class SQLAlchemy gives no annotations."""
    made: TypeEngine[Any] = kind()
    return made


DIALECT: Any = registry.load("mssql")(paramstyle="named")
TYPES: dict[str, TypeEngine[Any]] = {
    "id": mssql.BIGINT(),
    "tenant": mssql.UNIQUEIDENTIFIER(),
    "code": mssql.VARCHAR(length=20, collation="Latin1_General_CI_AS"),
    "amount": mssql.DECIMAL(10, 2),
    "rv": _untyped(mssql.ROWVERSION),
    "at": _untyped(mssql.DATETIME2),
    "old_at": mssql.DATETIME(),
    "small_at": mssql.SMALLDATETIME(),
    "zoned_at": _untyped(mssql.DATETIMEOFFSET),
    "status": mssql.NVARCHAR(length=10),
}
OURS = ("key", "position", "low", "high", "horizon", "lag_ms", "after", "upto")
"""Columns named as our parameters are."""
TYPES |= dict.fromkeys(OURS, mssql.NVARCHAR(length=10))


def _plan(strategy: str, column: str, key: Any = "id", **fields: Any) -> FeedPlan:
    cursor = {"strategy": strategy, "column": column} | fields.pop("cursor", {})
    partner = {"url": "https://partner.example/"}
    plain = {
        "name": "orders",
        "table": "dbo.[my orders]",
        "key": key,
        "cursor": cursor,
        "partner": partner,
    }
    feed = Feed.model_validate(plain | {"columns": ["id"]} | fields)
    table = SourceTable(
        "orders", "dbo", "my orders", tuple(Column(name, kind) for name, kind in TYPES.items())
    )
    return plan_table(table, feed, PRODUCTS["mssql"])


def _sql(statement: Statement | None) -> str:
    """The statement on one line, with the table's name left out before each column."""
    assert statement is not None
    compiled = statement.select.compile(dialect=DIALECT)
    text = compiled.construct_expanded_state(statement.parameters).statement
    return " ".join(text.replace("[dbo].[my orders].", "").split())


def _values(statement: Statement) -> dict[str, Any]:
    compiled = statement.select.compile(dialect=DIALECT)
    return dict(compiled.construct_expanded_state(statement.parameters).parameters)


def _page(plan: FeedPlan, position: Position) -> str:
    return _sql(plan.strategy.page(position, 11, HORIZON))


def test_rowversion_asks_for_the_horizon_first_and_then_pages_below_it() -> None:
    plan = _plan("rowversion", "rv")
    assert _sql(plan.strategy.horizon()) == "SELECT MIN_ACTIVE_ROWVERSION() AS horizon"
    assert _page(plan, ["0x00000000000007D1", 7]) == (
        "SELECT TOP 11 [id], [rv] FROM [dbo].[my orders] "
        "WHERE [rv] >= CAST(:position AS BINARY(8)) "
        "AND ([rv] > CAST(:position AS BINARY(8)) OR [rv] = CAST(:position AS BINARY(8)) AND [id] > :key1) "
        "AND [rv] < CAST(:horizon AS BINARY(8)) ORDER BY [rv], [id]"
    )
    values = _values(plan.strategy.page(["0x00000000000007D1", 7], 11, HORIZON))
    assert values == {"position": (2001).to_bytes(8, "big"), "key1": 7, "horizon": HORIZON}


def test_rowversion_starts_after_a_version_that_an_operator_names() -> None:
    assert _page(_plan("rowversion", "rv"), "0x00000000000007D1") == (
        "SELECT TOP 11 [id], [rv] FROM [dbo].[my orders] WHERE [rv] > CAST(:position AS BINARY(8)) "
        "AND [rv] < CAST(:horizon AS BINARY(8)) ORDER BY [rv], [id]"
    )


def test_start_now_takes_the_last_row_below_the_horizon() -> None:
    assert _sql(_plan("rowversion", "rv").strategy.start("now", HORIZON)) == (
        "SELECT TOP 1 [id], [rv] FROM [dbo].[my orders] WHERE [rv] IS NOT NULL "
        "AND [rv] < CAST(:horizon AS BINARY(8)) ORDER BY [rv] DESC, [id] DESC"
    )


def test_a_key_of_several_columns_breaks_ties_column_by_column_in_its_own_types() -> None:
    plan = _plan("rowversion", "rv", ["tenant", "code", "amount"])
    tenant, code = (
        "CAST(:key1 AS UNIQUEIDENTIFIER)",
        "CAST(:key2 COLLATE Latin1_General_CI_AS AS VARCHAR(20))",
    )
    same = "[rv] = CAST(:position AS BINARY(8))"
    position: Position = [
        "0x00000000000007D1",
        "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
        "A-1",
        "1.50",
    ]
    assert (
        f"({same.replace(' = ', ' > ')} OR {same} AND [tenant] > {tenant} "
        f"OR {same} AND [tenant] = {tenant} AND [code] > {code} "
        f"OR {same} AND [tenant] = {tenant} AND [code] = {code} AND [amount] > CAST(:key3 AS NUMERIC(10, 2)))"
    ) in _page(plan, position)
    assert _page(plan, position).endswith("ORDER BY [rv], [tenant], [code], [amount]")


def test_a_null_in_a_key_stands_below_every_value() -> None:
    page = _page(_plan("rowversion", "rv", ["tenant", "id"]), ["0x00000000000007D1", None, 5])
    same = "[rv] = CAST(:position AS BINARY(8))"
    assert (
        f"{same} AND [tenant] IS NOT NULL OR {same} AND [tenant] IS NULL AND [id] > :key2" in page
    )


@pytest.mark.parametrize(
    ("column", "moment", "name", "settled", "lag_ms"),
    [
        (
            "at",
            "2026-01-31 10:00:00.1234567",
            "DATETIME2(7)",
            "DATEADD(MILLISECOND, :lag_ms, SYSUTCDATETIME())",
            -11_000,
        ),
        (
            "old_at",
            "2026-01-31 10:00:00.123",
            "DATETIME",
            "CONVERT(DATETIME2(3), DATEADD(MILLISECOND, :lag_ms, SYSUTCDATETIME()))",
            -10_004,
        ),
        (
            "small_at",
            "2026-01-31 10:00:00.000",
            "SMALLDATETIME",
            "CONVERT(DATETIME2(3), DATEADD(MILLISECOND, :lag_ms, SYSUTCDATETIME()))",
            -70_000,
        ),
        (
            "zoned_at",
            "2026-01-31 10:00:00.1234567 +05:30",
            "DATETIMEOFFSET(7)",
            "DATEADD(MILLISECOND, :lag_ms, SYSDATETIMEOFFSET())",
            -11_000,
        ),
    ],
)
def test_timestamp_compares_in_the_columns_own_type_and_leaves_young_rows(
    column: str, moment: str, name: str, settled: str, lag_ms: int
) -> None:
    plan = _plan("timestamp", column, cursor={"clock": "utc"})
    coarse = column in (
        "old_at",
        "small_at",
    )  # they take no text with more than 3 digits of a second
    bound = f"CONVERT({name}, " + (
        "CONVERT(DATETIME2(3), :position, 121))" if coarse else ":position, 121)"
    )
    statement = plan.strategy.page([moment, 7], 11)
    sql = _sql(statement)
    assert f"CONVERT(VARCHAR(40), [{column}], 121) AS rowrelay_0 FROM" in sql
    assert sql.partition(" WHERE ")[2] == (
        f"[{column}] >= {bound} AND ([{column}] > {bound} OR [{column}] = {bound} AND [id] > :key1) "
        f"AND [{column}] < CONVERT({name}, {settled}) ORDER BY [{column}], [id]"
    )
    assert _values(statement) == {"position": moment, "key1": 7, "lag_ms": lag_ms}


def test_timestamp_takes_the_earlier_clock_unless_told_which() -> None:
    assert (
        "CASE WHEN (SYSUTCDATETIME() < SYSDATETIME()) THEN SYSUTCDATETIME() ELSE SYSDATETIME() END"
        in _page(_plan("timestamp", "at"), None)
    )
    assert "DATEADD(MILLISECOND, :lag_ms, SYSDATETIME())" in _page(
        _plan("timestamp", "at", cursor={"clock": "local"}), None
    )


@pytest.mark.parametrize("column", OURS)
def test_a_column_of_where_may_be_named_as_our_parameters_are(column: str) -> None:
    where = [{"column": column, "op": op, "value": "x"} for op in ("=", "!=", "<")]
    versions = _plan("rowversion", "rv", ["tenant", "code", "id"], where=where)
    moments = _plan("timestamp", "at", where=where)
    for page in (
        _page(versions, ["0x00000000000007D1", "6F9619FF-8B86-D011-B42D-00C04FC964FF", "x", 7]),
        _page(moments, ["2026-01-31 10:00:00.1234567", 7]),
    ):
        assert f":{column}_1 AND" in page
        assert f":{column}_2 AND" in page
    identities = _plan("identity", "id", where=where).strategy
    assert f":{column}_1" in _sql(identities.late((Gap(1, 4, NOW),) * 3, 6))
    assert f":{column}_1 AND" in _sql(identities.page_upto(1, 4))


def test_identity_asks_each_poll_by_the_same_statement() -> None:
    strategy = _plan("identity", "id").strategy
    page, next_page = strategy.next_page(2000, 11), strategy.next_page(2042, 11)
    assert page.select is next_page.select
    assert _sql(page) == _page(_plan("identity", "id"), 2000).replace(":id_1", ":after")
    assert (_values(page), _values(next_page)) == ({"after": 2000}, {"after": 2042})
    assert "TOP 7 " in _sql(strategy.next_page(2000, 7))
    part, next_part = strategy.page_upto(2000, 2011), strategy.page_upto(2042, 2053)
    assert part.select is next_part.select
    assert _sql(part) == (
        "SELECT [id] FROM [dbo].[my orders] WHERE [id] > :after AND [id] <= :upto ORDER BY [id]"
    )
    assert _values(next_part) == {"after": 2042, "upto": 2053}


def test_identity_that_has_read_nothing_begins_with_the_first_id() -> None:
    strategy = _plan("identity", "id").strategy
    assert _sql(strategy.next_page(None, 11)) == _page(_plan("identity", "id"), None)
    assert "WHERE [id] IS NOT NULL AND [id] <= :id_1" in _sql(strategy.page_upto(None, 2011))


def test_identity_pages_by_id_and_asks_for_gaps_in_few_statement_texts() -> None:
    plan = _plan("identity", "id")
    assert (
        _page(plan, 2000)
        == "SELECT TOP 11 [id] FROM [dbo].[my orders] WHERE [id] > :id_1 ORDER BY [id]"
    )
    gaps = plan.strategy.late((Gap(None, 4, NOW),), 6)
    assert _sql(gaps) == (
        "SELECT TOP 6 late.[id] FROM (SELECT [id] AS [id] FROM [dbo].[my orders] "
        "WHERE [id] BETWEEN :low0 AND :high0) AS late ORDER BY late.[id]"
    )
    assert _values(gaps) == {"low0": -(2**63), "high0": 4}
    texts = {_sql(plan.strategy.late((Gap(1, 1, NOW),) * count, 6)) for count in range(1, 51)}
    assert len(texts) == 3
    most = plan.strategy.late((Gap(1, 1, NOW),) * 50, 6)
    assert _sql(most).count("UNION ALL") == 49
    assert len(_values(most)) == 100


def test_a_where_never_leaves_a_row_unread_it_only_marks_it() -> None:
    where = [
        {"column": "STATUS", "op": "in", "value": ["new", "paid"]},
        {"column": "amount", "op": "is not null"},
    ]
    plan = _plan("identity", "id", where=where)
    sql = _page(plan, 2000)
    assert sql == (
        "SELECT TOP 11 [id], CASE WHEN ([status] IN (:status_1_1, :status_1_2) AND [amount] IS NOT NULL) "
        "THEN 1 ELSE 0 END AS rowrelay_matches FROM [dbo].[my orders] WHERE [id] > :id_1 ORDER BY [id]"
    )
    late = plan.strategy.late((Gap(1, 1, NOW),) * 50, 6)
    assert "CASE WHEN (late.[status] IN (:status_1_1, :status_1_2)" in _sql(late)
    assert len(_values(late)) == 102


def test_whether_a_cursor_is_ahead_is_asked_in_one_seek_each() -> None:
    highest, lowest, counter = _plan("identity", "id").strategy.newest(2000)
    assert _sql(highest) == "SELECT max([id]) AS max_1 FROM [dbo].[my orders]"
    assert _sql(lowest) == "SELECT min([id]) AS min_1 FROM [dbo].[my orders]"
    assert "FROM sys.identity_columns WHERE sys.identity_columns.object_id = OBJECT_ID(" in _sql(
        counter
    )
    assert _values(counter)["OBJECT_ID_1"] == "[dbo].[my orders]"
    versions, highest, last = _plan("rowversion", "rv").strategy.newest(["0x00000000000007D1", 1])
    assert _sql(versions) == "SELECT MIN_ACTIVE_ROWVERSION() AS horizon"
    assert _sql(highest) == "SELECT max([rv]) AS max_1 FROM [dbo].[my orders]"
    assert _sql(last) == "SELECT @@DBTS AS last_version"
    (moments,) = _plan("timestamp", "at").strategy.newest(["2026-01-31 10:00:00.1234567", 1])
    assert _sql(moments).endswith("FROM [dbo].[my orders] ORDER BY [at] DESC")


@pytest.mark.parametrize(
    ("strategy", "column", "needs"),
    [
        ("rowversion", "id", "rowversion needs a rowversion column"),
        ("timestamp", "rv", "timestamp needs a column of dates and times"),
        ("timestamp", "status", "timestamp needs a column of dates and times"),
        ("identity", "at", "identity needs an integer column"),
    ],
)
def test_a_column_that_cannot_serve_is_refused(strategy: str, column: str, needs: str) -> None:
    with pytest.raises(SourceRefused, match=needs):
        _plan(strategy, column)


@pytest.mark.parametrize("strategy", ["identity", "rowversion", "timestamp"])
def test_a_position_of_another_strategy_or_key_is_refused(strategy: str) -> None:
    column = {"identity": "id", "rowversion": "rv", "timestamp": "at"}[strategy]
    wrong: Position = "0x01" if strategy == "identity" else ["0x00000000000007D1", 1, 2]
    with pytest.raises(
        SourceRefused,
        match=r"the strategy was changed, or the key: python -m app feeds rewind orders",
    ):
        _plan(strategy, column).strategy.page(wrong, 5)


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        (
            "identity",
            [
                "start",
                "first page",
                "page",
                "gaps",
                "clock",
                "newest 1",
                "newest 2",
                "newest 3",
                "waiting",
            ],
        ),
        (
            "rowversion",
            [
                "horizon",
                "start",
                "first page",
                "page",
                "newest 1",
                "newest 2",
                "newest 3",
                "waiting",
            ],
        ),
        ("timestamp", ["start", "first page", "page", "newest 1", "waiting"]),
    ],
)
def test_every_statement_is_explained_without_a_server(strategy: str, names: list[str]) -> None:
    feed = _plan(strategy, {"identity": "id", "rowversion": "rv", "timestamp": "at"}[strategy]).feed
    explained = explain_unseen(feed, "mssql")
    walk = ["walk", "left out", "left out, on", "missing", "deleted", "unordered"]
    assert [statement.name for statement in explained] == names + walk
    for statement in explained:
        assert all(f"@{name}" in statement.sql for name in statement.parameters)


def test_the_server_is_asked_what_rows_hold_and_sends_none_of_it() -> None:
    plan = _plan("rowversion", "rv", columns=["id", "code", "status", "amount"])
    assert plan.scales is not None
    sql = _sql(plan.scales.strategy.page(["0x00000000000007D1", "17"], 11, HORIZON))
    assert sql.startswith(  # 88: the names, and what three numbers hold
        "SELECT TOP 11 [id], [rv], 88 + coalesce(CAST(datalength([code]) AS BIGINT), 0) "
        "+ coalesce(CAST(datalength([status]) AS BIGINT), 0) AS rowrelay_bytes FROM "
    )
    assert sql.endswith("ORDER BY [rv], [id]")


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (mssql.NVARCHAR(), "datalength(doc)"),
        (_untyped(mssql.VARBINARY), "datalength(doc)"),
        (mssql.NTEXT(), "datalength(doc)"),
        (mssql.SQL_VARIANT(), "datalength(doc)"),
        (_untyped(mssql.XML), "datalength(CAST(doc AS NVARCHAR(max)))"),
        (PRODUCTS["mssql"].type_names["geography"](), "datalength(doc)"),
        (PRODUCTS["mssql"].type_names["json"](), "datalength(CAST(doc AS NVARCHAR(max)))"),
    ],
    ids=str,
)
def test_every_type_whose_values_may_be_large_is_asked_for_its_size(
    kind: TypeEngine[Any], asked: str
) -> None:
    size = PRODUCTS["mssql"].size(column("doc"), kind)
    assert size is not None
    assert str(size.compile(dialect=DIALECT)) == f"CAST({asked} AS BIGINT)"


def test_a_table_of_numbers_and_dates_is_not_asked() -> None:
    assert _plan("identity", "id", columns=["id", "amount", "at"]).scales is None
