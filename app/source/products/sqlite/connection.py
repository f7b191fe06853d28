"""aiosqlite's connection, with one way to its thread for each statement.

aiosqlite hands each call of the driver to the connection's thread: the making of a cursor, the
statement, the fetching and the closing are four ways there and back, each of which costs the event
loop more than SQLite takes to find a few rows. SQLAlchemy fetches all rows at once in any case, so
here a statement is one call that ends with its rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import aiosqlite


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a statement."""

    rows: list[Any]
    description: Any
    """Of its columns; `None`: it gives no rows."""
    rowcount: int
    lastrowid: int | None


class OneTripConnection(aiosqlite.Connection):
    """Make one with `connect`."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True  # as SQLAlchemy does: it must not keep the process alive

    def cursor(self) -> OneTripCursor:  # type: ignore[override] # aiosqlite's is a coroutine, too
        """A cursor for one statement after the other. Costs nothing until it is used."""
        return OneTripCursor(self)

    async def run(self, sql: str, parameters: Sequence[Any]) -> Ran:
        """Run a statement and fetch its rows. Raises `sqlite3`'s errors, and `ValueError` once the
        connection is closed.
        """
        execute: Any = self._execute  # aiosqlite has no types for it
        ran: Ran = await execute(self._run, sql, parameters)
        return ran

    def _run(self, sql: str, parameters: Sequence[Any]) -> Ran:
        with closing(self._conn.execute(sql, parameters)) as cursor:
            rows = cursor.fetchall() if cursor.description else []
            return Ran(rows, cursor.description, cursor.rowcount, cursor.lastrowid)


class OneTripCursor:
    """As much of a cursor as SQLAlchemy asks of one whose rows it fetches at once."""

    arraysize = 1

    def __init__(self, connection: OneTripConnection) -> None:
        self._connection = connection
        self._ran = Ran([], None, -1, None)

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Self:
        """Run a statement and keep its rows. Raises as `OneTripConnection.run`."""
        self._ran = await self._connection.run(sql, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        """The rows of the last statement."""
        return self._ran.rows

    async def close(self) -> None:
        """Nothing is open between two calls."""

    @property
    def description(self) -> Any:
        """Of the columns; `None` where there are none."""
        return self._ran.description

    @property
    def rowcount(self) -> int:
        """Rows changed; -1 where none could be."""
        return self._ran.rowcount

    @property
    def lastrowid(self) -> int | None:
        """Of the last row inserted."""
        return self._ran.lastrowid


def connect(database: str, **options: Any) -> OneTripConnection:
    """A connection that opens when it is awaited: what SQLAlchemy calls in place of
    `aiosqlite.connect`, with the same options.
    """
    return OneTripConnection(partial(sqlite3.connect, database, **options))
