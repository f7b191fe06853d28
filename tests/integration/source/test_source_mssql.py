"""Reading a source over a real T-SQL server, through the real driver. Runs where TEST_MSSQL_URL
names one.

Each run makes a schema of its own in that database and drops it. A server that lacks a feature
skips the cases that need it, with the server's own message as the reason.
"""

# S608: the tests write SQL of their own, from the constants in this file.

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.cursors import Cursor
from app.core.errors import SourceRefused, SourceUnavailable
from app.core.rows import SourceRow
from app.feeds.feed import Feed
from app.source.engine import open_engine
from app.source.errors import translated
from app.source.findings import Level
from app.source.products.mssql import errors as mssql_errors
from app.source.products.registry import product_of
from app.source.reader import Source

URL = os.environ.get("TEST_MSSQL_URL", "")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT = timedelta(seconds=5)
BABELFISH_OWN = 33557097
"""The number that Babelfish gives to every error for which it has none of SQL Server's."""

pytestmark = pytest.mark.skipif(
    not URL, reason="TEST_MSSQL_URL names no T-SQL server: see docs/sqlserver.md"
)


@dataclass
class Server:
    """A schema on the server, the application that writes there, and a source that reads."""

    engine: AsyncEngine
    source: Source
    schema: str

    async def run(self, *statements: str) -> Any:
        """Run statements as the application; the first value that the last one gives."""
        async with self.engine.connect() as connection:
            for statement in statements:
                result = await connection.execute(
                    text(statement.replace(":", "\\:").replace("{s}", self.schema))
                )
            return result.scalar() if result.returns_rows else None

    async def needs(self, *statements: str) -> Any:
        """Run what not every server can; skip with the server's words where this one cannot."""
        try:
            return await self.run(*statements)
        except DBAPIError as error:
            pytest.skip(f"this server: {error.orig}")

    async def read(self, name: str = "t", **fields: Any) -> tuple[SourceRow, ...]:
        return (await self.source.read_page(self.feed(name, **fields), Cursor("orders"), NOW)).rows

    def feed(self, name: str = "t", **fields: Any) -> Feed:
        cursor = {"strategy": "identity", "column": "id", "start": "beginning"}
        named = f"{self.schema}.{name}"
        given = {"name": "orders", "table": named, "key": "id", "cursor": cursor}
        return Feed.model_validate(
            given | {"partner": {"url": "https://partner.example/"}} | fields
        )


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    schema = f"rowrelay_{uuid4().hex[:8]}"
    engine = open_engine(URL, TIMEOUT)
    opened = Server(engine, Source(engine), schema)
    await opened.run(f"CREATE SCHEMA {schema}")
    try:
        yield opened
    finally:
        await _drop(opened)
        await opened.source.close()


async def _drop(server: Server) -> None:
    """Drop what the test made, whatever it was."""
    kinds = {"V": "VIEW", "U": "TABLE", "SN": "SYNONYM"}
    async with server.engine.connect() as connection:
        query = (
            "SELECT o.name, RTRIM(o.type) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
            "WHERE s.name = :schema AND o.type IN ('V', 'U', 'SN')"
        )
        found = (await connection.execute(text(query), {"schema": server.schema})).all()
        for name, kind in sorted(found, key=lambda row: row[1] != "V"):
            quoted = name.replace("]", "]]").replace(":", "\\:")
            await connection.execute(text(f"DROP {kinds[kind]} [{server.schema}].[{quoted}]"))
        types = "SELECT name FROM sys.types WHERE schema_id = SCHEMA_ID(:schema)"
        for (name,) in (await connection.execute(text(types), {"schema": server.schema})).all():
            await connection.execute(text(f"DROP TYPE [{server.schema}].[{name}]"))
        await connection.execute(text(f"DROP SCHEMA {server.schema}"))


