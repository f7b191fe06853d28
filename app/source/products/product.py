"""What differs from one database product to the next, as one record a product.

A product is a folder beside this file that exports its `Product`, and a line in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, FromClause, Select
from sqlalchemy.engine import URL
from sqlalchemy.types import TypeEngine

from app.feeds.cursors.timestamp import TimestampCursor
from app.feeds.feed import Feed
from app.source.findings import Finding
from app.source.payload import Decoder
from app.source.position_codec import Codec, Expression
from app.source.table import Column, SourceTable

Columns: TypeAlias = "list[tuple[str, TypeEngine[Any]]]"
"""A table's columns, in order: name and type."""

SHORT = 16
"""Bytes that a value is taken to have whose size is not asked for: a number, a date."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the database may take, in seconds."""

    connect: float
    """To answer a new connection."""
    statement: float
    """To run a statement, where the driver can bound it."""


@dataclass(frozen=True, slots=True)
class ChangesSql:
    """How a product is asked which rows changed: what strategy `change_tracking` rests on."""

    changed: Callable[[SourceTable, Sequence[Column]], FromClause]
    """The rows that changed after version `:since`, each once: SYS_CHANGE_VERSION,
    SYS_CHANGE_OPERATION (`I`, `U` or `D`) and the columns of the key. Takes table and key."""
    versioned: Callable[[SourceTable, Sequence[Column]], FromClause]
    """Every row: its last SYS_CHANGE_VERSION, or NULL where that is not kept, and the table's
    columns.
    """
    current: Expression
    """The version of the last transaction that committed; NULL where changes are not tracked."""
    oldest: Callable[[SourceTable], Expression]
    """Since which version the table's changes are kept; NULL where they are not tracked, or the
    login may not see them.
    """
    examine: Callable[[Connection, SourceTable], Iterable[Finding]]
    """Whether changes are tracked, and for how long they are kept. Sync, for
    `AsyncConnection.run_sync`.
    """
    enable: str
    """The statements that enable it."""


@dataclass(frozen=True, slots=True)
class CursorSql:
    """How one product is asked about versions, moments and identities: what the cursor strategies
    rest on.
    """

    usual_version: Callable[[], TypeEngine[Any]]
    """The type of most columns that strategy `rowversion` reads by."""
    usual_moment: Callable[[], TypeEngine[Any]]
    """The type of most columns that strategy `timestamp` reads by."""
    rowversion_types: tuple[type[TypeEngine[Any]], ...]
    """The column types that strategy `rowversion` takes."""
    min_active: Expression | None
    """The lowest version that an open transaction may still commit; `None`: no transaction can be
    open.
    """
    last_version: Expression | None
    """The last version that the database gave out; `None` where nothing keeps that."""
    moment_types: tuple[type[TypeEngine[Any]], ...]
    """The column types that strategy `timestamp` takes."""
    lowest_moment: Callable[[TypeEngine[Any]], str]
    """The lowest moment that a column of the type can hold."""
    settled: Callable[[Expression, TypeEngine[Any], TimestampCursor], ColumnElement[bool]]
    """That a moment in the column is older than `lag`, so that no transaction will commit a lower
    one any more.
    """
    identity_counter: Callable[[Connection | None, SourceTable, Column], Select[Any] | None]
    """The statement for the last identity value given out and, where it may differ from 1, the
    increment; `None` where there is no such record."""
    utc_now: Expression
    """The server's clock, as text in ISO 8601 without an offset."""
    offset_minutes: Expression
    """By how much the server's local time is ahead of UTC now."""
    examine_versions: Callable[[Connection, Feed], Iterable[Finding]]
    """Whether the versions that strategy `rowversion` reads by can be trusted. Sync, for
    `AsyncConnection.run_sync`.
    """
    changes: ChangesSql | None = None
    """`None`: nothing keeps what changed."""


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


def _of_no_url(url: URL) -> bool:  # noqa: ARG001 - the field's signature
    return False


def _no(connection: Connection) -> bool:  # noqa: ARG001 - the field's signature
    return False


def _as_found(
    connection: Connection,  # noqa: ARG001 - the field's signature
    schema: str | None,  # noqa: ARG001 - the field's signature
    name: str,  # noqa: ARG001 - the field's signature
    found: Columns,
) -> Columns:
    return found


def _not_told(
    column: ColumnElement[Any],  # noqa: ARG001 - the field's signature
    column_type: TypeEngine[Any],  # noqa: ARG001 - the field's signature
) -> ColumnElement[Any] | None:
    return None


@dataclass(frozen=True, slots=True)
class Product:
    """How one database product is connected to and understood. The defaults suit a driver with full
    types.
    """

    name: str
    """SQLAlchemy's name for it."""
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
    in_one_connection: Callable[[URL], bool] = _of_no_url
    """Whether the whole database lives in a single connection: then there is no pool."""
    on_connect: Callable[[Any], None] | None = None
    """Called with each new driver connection (as SQLAlchemy adapts it) before its first use."""
    refuses: Callable[[BaseException], bool | None] = _ask_the_table
    """Of a driver's error: `True` permanent, `False` worth a retry, `None` where its class decides.
    """
    by_value: Callable[[BaseException], bool] = _never
    """Of a driver's error that is permanent: whether a single row's value may be the whole cause of
    it.
    """
    advice: Callable[[BaseException], str | None] = _no_words
    """Of a driver's error: what to do about it, in plain words; `None` where its own words must do.
    """
    describe: Callable[[Connection], str] = _product
    """Product, version and driver. Sync, for `AsyncConnection.run_sync`."""
    columns: Callable[[Connection, str | None, str, Columns], Columns] = _as_found
    """A table's columns, from its schema, its name and what SQLAlchemy found. Sync, as above."""
    unseen: str = ""
    """Why else a table may seem not to exist: goes on from "does not exist"."""
    read_only: Callable[[Connection], bool] = _no
    """Whether the database takes no writes here: it may be a replica. Sync, as above."""
    parameter_mark: str = ":"
    """What stands before a parameter's name, where statements are shown to a person."""
    unique_constraints_apart: bool = False
    """SQLAlchemy does not list unique constraints among the indexes."""
    examine: Callable[[Connection, Feed], Iterable[Finding]] = _nothing_else
    """What only this product is asked about a feed. Sync, as above."""
    selected: Callable[[ColumnElement[Any], TypeEngine[Any], int], ColumnElement[Any]] = _as_it_is
    """How a column of that declared type is read, so that no digit is lost and no value is far
    above a limit in bytes.

    A value above the limit may come cut, but never to the limit or below."""
    size: Callable[[ColumnElement[Any], TypeEngine[Any]], ColumnElement[Any] | None] = _not_told
    """The bytes of a value of that declared type, as the server says them without sending it; NULL
    for NULL. `None`: its values are short, `SHORT` bytes at most, or the server does not say."""
    decoder: Callable[[TypeEngine[Any]], Decoder | None] = _no_decoder
    """The decoder for a column of that declared type; `None` where the driver's value is right
    already.
    """
    codec: Callable[[Column], Codec | None] = Codec
    """How the column's values stand in positions and keys; `None` for a type that cannot serve."""
    cursors: CursorSql | None = None
    """`None`: the `identity` strategy only, and without the server's clock."""
