"""SQLite as a source: opened so that it is never written to, its loosely typed values given their
declared meaning.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Integer, LargeBinary, cast, func
from sqlalchemy.engine import URL
from sqlalchemy.types import Boolean, DateTime, Numeric, TypeEngine

from app.source.payload import Decoder
from app.source.products.product import Product, Timeouts
from app.source.products.sqlite.connection import connect
from app.source.products.sqlite.cursors import CURSORS
from app.source.products.sqlite.position_codecs import sqlite_codec

_SPACED_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:.*)")
_REFUSED_CODES = frozenset({
    sqlite3.SQLITE_ERROR,  # a statement that is wrong: no such table, no such column
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_NOTADB,
})  # fmt: skip
"""Primary result codes that the same call would meet again (https://www.sqlite.org/rescode.html).
"""

_OF_THE_STATEMENT = (
    "no such ",
    "near ",
    "ambiguous ",
    "incomplete ",
    "unrecognized ",
    "wrong number ",
    "too many ",
)


def _connect_args(timeouts: Timeouts) -> Mapping[str, object]:
    """`timeout` is SQLite's busy timeout: how long a read waits for a writer's lock."""
    return {"timeout": timeouts.connect, "async_creator_fn": connect}


def _prepare_url(url: URL) -> URL:
    """Open an existing file only: without `mode=rw` SQLite makes an empty database out of a
    misspelt path.
    """
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return url
    return url.set(database=Path(url.database).absolute().as_uri()).update_query_dict(
        {"mode": "rw", "uri": "true"}
    )


def _on_connect(connection: Any) -> None:
    """Forbid writing, and let text that is no UTF-8 through as lone surrogates: it spoils its own
    row, not the page.
    """
    connection.driver_connection.text_factory = partial(
        str, encoding="utf-8", errors="surrogateescape"
    )
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _refuses(error: BaseException) -> bool | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else (code & 0xFF) in _REFUSED_CODES


def _by_value(error: BaseException) -> bool:
    """A computed column or a view that fails for a row has the code of a statement that is wrong:
    only words differ.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_ERROR:
        return not str(error).startswith(_OF_THE_STATEMENT)
    return code in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH)


def _size(column: ColumnElement[Any], column_type: TypeEngine[Any]) -> ColumnElement[Any]:
    """Of any column: it may hold a text or a blob, whatever it is declared as. Of a text it is
    bytes, as of a blob.
    """
    del column_type
    return func.length(cast(column, LargeBinary()), type_=Integer())


def _decoder(column_type: TypeEngine[Any]) -> Decoder | None:
    """SQLite knows no decimals, booleans or dates: it keeps numbers and text in columns declared
    so.
    """
    if isinstance(column_type, Numeric):
        return partial(_decimal, scale=column_type.scale)
    if isinstance(column_type, Boolean):
        return _boolean
    return _datetime if isinstance(column_type, DateTime) else None


def _decimal(value: Any, scale: int | None) -> Any:
    """A number as a decimal of the declared scale, where that scale holds all of its digits."""
    if not isinstance(value, (int, float)):
        return value
    exact = Decimal(repr(value))
    if not exact.is_finite():
        return value
    try:
        scaled = exact.quantize(Decimal(1).scaleb(-scale)) if scale is not None else exact
    except InvalidOperation:
        return exact
    return scaled if scaled == exact else exact


def _boolean(value: Any) -> Any:
    return bool(value) if value in (0, 1) else value


def _datetime(value: Any) -> Any:
    """`2026-01-31 10:00:00.1234567` with the `T` of ISO 8601. Text, so that no digit is lost; any
    other form stays.
    """
    match = _SPACED_DATETIME.fullmatch(value) if isinstance(value, str) else None
    return f"{match[1]}T{match[2]}" if match else value


SQLITE = Product(
    name="sqlite",
    driver="aiosqlite",
    connect_args=_connect_args,
    prepare_url=_prepare_url,
    engine_options={
        "isolation_level": "AUTOCOMMIT",  # nothing is written, so there is nothing to roll back
        "skip_autocommit_rollback": True,
        "pool_pre_ping": False,  # a file does not close its connections
    },
    in_one_connection=lambda url: url.database in (None, "", ":memory:"),
    on_connect=_on_connect,
    refuses=_refuses,
    by_value=_by_value,
    size=_size,
    decoder=_decoder,
    codec=lambda column: sqlite_codec(column.type)(column),
    cursors=CURSORS,
    unique_constraints_apart=True,
)