TYPES = [
    ("tinyint", "255", 255),
    ("smallint", "-32768", -(2**15)),
    ("int", "2147483647", 2**31 - 1),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("bit", "1", True),
    (
        "decimal(38,10)",
        "1234567890123456789012345678.0123456789",
        "1234567890123456789012345678.0123456789",
    ),
    ("numeric(5,2)", "-0.50", "-0.50"),
    ("money", "-922337203685477.5808", "-922337203685477.5808"),
    ("smallmoney", "214748.3647", "214748.3647"),
    ("float", "0.1", 0.1),
    ("real", "0.5", 0.5),
    ("date", "'0001-02-03'", "0001-02-03"),
    ("time(7)", "'23:59:59.1234567'", "23:59:59.1234567"),
    ("time(0)", "'23:59:59'", "23:59:59"),
    ("smalldatetime", "'2026-01-31 10:20:00'", "2026-01-31T10:20:00"),
    ("datetime", "'2026-01-31 10:20:30.997'", "2026-01-31T10:20:30.997000"),
    ("datetime2(7)", "'2026-01-31 10:20:30.1234567'", "2026-01-31T10:20:30.1234567"),
    ("datetime2(3)", "'2026-01-31 10:20:30.123'", "2026-01-31T10:20:30.123"),
    (
        "datetimeoffset(7)",
        "'2026-01-31 10:20:30.1234567 +05:30'",
        "2026-01-31T10:20:30.1234567+05:30",
    ),
    (
        "uniqueidentifier",
        "'6F9619FF-8B86-D011-B42D-00C04FC964FF'",
        "6F9619FF-8B86-D011-B42D-00C04FC964FF",
    ),
    ("char(5)", "'ab'", "ab   "),
    ("varchar(20)", "'plain'", "plain"),
    ("nchar(3)", "N'né'", "né "),
    ("nvarchar(20)", "N'größer 😀'", "größer 😀"),
    ("nvarchar(max)", "N'größer 😀'", "größer 😀"),
    ("varchar(max)", "'plain'", "plain"),
    ("text", "'plain'", "plain"),
    ("ntext", "N'größer 😀'", "größer 😀"),
    ("binary(4)", "0x00FF10", "AP8QAA=="),
    ("varbinary(10)", "0x00FF10", "AP8Q"),
    ("varbinary(max)", "0x00FF10", "AP8Q"),
    ("image", "0x00FF10", "AP8Q"),
    ("xml", "N'<a b=\"é\">1</a>'", '<a b="é">1</a>'),
    ("json", "N'{\"a\":1}'", '{"a":1}'),
    ("sql_variant", "CAST(12.50 AS decimal(9,2))", "12.50"),
    ("sql_variant", "CAST(0.1 AS float)", "1.0000000000000001e-001"),
    (
        "sql_variant",
        "CAST('2026-01-31 10:20:30.1234567' AS datetime2(7))",
        "2026-01-31 10:20:30.1234567",
    ),
    ("sql_variant", "CAST(0x00FF AS varbinary(8))", "0x00FF"),
    ("sql_variant", "CAST(N'größer' AS nvarchar(20))", "größer"),
    ("sql_variant", "CAST(7.25 AS money)", "7.2500"),
    ("hierarchyid", "'/1/2/'", "/1/2/"),
    ("geography", "'POINT(13.4 52.5)'", None),
]
"""Type, a value as T-SQL, and its JSON; `None`: whatever the server's own form is."""

SLOW = (
    "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000000) "
    "SELECT COUNT(*) FROM n OPTION (MAXRECURSION 0)"
)
"""Runs for tens of seconds at least; some servers have no WAITFOR."""

STYLES = {
    "time": 121,
    "datetime2": 121,
    "datetimeoffset": 121,
    "float": 3,
    "money": 2,
    "varbinary": 1,
}


@pytest.mark.parametrize(
    ("declared", "value", "expected"), TYPES, ids=[f"{row[0]}:{row[1][:24]}" for row in TYPES]
)
async def test_every_type_keeps_all_it_says(
    server: Server, declared: str, value: str, expected: object
) -> None:
    await _needs_own_text(server, declared, value, expected)
    await server.needs(f"CREATE TABLE {{s}}.t (id int IDENTITY PRIMARY KEY, value {declared} NULL)")
    await server.needs(f"INSERT INTO {{s}}.t (value) VALUES ({value}), (NULL)")  # noqa: S608 - names of ours
    first, second = await server.read()
    assert (first.error, second.error) == (None, None)
    found = json.loads(first.payload)["value"]
    assert found == expected if expected is not None else found
    assert json.loads(second.payload)["value"] is None


