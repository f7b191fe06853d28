"""The boundary: what SQLAlchemy and the drivers raise, translated by one table into retry or
permanent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from sqlalchemy import exc

from app.core.errors import SourceRefused, SourceUnavailable, ValueRefused
from app.core.shown import one_line
from app.source.products.product import Product

SourceError: TypeAlias = SourceUnavailable | SourceRefused

VERDICTS: Mapping[type[BaseException], type[SourceError]] = {
    # The driver's errors, by the classes of PEP 249. An unknown one is tried again: that loses
    # nothing.
    exc.DBAPIError: SourceUnavailable,
    exc.InterfaceError: SourceUnavailable,
    exc.OperationalError: SourceUnavailable,
    exc.InternalError: SourceUnavailable,
    exc.DatabaseError: SourceRefused,
    exc.DataError: ValueRefused,
    exc.IntegrityError: SourceRefused,
    exc.ProgrammingError: SourceRefused,
    exc.NotSupportedError: SourceRefused,
    exc.EmulatedDBAPIException: SourceUnavailable,
    # The pool's errors.
    exc.DisconnectionError: SourceUnavailable,
    exc.TimeoutError: SourceUnavailable,
    # A statement that cannot be built or read, a table that is not there: the next try would be the
    # same.
    exc.ArgumentError: SourceRefused,
    exc.CircularDependencyError: SourceRefused,
    exc.CompileError: SourceRefused,
    exc.IdentifierError: SourceRefused,
    exc.InvalidRequestError: SourceRefused,
    exc.StatementError: SourceRefused,
    # What a driver lets through from the network.
    OSError: SourceUnavailable,
}
"""The nearest class in an error's ancestry decides; `Product.refuses` goes before it where it knows
the code.
"""

_TRANSLATED = (exc.SQLAlchemyError, exc.EmulatedDBAPIException, OSError)
_SECRET_PAIR = re.compile(r"\b(pwd|password)\s*=\s*(\{[^}]*\}|[^;\s]*)", re.IGNORECASE)


def verdict(error: BaseException, product: Product) -> type[SourceError]:
    """Whether an error of SQLAlchemy or a driver is worth a retry, as the class to raise in its
    place.
    """
    if isinstance(error, exc.DBAPIError):
        refused = product.refuses(error.orig) if error.orig else None
        if refused:
            return ValueRefused if error.orig and product.by_value(error.orig) else SourceRefused
        if error.connection_invalidated or refused is False:
            return SourceUnavailable
    return next(
        (VERDICTS[kind] for kind in type(error).__mro__ if kind in VERDICTS), SourceUnavailable
    )


def is_by_value(error: BaseException, product: Product) -> bool:
    """Whether a single row's value may be the whole cause of an error of SQLAlchemy or a driver."""
    return verdict(error, product) is ValueRefused


@contextmanager
def translated(where: str, product: Product, password: str | None) -> Iterator[None]:
    """Within it, an error of SQLAlchemy or a driver leaves as `SourceUnavailable` or
    `SourceRefused`.

    `where` names source, feed and table; the message is one line and never holds `password`.
    """
    try:
        yield
    except _TRANSLATED as error:
        raise verdict(error, product)(f"{where}: {advised(error, product, password)}") from error


def advised(error: BaseException, product: Product, password: str | None) -> str:
    """The error in one line that never holds `password`: what to do, where that is known, then the
    driver's words.
    """
    advice = (
        product.advice(error.orig) if isinstance(error, exc.DBAPIError) and error.orig else None
    )
    said = _one_line(error, password)
    return said if advice is None else f"{advice} ({said})"


def _one_line(error: BaseException, password: str | None) -> str:
    """The driver's own words, without SQLAlchemy's statement and parameters."""
    original = error.orig if isinstance(error, exc.StatementError) and error.orig else error
    args = original.args
    said = args[0] if isinstance(original, exc.SQLAlchemyError) and args else original
    # pyodbc's errors are (SQLSTATE, text), and the text begins with the SQLSTATE.
    text = args[1] if len(args) > 1 and type(original).__module__ == "pyodbc" else str(said)
    if password:
        text = text.replace(password, "***")
    text = one_line(text) or type(original).__name__
    return _SECRET_PAIR.sub(r"\1=***", text)
