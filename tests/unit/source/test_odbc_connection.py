"""A connection that is gone says so in the driver's own words, whatever is asked of it, and by
whom.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pyodbc = pytest.importorskip(
    "pyodbc", reason="pyodbc needs unixODBC (libodbc.so.2)", exc_type=ImportError
)

from app.source.products.mssql.odbc_connection import OneThreadConnection  # noqa: E402


class RawCursor:
    """A cursor that nothing is asked of, as its connection is gone."""

    def execute(self, *_: object) -> None: ...

    def close(self) -> None: ...


class Raw:
    """What pyodbc opens, as far as it is used here; one call can be held up."""

    def __init__(self) -> None:
        self.autocommit = True
        self.closed = 0
        self.held = threading.Event()
        self.held.set()

    def cursor(self) -> Any:
        self.held.wait(30)
        return RawCursor()

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
async def raw() -> Raw:
    return Raw()


@pytest.fixture
async def connection(raw: Raw) -> OneThreadConnection:
    made = OneThreadConnection(dsn="none")
    made._conn = raw  # stands in for a driver's, which needs a server
    return made


async def _cursor(connection: OneThreadConnection) -> object:
    return await connection.cursor()


CALLS: dict[str, Callable[[OneThreadConnection], Awaitable[object]]] = {
    "cursor": _cursor,
    "commit": lambda connection: connection.commit(),
    "rollback": lambda connection: connection.rollback(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_on_a_closed_connection_has_the_drivers_own_error(
    connection: OneThreadConnection, call: str
) -> None:
    await connection.close()
    with pytest.raises(pyodbc.OperationalError) as caught:
        await CALLS[call](connection)
    assert caught.value.args[0] == "08003"
    with pytest.raises(pyodbc.OperationalError):
        _ = connection.autocommit


async def test_a_cursor_that_outlives_its_connection_has_the_drivers_own_error(
    connection: OneThreadConnection,
) -> None:
    cursor = await connection.cursor()
    await connection.close()
    for late in (lambda: cursor.execute("SELECT 1"), cursor.close):
        with pytest.raises(pyodbc.OperationalError, match="08003"):
            await late()


async def test_closing_twice_or_by_two_at_once_closes_once(
    connection: OneThreadConnection, raw: Raw
) -> None:
    await asyncio.gather(connection.close(), connection.close())
    await connection.close()
    assert raw.closed == 1


async def test_closing_waits_for_the_call_before_it_also_when_that_was_cancelled(
    connection: OneThreadConnection, raw: Raw
) -> None:
    raw.held.clear()
    asking = asyncio.create_task(_cursor(connection))
    await asyncio.sleep(0)
    asking.cancel()
    closing = asyncio.create_task(connection.close())
    await asyncio.wait([closing], timeout=0.05)
    assert raw.closed == 0
    raw.held.set()
    await closing
    assert raw.closed == 1
    with pytest.raises(asyncio.CancelledError):
        await asking
