"""aioodbc's connection with a thread of its own, so that what is cancelled ends, and nothing runs beside it.

aioodbc 0.5 hands each driver call to the event loop's shared threads. A cancelled call goes on there, and closing the
connection would then run beside it, which ODBC drivers do not all survive. Here calls of one connection queue on one
thread: closing waits for the call before it, which is told to stop (`SQLCancel`) and ends by the query timeout at last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import aioodbc.connection
import pyodbc

STOP_EVERY_SECONDS = 0.5


class OneThreadConnection(aioodbc.connection.Connection):  # type: ignore[misc] # aioodbc has no types
    """A pyodbc connection for coroutines. Make one with `connect`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(executor=ThreadPoolExecutor(1, thread_name_prefix="rowrelay-odbc"), **options)

    @property
    def raw(self) -> pyodbc.Connection:
        """The open pyodbc connection; only for calls that do no I/O."""
        return self._conn

    async def open(self, query_timeout_seconds: int) -> None:
        """Connect. No statement will run longer than `query_timeout_seconds`. Raises pyodbc's errors."""
        try:
            await self._connect()
        except BaseException:
            self._executor.shutdown(wait=False)
            raise
        self._conn.timeout = query_timeout_seconds

    async def close(self) -> None:
        """Close the connection once its running call has ended, and let the thread go."""
        try:
            await super().close()
        finally:
            self._executor.shutdown(wait=False)

    def _execute(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Start a driver call now, in its turn; aioodbc does not await all of what this returns."""
        call = self._loop.run_in_executor(self._executor, partial(func, *args, **kwargs))
        return asyncio.ensure_future(self._result(call, func))

    async def _result(self, call: asyncio.Future[Any], func: Callable[..., Any]) -> Any:
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            call.add_done_callback(_noticed)
            cursor = getattr(func, "__self__", None)
            if isinstance(cursor, pyodbc.Cursor):
                await self._end(call, cursor)
            raise

    async def _end(self, call: asyncio.Future[Any], cursor: pyodbc.Cursor) -> None:
        """Tell a running call to stop until it has: told before its thread had begun, it would not hear."""
        while not call.done():
            await self._loop.run_in_executor(None, _stop, cursor)
            await asyncio.wait([call], timeout=STOP_EVERY_SECONDS)


async def connect(*, query_timeout_seconds: int, **options: Any) -> OneThreadConnection:
    """Open a connection: what SQLAlchemy calls in place of `aioodbc.connect`, with the same options."""
    connection = OneThreadConnection(**options)
    await connection.open(query_timeout_seconds)
    return connection


def _noticed(call: asyncio.Future[Any]) -> None:
    """Nobody waits for this call any more: its error is looked at here, so that asyncio does not complain of it."""
    if not call.cancelled():
        call.exception()


def _stop(cursor: pyodbc.Cursor) -> None:
    with suppress(pyodbc.Error):  # it had ended by itself
        cursor.cancel()
