"""A table of its own for each test, on SQLite always and on the T-SQL server that TEST_MSSQL_URL
names.

The login there must be allowed to create a schema; everything made is dropped afterwards. Its
database should have READ_COMMITTED_SNAPSHOT on: some tests read while another transaction is open,
and would wait for its locks.
"""

# S608: the tests write SQL of their own, from their own constants.

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.core.cursors import Cursor
from app.core.rows import Page, SourceRow
from app.feeds.feed import Feed
from app.source.engine import open_engine
from app.source.reader import Source

MSSQL_URL = os.environ.get("TEST_MSSQL_URL", "")
PRODUCTS = [
    "sqlite",
    pytest.param(
        "mssql", marks=pytest.mark.skipif(not MSSQL_URL, reason="TEST_MSSQL_URL is not set")
    ),
]
CONNECT_TIMEOUT = timedelta(seconds=15)
START = datetime(2026, 1, 1, tzinfo=UTC)

_TYPES: Mapping[str, Mapping[str, str]] = {
    "sqlite": {
        "ROWVERSION": "INTEGER",
        "IDENTITY": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "BIGINT": "BIGINT",
        "NVARCHAR": "NVARCHAR(100)",
        "GUID": "CHAR(36)",
        "MOMENT": "TEXT",
    },
    "mssql": {
        "ROWVERSION": "ROWVERSION",
        "IDENTITY": "BIGINT IDENTITY PRIMARY KEY",
        "BIGINT": "BIGINT",
        "NVARCHAR": "NVARCHAR(100)",
        "GUID": "UNIQUEIDENTIFIER",
        "MOMENT": "DATETIME2(7)",
    },
}


@dataclass
class SourceTables:
    """A place to make tables in, and the application that writes to them."""

    product: str
    url: str
    schema: str | None
    engine: AsyncEngine
    """The writer's own connections."""
    made: list[str] = field(default_factory=list)
    version: int = 2000
    """The last version given out on SQLite, which gives none itself."""

    @property
    def mssql(self) -> bool:
        return self.product == "mssql"

    def named(self, table: str) -> str:
        """The table's name for a feed, and for the test's own statements."""
        return f"{self.schema}.{table}" if self.schema else table

    async def make(self, table: str, **columns: str) -> None:
        """Create a table. A column's type is a word of `_TYPES`, or the product's own words."""
        kinds = _TYPES[self.product]
        body = ", ".join(f"{name} {kinds.get(kind, kind)}" for name, kind in columns.items())
        await self.run(f"CREATE TABLE {self.named(table)} ({body})")
        self.made.append(table)

    async def run(self, *statements: str, **values: Any) -> None:
        """Run and commit."""
        async with self.engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement), values)

    async def run_plain(self, statement: str) -> None:
        """Run a statement as it is written, and commit: a colon in it names no parameter."""
        async with self.engine.begin() as connection:
            await connection.exec_driver_sql(statement)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction that stays open until the body ends; then it is committed,
        or rolled back where the body raises. T-SQL only: the engine's own transactions are one
        statement each.
        """
        async with self.engine.connect() as connection:
            await connection.execute(text("BEGIN TRANSACTION"))
            try:
                yield connection
            except BaseException:
                await connection.execute(text("ROLLBACK TRANSACTION"))
                raise
            await connection.execute(text("COMMIT TRANSACTION"))

    async def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows and commit, all at once."""
        async with self.engine.begin() as connection:
            await self.insert_within(connection, table, rows)

    async def write(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """As `insert`, with a new version for each row in its column `rv`."""
        await self.insert(table, [self._versioned(row) for row in rows])

    async def touch(self, table: str, key: int) -> None:
        """Update the row with that id, which gives it a new version."""
        row = self._versioned({"note": "changed"})
        changed = ", ".join(f"{name} = :{name}" for name in row)
        await self.run(f"UPDATE {self.named(table)} SET {changed} WHERE id = :id", **row, id=key)  # noqa: S608 - names of ours

    def _versioned(self, row: Mapping[str, Any]) -> dict[str, Any]:
        self.version += 1
        return dict(row) if self.mssql else {**row, "rv": self.version}

    async def insert_within(
        self, connection: AsyncConnection, table: str, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert rows into a transaction that somebody else commits."""
        names = list(rows[0])
        values = ", ".join(f":{name}" for name in names)
        await connection.execute(
            text(f"INSERT INTO {self.named(table)} ({', '.join(names)}) VALUES ({values})"),  # noqa: S608 - names of ours
            [dict(row) for row in rows],
        )

    def source(self) -> Source:
        return Source(open_engine(self.url, CONNECT_TIMEOUT))

    async def drop(self) -> None:
        if self.schema:
            await self.run(*(f"DROP TABLE {self.named(table)}" for table in reversed(self.made)))
            await self.run(f"DROP SCHEMA {self.schema}")
        await self.engine.dispose()


@asynccontextmanager
async def source_tables(product: str, folder: Path) -> AsyncIterator[SourceTables]:
    """Tables on that product; `folder` holds the SQLite file."""
    if product == "sqlite":
        path = folder / "source.db"
        path.touch()
        url = f"sqlite:///{path}"
        engine = create_async_engine(
            make_url(url).set(drivername="sqlite+aiosqlite"), connect_args={"timeout": 30}
        )
        tables = SourceTables(product, url, None, engine)
        await tables.run("PRAGMA journal_mode = WAL")
    else:
        tables = SourceTables(
            product,
            MSSQL_URL,
            f"rowrelay_{uuid4().hex[:8]}",
            open_engine(MSSQL_URL, CONNECT_TIMEOUT),
        )
        await tables.run(f"CREATE SCHEMA {tables.schema}")
    try:
        yield tables
    finally:
        await tables.drop()


@dataclass
class Reader:
    """Reads a feed as the poll does: saves the cursor after each page, and reads again while a page
    is full.
    """

    source: Source
    feed: Feed
    cursor: Cursor = field(default_factory=lambda: Cursor("orders"))

    async def page(self, now: datetime = START) -> Page:
        page = await self.source.read_page(self.feed, self.cursor, now)
        self.cursor = replace(self.cursor, position=page.position, gaps=page.gaps)
        return page

    async def poll(self, now: datetime = START) -> list[SourceRow]:
        rows: list[SourceRow] = []
        for _ in range(10_000):
            page = await self.page(now)
            rows += page.rows
            if not page.full:
                return rows
        raise AssertionError("the pages never end")

    async def keys(self, now: datetime = START) -> list[str]:
        return [row.key for row in await self.poll(now)]


def source_feed(table: str, strategy: str, column: str, **fields: Any) -> Feed:
    """A feed over that table with key `id`; fields of the cursor go by `cursor_<name>`."""
    cursor = {"strategy": strategy, "column": column}
    cursor |= {
        name.removeprefix("cursor_"): fields.pop(name)
        for name in list(fields)
        if name.startswith("cursor_")
    }
    partner = {"url": "https://partner.example/"}
    plain = {"name": "orders", "table": table, "key": "id", "cursor": cursor, "partner": partner}
    return Feed.model_validate(plain | fields)
