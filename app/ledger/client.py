"""The MongoDB client, and the one place where its errors become ours."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, timedelta
from typing import Any, ParamSpec, TypeAlias, TypeVar

from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import AsyncMongoClient
from pymongo import errors as driver
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from app.errors import LedgerRefused, LedgerUnavailable, RowrelayError

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = AsyncCollection[Document]
Database: TypeAlias = AsyncDatabase[Document]

DUPLICATE_KEY = 11000
"""https://www.mongodb.com/docs/manual/reference/error-codes/"""

_TRANSIENT_CODES = frozenset({
    6,  # HostUnreachable
    7,  # HostNotFound
    50,  # MaxTimeMSExpired
    89,  # NetworkTimeout
    91,  # ShutdownInProgress
    112,  # WriteConflict
    134,  # ReadConcernMajorityNotAvailableYet
    189,  # PrimarySteppedDown
    262,  # ExceededTimeLimit
    9001,  # SocketException
    10107,  # NotWritablePrimary
    11600,  # InterruptedAtShutdown
    11602,  # InterruptedDueToReplStateChange
    13435,  # NotPrimaryNoSecondaryOk
    13436,  # NotPrimaryOrSecondary
    14031,  # OutOfDiskSpace
})  # fmt: skip
"""Server codes after which the same command may succeed: the driver's own retryable codes, time limits, a full disk."""

_TRANSIENT = (driver.ConnectionFailure, driver.ExecutionTimeout, driver.WTimeoutError, driver.WaitQueueTimeoutError)

P = ParamSpec("P")
T = TypeVar("T")


def translate(error: driver.PyMongoError | BSONError) -> RowrelayError:
    """Our error for a driver's: `LedgerUnavailable` where the same call may succeed later, else `LedgerRefused`."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, driver.BulkWriteError):
        codes = {item["code"] for item in error.details.get("writeErrors", ())}
        transient = bool(codes) and codes <= _TRANSIENT_CODES
    elif isinstance(error, driver.OperationFailure):
        transient = error.code in _TRANSIENT_CODES or isinstance(error, _TRANSIENT)
    else:
        transient = isinstance(error, _TRANSIENT)
    return LedgerUnavailable(f"ledger: {text}") if transient else LedgerRefused(f"ledger: {text}")


def query(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Mark a function as one of the ledger's queries: driver errors leave it as ours."""

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except (driver.PyMongoError, BSONError) as error:
            raise translate(error) from error

    return run


def open_client(url: str, connect_timeout: timedelta) -> AsyncMongoClient[Document]:
    """A client for `url`; it connects on first use. Raises `LedgerRefused` for a malformed URL.

    Writes are acknowledged by a majority: what the cursor has passed must survive a failover.
    """
    timeout_ms = int(connect_timeout.total_seconds() * 1000)
    try:
        return AsyncMongoClient(
            url,
            appname="rowrelay",
            tz_aware=True,
            tzinfo=UTC,
            w="majority",
            retryWrites=True,
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            socketTimeoutMS=max(30_000, timeout_ms),
        )
    except (driver.PyMongoError, ValueError) as error:
        raise translate(driver.ConfigurationError(str(error))) from error


def database_of(client: AsyncMongoClient[Document]) -> Database:
    """The database that the URL names, `celery_logs` where it names none."""
    options: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
    return client.get_default_database("celery_logs", codec_options=options)