async def _needs_own_text(server: Server, declared: str, value: str, expected: object) -> None:
    """Skip where the server itself writes such a value otherwise than SQL Server does: with fewer
    digits, or never.
    """
    typed = value if declared == "sql_variant" else f"CAST({value} AS {declared})"
    kind = typed.rpartition(" AS ")[2].partition("(")[0].rstrip(")")
    if kind in STYLES and (
        declared == "sql_variant" or kind in ("time", "datetime2", "datetimeoffset")
    ):
        own = await server.needs(f"SELECT CONVERT(nvarchar(4000), {typed}, {STYLES[kind]})")
        plain = (
            str(expected)
            if declared == "sql_variant"
            else str(expected).replace("T", " ").replace("+", " +")
        )
        if own != plain:
            pytest.skip(f"this server writes {typed} as {own.strip()!r}")


async def test_a_rowversion_reads_as_the_cursor_names_it(server: Server) -> None:
    await server.needs("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, rv rowversion)")
    await server.run("INSERT INTO {s}.t DEFAULT VALUES")
    stored = await server.run("SELECT rv FROM {s}.t")
    rows = await server.read()
    assert json.loads(rows[0].payload)["rv"] == f"0x{stored.hex().upper()}"


async def test_a_computed_column_is_read_like_any_other(server: Server) -> None:
    await server.needs(
        "CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, price money, twice AS price * 2)"
    )
    await server.run("INSERT INTO {s}.t (price) VALUES (1.25)")
    assert json.loads((await server.read())[0].payload)["twice"] == "2.5000"


async def test_a_huge_value_is_weighed_on_the_server_and_refuses_its_own_row_only(
    server: Server,
) -> None:
    await server.run(
        "CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, note nvarchar(max), body varbinary(max))"
    )
    await server.run(
        "INSERT INTO {s}.t (note) VALUES (N'small'), (REPLICATE(CAST(N'😀' AS nvarchar(max)), 1000000))",
        "INSERT INTO {s}.t (body) SELECT CAST(note AS varbinary(max)) FROM {s}.t WHERE id = 2",
    )
    rows = await server.read(max_payload=1000)
    assert [row.error is None for row in rows] == [True, False, False]
    for row in rows[1:]:
        assert str(row.error).startswith("payload of about "), row.error
        assert int(str(row.error).split()[3]) > 1_000_000, row.error


async def test_text_with_a_lone_surrogate_refuses_its_own_row_only(server: Server) -> None:
    await server.run("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, note nvarchar(20))")
    await server.needs("INSERT INTO {s}.t (note) VALUES (N'whole'), (NCHAR(55357))")
    rows = await server.read()
    assert rows[0].error is None
    if rows[1].error is None:
        pytest.skip(f"this server keeps no lone surrogate: {rows[1].payload}")
    assert "'note'" in rows[1].error


async def test_names_that_need_quoting_are_quoted(server: Server) -> None:
    await server.needs(
        "CREATE TABLE {s}.[my ord.ers]]] ([id] int IDENTITY PRIMARY KEY, [order by] int, [a]]b] int)"
    )
    await server.run("INSERT INTO {s}.[my ord.ers]]] ([order by], [a]]b]) VALUES (1, 2)")
    rows = await server.read("[my ord.ers]]]")
    assert json.loads(rows[0].payload) == {"id": 1, "order by": 1, "a]b": 2}


async def test_a_view_can_be_a_feed(server: Server) -> None:
    await server.run("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, note nvarchar(20))")
    await server.run("CREATE VIEW {s}.v AS SELECT id, UPPER(note) AS note FROM {s}.t")
    await server.run("INSERT INTO {s}.t (note) VALUES (N'é')")
    assert json.loads((await server.read("v"))[0].payload) == {"id": 1, "note": "É"}
    levels = {
        finding.subject: finding.level for finding in await server.source.examine(server.feed("v"))
    }
    assert levels["key"] is levels["cursor index"] is Level.WARNING


