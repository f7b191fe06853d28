"""The console's database: transactions to read in, and to write in.

A service opens one for each thing that it does, and nobody else commits. It has ended before the
response is sent, so that what a client is told is what was committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from app.console.errors import Conflict, Invalid, Stale, StoreUnavailable
from app.console.store.engine import WRITING


class Store:
    """The database, over one engine. On one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that changes nothing. Raises `StoreUnavailable`."""
        with _Translated():
            async with self._sessions() as session:
                yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction that is committed at the end, or not at all where something is raised.

        Raises `StoreUnavailable`; `Invalid` for a value that the database cannot hold; `Stale` where
        somebody else changed a row meanwhile; `Conflict` where a row is there already, which a service
        that knows better says better.
        """
        with _Translated():
            async with self._sessions() as session:
                await session.connection(execution_options={WRITING: True})
                yield session
                await session.commit()

    async def ready(self) -> None:
        """Ask it something. Raises `StoreUnavailable`."""
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def _of_a_value(error: DBAPIError) -> bool:
    """asyncpg's errors have their class in SQLSTATE alone: 22 is "data exception"."""
    return str(getattr(error.orig, "sqlstate", "")).startswith("22")


class _Translated:
    """The driver's errors become ours."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        """Raise ours in place of the driver's."""
        match error:
            case PoolTimeout():
                raise StoreUnavailable(
                    "all connections to the console's database are taken: try again shortly, or raise CONSOLE_POOL_SIZE"
                ) from error
            case StaleDataError():
                raise Stale(
                    "it was changed meanwhile: read it again, then repeat your change"
                ) from error
            case IntegrityError():
                raise Conflict("it contradicts what is there already") from error
            case DataError():
                raise Invalid("a value that the console's database cannot hold") from error
            case DBAPIError() if _of_a_value(error):
                raise Invalid("a value that the console's database cannot hold") from error
            case ProgrammingError() | NotSupportedError() | InternalError():
                return  # a fault of ours, which the log has to show
            case DBAPIError() | OSError():
                raise StoreUnavailable(
                    "the console's database does not answer: see the console's log"
                ) from error
