"""What differs from one database product to the next, as one record a product. A new product is an added file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.engine import URL
from sqlalchemy.types import TypeEngine

from app.feeds.feed import Feed
from app.source.findings import Finding

Decoder: TypeAlias = Callable[[Any], Any]
"""Turns a driver's value into what the column's declared type means. Must not raise."""


SHORT = 16
"""Bytes that a value is taken to have whose size is not asked for: a number, a date."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the database may take, in seconds."""

    connect: float
    """To answer a new connection."""
    statement: float
    """To run a statement, where the driver can bound it."""


def _no_arguments(timeouts: Timeouts) -> Mapping[str, object]:  # noqa: ARG001 - the field's signature
    return {}


def _unchanged(url: URL) -> URL:
    return url


def _ask_the_table(error: BaseException) -> bool | None:  # noqa: ARG001 - the field's signature
    return None


def _no_decoder(column_type: TypeEngine[Any]) -> Decoder | None:  # noqa: ARG001 - the field's signature
    return None


def _as_it_is(
    column: ColumnElement[Any],
    column_type: TypeEngine[Any],  # noqa: ARG001 - the field's signature
    limit: int,  # noqa: ARG001 - the field's signature
) -> ColumnElement[Any]:
    return column


def _never(error: BaseException) -> bool:  # noqa: ARG001 - the field's signature
    return False


def _no_words(error: BaseException) -> str | None:  # noqa: ARG001 - the field's signature
    return None


def _product(connection: Connection) -> str:
    found = connection.dialect.server_version_info or ("of unknown version",)
    return f"{connection.dialect.name} {'.'.join(map(str, found))}"


def _nothing_else(connection: Connection, feed: Feed) -> Iterable[Finding]:  # noqa: ARG001 - the field's signature
    return ()


def _not_told(
    column: ColumnElement[Any],  # noqa: ARG001 - the field's signature
    column_type: TypeEngine[Any],  # noqa: ARG001 - the field's signature
) -> ColumnElement[Any] | None:
    return None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database product is connected to and understood. The defaults suit a driver with full types."""

    driver: str
    """The async driver that a plain URL is given."""
    connect_args: Callable[[Timeouts], Mapping[str, object]] = _no_arguments
    """The driver's own keywords."""
    prepare_url: Callable[[URL], URL] = _unchanged
    """Completes the URL. May raise `ConfigError`, and is called once, when an engine is opened."""
    engine_options: Mapping[str, object] = field(default_factory=dict)
    """Keywords for SQLAlchemy's `create_async_engine`."""
    type_names: Mapping[str, type[TypeEngine[Any]]] = field(default_factory=dict)
    """Types of the catalogue that SQLAlchemy does not know."""
    on_connect: Callable[[Any], None] | None = None
    """Called with each new driver connection (as SQLAlchemy adapts it) before its first use."""
    refuses: Callable[[BaseException], bool | None] = _ask_the_table
    """Of a driver's error: `True` permanent, `False` worth a retry, `None` where its class decides."""
    by_value: Callable[[BaseException], bool] = _never
    """Of a driver's error that is permanent: whether a single row's value may be the whole cause of it."""
    advice: Callable[[BaseException], str | None] = _no_words
    """Of a driver's error: what to do about it, in plain words; `None` where its own words must do."""
    describe: Callable[[Connection], str] = _product
    """Product, version and driver. Sync, for `AsyncConnection.run_sync`."""
    examine: Callable[[Connection, Feed], Iterable[Finding]] = _nothing_else
    """What only this product is asked about a feed. Sync, as above."""
    selected: Callable[[ColumnElement[Any], TypeEngine[Any], int], ColumnElement[Any]] = _as_it_is
    """How a column of that declared type is read, so that no digit is lost and no value is far above a limit in bytes.

    A value above the limit may come cut, but never to the limit or below."""
    size: Callable[[ColumnElement[Any], TypeEngine[Any]], ColumnElement[Any] | None] = _not_told
    """The bytes of a value of that declared type, as the server says them without sending it; NULL for NULL. `None`:
    its values are short, `SHORT` bytes at most, or the server does not say."""
    decoder: Callable[[TypeEngine[Any]], Decoder | None] = _no_decoder
    """The decoder for a column of that declared type; `None` where the driver's value is right already."""