async def test_a_missing_table_column_or_schema_is_named(server: Server) -> None:
    await server.run("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, note nvarchar(20))")
    with pytest.raises(SourceRefused, match=r"'.*\.missing' does not exist.*'t'"):
        await server.read("missing")
    with pytest.raises(SourceRefused, match="has no column 'nope'; its columns: 'id', 'note'"):
        await server.read(columns=["id", "nope"])
    with pytest.raises(SourceRefused, match="no schema 'no_such_schema'"):
        await server.read(table="no_such_schema.t")
    with pytest.raises(SourceRefused, match="a table of another database"):
        await server.read(table="other.dbo.t")


async def test_a_column_dropped_while_reading_is_a_refusal(server: Server) -> None:
    await server.run("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, note nvarchar(20))")
    await server.read()
    await server.run("ALTER TABLE {s}.t DROP COLUMN note")
    await _refused(server, "the table has no such column")
    await server.read()


async def test_a_table_dropped_while_reading_is_a_refusal(server: Server) -> None:
    await server.run("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY)")
    await server.read()
    await server.run("DROP TABLE {s}.t")
    await _refused(server, "there is no such table or view")


async def _refused(server: Server, words: str) -> None:
    with pytest.raises((SourceRefused, SourceUnavailable)) as caught:
        await server.read()
    if str(BABELFISH_OWN) in str(caught.value):
        pytest.skip(f"this server has no number of SQL Server's for that: {caught.value}")
    assert isinstance(caught.value, SourceRefused)
    assert words in str(caught.value)


async def test_a_login_without_rights_is_told_what_it_lacks(server: Server) -> None:
    await server.run("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY)")
    login, password = server.schema, f"Rr9!{uuid4().hex}"
    await server.needs(f"CREATE LOGIN {login} WITH PASSWORD = '{password}'")
    try:
        await server.needs(f"CREATE USER {login} FOR LOGIN {login}")
        url = make_url(URL).set(username=login, password=password)
        source = Source(open_engine(url.render_as_string(hide_password=False), TIMEOUT))
        try:
            with pytest.raises(
                SourceRefused, match=r"may not (see|read)|does not exist|no schema"
            ) as caught:
                await source.read_page(server.feed(), Cursor("orders"), NOW)
            assert password not in str(caught.value)
        finally:
            await source.close()
        await server.run(f"DROP USER {login}")
    finally:
        await server.run(f"DROP LOGIN {login}")


async def test_columns_of_alias_types_are_what_they_rest_on(server: Server) -> None:
    """As a key, in a position and as values."""
    bases = {
        "Num": "bigint",
        "Code": "nvarchar(12)",
        "Phone": "varchar(20)",
        "Amount": "decimal(12,2)",
    }
    await server.needs(*(f"CREATE TYPE {{s}}.{name} FROM {base}" for name, base in bases.items()))
    columns = "id int IDENTITY PRIMARY KEY, num {s}.Num, code {s}.Code NOT NULL, phone {s}.Phone, amount {s}.Amount"
    await server.run(
        f"CREATE TABLE {{s}}.t ({columns})",
        "INSERT INTO {s}.t (num, code, phone, amount) VALUES (3000000000, N'Ж1', '12', 12.5), (4, N'b', NULL, NULL)",
    )
    wanted = [
        {"id": 1, "num": 3000000000, "code": "Ж1", "phone": "12", "amount": "12.50"},
        {"id": 2, "num": 4, "code": "b", "phone": None, "amount": None},
    ]
    for fields in ({"key": "code"}, {"key": ["num", "code"]}):
        rows = await server.read(**fields)
        assert [json.loads(row.payload) for row in rows] == wanted
        found, _ = await server.source.find_some(server.feed(**fields), [row.key for row in rows])
        assert found == rows
    (row,) = await server.read(cursor={"strategy": "identity", "column": "num", "start": 5})
    assert json.loads(row.payload)["code"] == "Ж1"


