"""The MongoDB client, and the one place where its errors become ours."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, timedelta
from typing import Any, ParamSpec, TypeAlias, TypeVar

from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import BSONError
from bson.int64 import Int64
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
    43,  # CursorNotFound
    50,  # MaxTimeMSExpired
    64,  # WriteConcernTimeout
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

_TRANSIENT = (driver.ConnectionFailure, driver.CursorNotFound, driver.ExecutionTimeout, driver.WTimeoutError)

_DRIVER_INTERNALS = re.compile(r" \(configured timeouts: [^)]*\)|, Timeout: [0-9.]+s, Topology Description: .*")
"""What the driver adds to "cannot connect", and an operator cannot use."""

P = ParamSpec("P")
T = TypeVar("T")


_FROM_DRIVER = (driver.PyMongoError, BSONError, OverflowError, UnicodeEncodeError)
"""What a query can raise; the last two where a value has no BSON form (an integer beyond 64 bits, a lone surrogate)."""


def translate(error: Exception) -> RowrelayError:
    """Our error for a driver's: `LedgerUnavailable` where the same call may succeed later, else `LedgerRefused`."""
    text = _DRIVER_INTERNALS.sub("", " ".join(str(error).split()))[:300]
    return LedgerUnavailable(f"ledger: {text}") if _is_transient(error) else LedgerRefused(f"ledger: {text}")


def _is_transient(error: Exception) -> bool:
    if isinstance(error, driver.BulkWriteError):
        problems = [*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ())]
        codes = {problem["code"] for problem in problems} - {DUPLICATE_KEY}
        return bool(codes) and codes <= _TRANSIENT_CODES
    if isinstance(error, driver.OperationFailure) and error.code in _TRANSIENT_CODES:
        return True
    return isinstance(error, _TRANSIENT)


class Answers:
    """What the ledger's answers prove of this process: that its tasks move, however long one of them runs."""

    at: float | None = None
    """When a query was last answered, by a clock that never goes back; `None`: none was."""


answers = Answers()


def query(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Mark a function as one of the ledger's queries: driver errors leave it as ours, and an answer is noted."""
    asking = query_by_timer(function)

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = await asking(*args, **kwargs)
        answers.at = time.monotonic()
        return answer

    return run


def query_by_timer(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """As `query`, for what is asked again and again whether work moves or hangs: its answer proves nothing."""

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except _FROM_DRIVER as error:
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


class _PlainIntegers(TypeDecoder):
    """PyMongo gives 64-bit integers back as a subclass of `int`; what looks a value's type up would not find it."""

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        return int(value)


def database_of(client: AsyncMongoClient[Document]) -> Database:
    """The database that the URL names, `celery_logs` where it names none. Integers come back as they were written."""
    options: CodecOptions[Document] = CodecOptions(
        tz_aware=True, tzinfo=UTC, type_registry=TypeRegistry([_PlainIntegers()])
    )
    return client.get_default_database("celery_logs", codec_options=options)
