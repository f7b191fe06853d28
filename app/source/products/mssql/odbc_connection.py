"""aioodbc's connection with a thread of its own, so that what is cancelled ends, and nothing runs
beside it.

aioodbc 0.5 hands each driver call to the event loop's shared threads. A cancelled call goes on
there, and closing the connection would then run beside it, which ODBC drivers do not all survive.
Here calls of one connection queue on one thread: closing waits for the call before it, which is
told to stop (`SQLCancel`) and ends by the query timeout at last.

aioodbc closes a connection by itself when a call says that the server has dropped it, while
SQLAlchemy still holds a cursor of it. A call that comes after that has pyodbc's own error for it,
08003: SQLAlchemy and `source.errors` know that the connection is gone, and another takes its place.
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

    _conn: pyodbc.Connection | None
    """`None` before it is open and once it is closed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            executor=ThreadPoolExecutor(1, thread_name_prefix="rowrelay-odbc"), **options
        )

    @property
    def raw(self) -> pyodbc.Connection:
        """The open pyodbc connection; only for calls that do no I/O. Raises
        `pyodbc.OperationalError` once closed.
        """
        if self._conn is None:
            raise _closed()
        return self._conn

    @property
    def autocommit(self) -> bool:
        """Whether each statement is a transaction. Raises `pyodbc.OperationalError` once closed."""
        return bool(self.raw.autocommit)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.raw.autocommit = value

    async def open(self, query_timeout_seconds: int) -> None:
        """Connect. No statement will run longer than `query_timeout_seconds`. Raises pyodbc's
        errors.
        """
        try:
            await self._connect()
        except BaseException:
            self._executor.shutdown(wait=False)
            raise
        self.raw.timeout = query_timeout_seconds

    async def close(self) -> None:
        """Close the connection once its running call has ended, and let the thread go. Closing
        again does nothing.
        """
        open_before, self._conn = self._conn, None
        if open_before is None:
            return
        closing = self._submit(open_before.close)
        self._executor.shutdown(wait=False)  # what is queued still runs
        await self._result(closing, open_before.close)

    async def commit(self) -> None:
        """Commit. Raises `pyodbc.OperationalError` once closed."""
        await self._execute(self.raw.commit)

    async def rollback(self) -> None:
        """Roll back. Raises `pyodbc.OperationalError` once closed."""
        await self._execute(self.raw.rollback)

    async def _cursor(self) -> Any:
        _ = self.raw
        return await super()._cursor()

    def _execute(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Start a driver call now, in its turn; aioodbc does not await all of what this returns.

        Raises `pyodbc.OperationalError` once closed.
        """
        return asyncio.ensure_future(self._result(self._submit(func, *args, **kwargs), func))

    def _submit(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        try:
            call: asyncio.Future[Any] = self._loop.run_in_executor(
                self._executor, partial(func, *args, **kwargs)
            )
        except RuntimeError:  # the thread is gone, and with it the connection
            raise _closed() from None
        return call

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
        """Tell a running call to stop until it has: told before its thread had begun, it would not
        hear.
        """
        while not call.done():
            await self._loop.run_in_executor(None, _stop, cursor)
            await asyncio.wait([call], timeout=STOP_EVERY_SECONDS)


async def connect(*, query_timeout_seconds: int, **options: Any) -> OneThreadConnection:
    """Open a connection: what SQLAlchemy calls in place of `aioodbc.connect`, with the same
    options.
    """
    connection = OneThreadConnection(**options)
    await connection.open(query_timeout_seconds)
    return connection


def _closed() -> pyodbc.OperationalError:
    return pyodbc.OperationalError("08003", "[08003] the connection was closed (0)")


def _noticed(call: asyncio.Future[Any]) -> None:
    """Nobody waits for this call any more: its error is looked at here, so that asyncio does not
    complain of it.
    """
    if not call.cancelled():
        call.exception()


def _stop(cursor: pyodbc.Cursor) -> None:
    with suppress(pyodbc.Error):  # it had ended by itself
        cursor.cancel()