async def _fails(url: Any, statement_timeout: timedelta = TIMEOUT) -> tuple[Exception, float]:
    """How asking for the version fails, and after how many seconds."""
    source = Source(
        open_engine(
            url.render_as_string(hide_password=False), timedelta(seconds=3), statement_timeout
        )
    )
    started = time.monotonic()
    try:
        with pytest.raises((SourceRefused, SourceUnavailable)) as caught:
            await source.version()
    finally:
        await source.close()
    return caught.value, time.monotonic() - started


async def _accepts(url: Any) -> bool:
    engine = open_engine(url.render_as_string(hide_password=False), TIMEOUT)
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text("SELECT 1"))).scalar() == 1
    except DBAPIError:
        return False
    finally:
        await engine.dispose()


async def test_a_wrong_password_is_refused_and_not_shown() -> None:
    wrong = make_url(URL).set(password="hunter2-wrong")  # noqa: S106 - on purpose
    if await _accepts(wrong):
        pytest.skip(
            "this server trusts everybody: it takes one that checks the password (error 18456)"
        )
    error, took = await _fails(wrong)
    assert isinstance(error, SourceRefused)
    assert "check user and password" in str(error)
    assert "hunter2" not in str(error)
    assert took < 10


async def test_a_host_that_does_not_answer_is_unavailable() -> None:
    error, took = await _fails(make_url(URL).set(host="127.0.0.1", port=9))
    assert isinstance(error, SourceUnavailable)
    assert took < 10


async def test_the_session_is_bounded_named_and_without_transaction(server: Server) -> None:
    assert await server.run("SELECT @@LOCK_TIMEOUT") == 5000
    assert await server.run("SELECT @@TRANCOUNT") == 0
    named = await server.needs(
        "SELECT program_name FROM sys.dm_exec_sessions WHERE session_id = @@SPID"
    )
    assert named == "rowrelay"


async def test_a_read_and_a_writer_do_not_wait_for_each_other_for_long(server: Server) -> None:
    await server.run("CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, note nvarchar(20))")
    await server.run("INSERT INTO {s}.t (note) VALUES (N'before')")
    snapshot = await server.run(
        "SELECT is_read_committed_snapshot_on FROM sys.databases WHERE name = DB_NAME()"
    )
    await server.read()
    async with server.engine.connect() as writer:
        await writer.execute(text("BEGIN TRANSACTION"))
        await writer.execute(text(f"UPDATE {server.schema}.t SET note = N'after'"))  # noqa: S608 - names of ours
        started = time.monotonic()
        if snapshot:
            assert json.loads((await server.read())[0].payload)["note"] == "before"
        else:
            with pytest.raises(SourceUnavailable, match="held a lock"):
                await server.read()
        assert time.monotonic() - started < 8
        await writer.execute(text("ROLLBACK"))


async def test_a_statement_that_takes_too_long_is_stopped_and_worth_a_retry() -> None:
    engine = open_engine(URL, TIMEOUT, timedelta(seconds=1))
    started = time.monotonic()
    try:
        with (
            pytest.raises(SourceUnavailable, match="no answer in time"),
            translated("x", product_of(engine.url), None),
        ):
            async with engine.connect() as connection:
                await connection.execute(text(SLOW))
    finally:
        await engine.dispose()
    assert time.monotonic() - started < 20


async def test_a_cancelled_statement_ends_and_leaves_the_pool_usable() -> None:
    engine = open_engine(URL, TIMEOUT, timedelta(seconds=3))
    started = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), engine.connect() as connection:
                await connection.execute(text(SLOW))
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
    finally:
        await engine.dispose()
    assert (
        time.monotonic() - started < 20
    )  # at once, or by the statement timeout where the server ignores SQLCancel


