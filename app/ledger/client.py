"""The MongoDB client, and the one place where its errors become ours."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, timedelta
from typing import Any, ParamSpec, TypeAlias, TypeVar

import pymongo
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import BSONError
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo import errors as driver
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from app.core.errors import LedgerRefused, LedgerUnavailable, RowrelayError
from app.ledger.error_codes import PASSING, PASSING_LABELS
from app.ledger.error_text import problems_of, refuses_retryable_writes, retry_after, told, wait_in
from app.ledger.persistence import Asking, note_answered
from app.ledger.url import url_problems

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = AsyncCollection[Document]
Database: TypeAlias = AsyncDatabase[Document]

DUPLICATE_KEY = 11000
"""https://www.mongodb.com/docs/manual/reference/error-codes/"""

_PASSING = (
    driver.ConnectionFailure,
    driver.CursorNotFound,
    driver.ExecutionTimeout,
    driver.WTimeoutError,
)

_UNACKNOWLEDGED = "a write was not acknowledged by a majority of the replica set"

P = ParamSpec("P")
T = TypeVar("T")


_FROM_DRIVER = (driver.PyMongoError, BSONError, OverflowError, UnicodeEncodeError)
"""What a query can raise; the last two where a value has no BSON form (an integer beyond 64 bits, a
lone surrogate).
"""


def translate(error: Exception) -> RowrelayError:
    """Our error for a driver's: `LedgerUnavailable` where the same call may succeed later, else
    `LedgerRefused`.
    """
    text = f"ledger: {told(error)}"
    if not _passes(error):
        return LedgerRefused(text)
    unreachable = isinstance(error, driver.ServerSelectionTimeoutError)
    ours = LedgerUnavailable(text, retry_after=retry_after(error), unreachable=unreachable)
    ours.too_slow = isinstance(error, driver.PyMongoError) and error.timeout and not unreachable
    return ours


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is asked in this block may take so long altogether: then the server gives it up, and
    `LedgerUnavailable` is raised, which says `too_slow`."""
    with pymongo.timeout(seconds):
        yield


def _passes(error: Exception) -> bool:
    if refuses_retryable_writes(str(error)):  # with a code that MongoDB gives to something else
        return False
    if isinstance(error, driver.BulkWriteError):
        problems = [
            problem for problem in problems_of(error) if problem.get("code") != DUPLICATE_KEY
        ]
        return bool(problems) and all(map(_problem_passes, problems))
    if retry_after(error) is not None:  # whatever its code
        return True
    if isinstance(error, _PASSING) or (
        isinstance(error, driver.OperationFailure) and error.code in PASSING
    ):
        return True
    return isinstance(error, driver.PyMongoError) and any(
        map(error.has_error_label, PASSING_LABELS)
    )


def _is_unacknowledged(error: AttributeError) -> bool:
    """Whether the driver fell over a retryable write concern error in the answer to
    `findAndModify`.

    PyMongo (4.20, `_check_command_response`) writes the answer's labels into that error, and cannot
    where the answer is raw, as that command's is. Only an error that has a label gets there, and
    the labels say that it passes.
    """
    return isinstance(error.obj, RawBSONDocument) and error.name == "update"


def _problem_passes(problem: Mapping[str, Any]) -> bool:
    """Whether a problem of a bulk write passes: one with a write, or with its being acknowledged."""
    if wait_in(str(problem.get("errmsg", ""))) is not None:
        return True
    return problem.get("code") in PASSING or not set(PASSING_LABELS).isdisjoint(
        problem.get("errorLabels", ())
    )


class Answers:
    """What the ledger's answers prove: that this process's tasks make progress, however long one of
    them runs.
    """

    at: float | None = None
    """When a query was last answered, by a clock that never goes back; `None`: none was."""


answers = Answers()


def query(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Mark a function as a query of the ledger: driver errors become ours, and answers are noted.

    It may be repeated before it fails: see `app/ledger/persistence.py`.
    """
    return _asked(function, once=False)


def query_once(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """As `query`, for updates that would count double if repeated."""
    return _asked(function, once=True)


def _asked(
    function: Callable[P, Awaitable[T]], *, once: bool
) -> Callable[P, Coroutine[Any, Any, T]]:
    ask = query_by_timer(function)

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        asking: Asking | None = None
        while True:
            try:
                answer = await ask(*args, **kwargs)
            except LedgerUnavailable as error:
                asking = asking or Asking(once)
                await asking.wait(error)
            else:
                answers.at = time.monotonic()
                note_answered()
                return answer

    return run


def query_by_timer(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """As `query`, for what a timer asks, whether work makes progress or not: its answer proves
    nothing.
    """

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except _FROM_DRIVER as error:
            raise translate(error) from error
        except AttributeError as error:
            if not _is_unacknowledged(error):
                raise
            raise LedgerUnavailable(f"ledger: {_UNACKNOWLEDGED}") from error

    return run


def open_client(url: str, connect_timeout: timedelta) -> AsyncMongoClient[Document]:
    """A client for `url`; it connects on first use. Raises `LedgerRefused` for a URL that
    `url_problems` finds wrong.

    Writes are acknowledged by a majority: what the cursor has passed must survive a failover.
    Whether the driver writes again by itself is the URL's to say (`retryWrites`; true where it says
    nothing): not every server has that.
    """
    if problems := url_problems(url):
        raise LedgerRefused(
            "; ".join(f"MONGO_URL: found {found}: {allowed}" for found, allowed in problems)
        )
    timeout_ms = int(connect_timeout.total_seconds() * 1000)
    try:
        return AsyncMongoClient(
            url,
            appname="rowrelay",
            tz_aware=True,
            tzinfo=UTC,
            w="majority",
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            socketTimeoutMS=max(30_000, timeout_ms),
        )
    except (driver.PyMongoError, ValueError) as error:
        raise translate(driver.ConfigurationError(str(error))) from error


class _PlainIntegers(TypeDecoder):
    """PyMongo gives 64-bit integers back as a subclass of `int`; what looks a value's type up would
    not find it.
    """

    bson_type = Int64

    def transform_bson(self, value: int) -> int:
        return int(value)


def database_of(client: AsyncMongoClient[Document]) -> Database:
    """The database that the URL names, `celery_logs` where it names none. Integers come back as
    they were written.

    Reads see what a majority has, unless the URL says otherwise: a primary that is cut off without
    knowing it shows writes that only it has, and those will be undone. What this process has
    written, and a majority acknowledged, they see
    (https://www.mongodb.com/docs/manual/reference/read-concern-majority/).
    """
    options: CodecOptions[Document] = CodecOptions(
        tz_aware=True, tzinfo=UTC, type_registry=TypeRegistry([_PlainIntegers()])
    )
    concern = client.read_concern if client.read_concern.level else ReadConcern("majority")
    return client.get_default_database("celery_logs", codec_options=options, read_concern=concern)
