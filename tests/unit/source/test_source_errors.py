"""Every error of SQLAlchemy and the drivers leaves the source as retry or permanent."""

from __future__ import annotations

import inspect
import sqlite3

import pytest
from sqlalchemy import exc

from app.core.errors import SourceRefused, SourceUnavailable, ValueRefused
from app.source.errors import VERDICTS, translated, verdict
from app.source.products.product import Product
from app.source.products.sqlite.product import SQLITE

PLAIN = Product(name="none", driver="none")
RAISED = [
    kind
    for _, kind in inspect.getmembers(exc, inspect.isclass)
    if issubclass(kind, Exception)
    and not issubclass(kind, Warning)
    and kind is not exc.SQLAlchemyError
]


def _wrapped(
    kind: type[exc.DBAPIError], original: Exception, *, invalidated: bool = False
) -> exc.DBAPIError:
    return kind(
        "SELECT secret_column FROM t", {"p": 1}, original, connection_invalidated=invalidated
    )


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_no_error_class_of_sqlalchemy_is_unmapped(kind: type[Exception]) -> None:
    assert set(kind.__mro__) & set(VERDICTS)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_wrapped(exc.OperationalError, Exception("gone away")), SourceUnavailable),
        (_wrapped(exc.InterfaceError, Exception("no connection")), SourceUnavailable),
        (_wrapped(exc.DBAPIError, Exception("unheard of")), SourceUnavailable),
        (_wrapped(exc.ProgrammingError, Exception("no right to read")), SourceRefused),
        (_wrapped(exc.ProgrammingError, Exception("cut"), invalidated=True), SourceUnavailable),
        (_wrapped(exc.DataError, Exception("out of range")), ValueRefused),
        (exc.TimeoutError("pool"), SourceUnavailable),
        (exc.NoSuchTableError("t"), SourceRefused),
        (exc.CompileError("no such form"), SourceRefused),
        (ConnectionRefusedError("refused"), SourceUnavailable),
        (TimeoutError("slow"), SourceUnavailable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_an_error_says_whether_to_try_again(
    error: BaseException, expected: type[Exception]
) -> None:
    assert verdict(error, PLAIN) is expected


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (sqlite3.SQLITE_BUSY, "said so", SourceUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "said so", SourceUnavailable),
        (sqlite3.SQLITE_IOERR_READ, "said so", SourceUnavailable),
        (sqlite3.SQLITE_CANTOPEN, "said so", SourceUnavailable),
        (sqlite3.SQLITE_ERROR, "no such column: note", SourceRefused),
        (sqlite3.SQLITE_ERROR, "malformed JSON", ValueRefused),
        (sqlite3.SQLITE_NOTADB, "said so", SourceRefused),
    ],
)
def test_sqlite_errors_are_judged_by_their_code(
    code: int, said: str, expected: type[Exception]
) -> None:
    original = sqlite3.OperationalError(said)
    original.sqlite_errorcode = code
    assert verdict(_wrapped(exc.OperationalError, original), SQLITE) is expected


def test_the_message_is_one_line_with_the_place_and_without_the_password() -> None:
    original = Exception("login\n failed for 'sa': hunter2; PWD={a;b};Password=other x")
    with (
        pytest.raises(SourceUnavailable) as caught,
        translated("mssql db/shop: feed orders", PLAIN, "hunter2"),
    ):
        raise _wrapped(exc.OperationalError, original)
    assert (
        str(caught.value)
        == "mssql db/shop: feed orders: login failed for 'sa': ***; PWD=***;Password=*** x"
    )


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), translated("here", PLAIN, None):
        raise ZeroDivisionError