async def test_doctor_finds_what_a_feed_rests_on(server: Server) -> None:
    await server.needs(
        "CREATE TABLE {s}.t (id int IDENTITY PRIMARY KEY, rv rowversion, code nvarchar(20) NOT NULL)"
    )
    cursor = {"strategy": "rowversion", "column": "rv"}
    levels = await _levels(server, cursor=cursor, key="code")
    assert levels == {
        "table": Level.OK, "key": Level.WARNING, "cursor index": Level.WARNING, "isolation": Level.OK,
        "cursor column": Level.OK, "open transactions": Level.OK,
    }  # fmt: skip
    await server.run(
        "CREATE UNIQUE INDEX u_code ON {s}.t (code)", "CREATE INDEX i_rv ON {s}.t (rv)"
    )
    assert set((await _levels(server, cursor=cursor, key="code")).values()) == {Level.OK}


async def _levels(server: Server, **fields: Any) -> dict[str, Level]:
    return {
        finding.subject: finding.level
        for finding in await server.source.examine(server.feed(**fields))
    }


async def test_version_names_product_edition_and_driver(server: Server) -> None:
    described = await server.source.version()
    assert described.startswith("SQL Server ")
    assert "by lib" in described or "by msodbcsql" in described


async def test_a_connection_that_the_server_dropped_is_replaced_unseen(server: Server) -> None:
    """KILL, a restart, a failover, a firewall that ends idle connections: the pool does not know of
    it.
    """
    await server.run("CREATE TABLE {s}.t (id INT)", "INSERT INTO {s}.t VALUES (1)")
    assert len(await server.read()) == 1
    session = await server.run("SELECT @@SPID")
    other = open_engine(URL, TIMEOUT)
    killer = Server(other, Source(other), server.schema)
    try:
        try:
            await killer.run(f"KILL {session}")
        except DBAPIError:  # Babelfish
            await killer.needs(f"SELECT pg_terminate_backend({session})")
        await asyncio.sleep(0.5)
        assert len(await server.read()) == 1
    finally:
        await killer.source.close()


async def test_text_means_one_date_whatever_the_logins_language(server: Server) -> None:
    await server.run(
        "CREATE TABLE {s}.t (id INT, at DATETIME)",
        "INSERT INTO {s}.t VALUES (1, '20260115'), (2, '20260301')",
    )
    where = [{"column": "at", "op": ">=", "value": "2026-02-01"}]
    assert [row.key for row in await server.read(where=where)] == ["2"]
    found = await server.needs(
        "SELECT date_format + ' ' + language FROM sys.dm_exec_sessions WHERE session_id = @@SPID"
    )
    assert found == "ymd us_english"


@pytest.fixture
def _babelfish_tells_values_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Babelfish has one number for everything; so its statements are tried, and its numbers are
    not.
    """
    by_value: dict[int, str] = {**mssql_errors.BY_VALUE, BABELFISH_OWN: "a value"}
    monkeypatch.setattr(mssql_errors, "BY_VALUE", by_value)


@pytest.mark.usefixtures("_babelfish_tells_values_apart")
async def test_a_row_that_cannot_be_worked_out_is_left_behind_alone(server: Server) -> None:
    await server.run(
        "CREATE TABLE {s}.base (id INT PRIMARY KEY, a INT, b INT)",
        "INSERT INTO {s}.base (id, a, b) VALUES (1, 4, 2), (2, 4, 0), (3, 6, 2)",
        "CREATE VIEW {s}.t AS SELECT id, a / b AS ratio FROM {s}.base",  # Babelfish works computed columns out at once
    )
    rows = await server.read()
    assert [(row.key, bool(row.error)) for row in rows] == [("1", False), ("2", True), ("3", False)]


@pytest.mark.usefixtures("_babelfish_tells_values_apart")
async def test_a_row_of_which_where_cannot_be_told_is_left_behind_alone(server: Server) -> None:
    await server.run(
        "CREATE TABLE {s}.t (id INT PRIMARY KEY, amount VARCHAR(20))",
        "INSERT INTO {s}.t (id, amount) VALUES (1, '12'), (2, 'n/a'), (3, '30')",
    )
    rows = await server.read(where=[{"column": "amount", "op": ">", "value": 10}])
    assert [(row.key, bool(row.error)) for row in rows] == [("1", False), ("2", True), ("3", False)]
