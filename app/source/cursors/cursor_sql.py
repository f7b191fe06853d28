"""What the cursor strategies must know of a database product, as one record a product.

SQLite has no rowversion and no MIN_ACTIVE_ROWVERSION(): there, any integer or blob column that grows with each write
serves, and needs no upper bound, because SQLite lets one transaction write at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy.dialects import mssql
from sqlalchemy.sql import literal_column
from sqlalchemy.types import Date, DateTime, Integer, LargeBinary, NullType, Numeric, String, TypeEngine

from app.feeds.feed import CursorSpec
from app.source.catalogue import Column, SourceTable, quoted_table
from app.source.codec import Codec, Expression
from app.source.products.mssql.codecs import mssql_codec
from app.source.products.mssql.moments import Moment, lowest_moment, moment_of
from app.source.products.sqlite.codecs import sqlite_codec


@dataclass(frozen=True, slots=True)
class CursorSql:
    """How one product is asked about versions, moments and identities."""

    rowversion_types: tuple[type[TypeEngine[Any]], ...]
    """The column types that strategy `rowversion` takes."""
    min_active: Expression | None
    """The lowest version that an open transaction may still commit; `None`: no transaction can be open."""
    last_version: Expression | None
    """The last version that the database gave out; `None` where nothing keeps that."""
    moment_types: tuple[type[TypeEngine[Any]], ...]
    """The column types that strategy `timestamp` takes."""
    lowest_moment: Callable[[TypeEngine[Any]], str]
    """The lowest moment that a column of the type can hold."""
    settled: Callable[[Expression, TypeEngine[Any], CursorSpec], ColumnElement[bool]]
    """That a moment in the column is older than `lag`, so that no transaction will commit a lower one any more."""
    codec: Callable[[Column], Codec | None]
    """How the column's values stand in positions and keys; `None` for a type that cannot serve."""
    identity_counter: Callable[[Connection | None, SourceTable, Column], Select[Any] | None]
    """The statement for the last identity value given out and, where it may differ from 1, the increment; `None` where
    there is no such record."""
    utc_now: Expression
    """The server's clock, as text in ISO 8601 without an offset."""
    offset_minutes: Expression
    """By how much the server's local time is ahead of UTC now."""


# --- SQL Server


def _mssql_now(clock: str, column_type: TypeEngine[Any]) -> Expression:
    if isinstance(column_type, mssql.DATETIMEOFFSET):
        return func.SYSDATETIMEOFFSET()
    utc, local = func.SYSUTCDATETIME(), func.SYSDATETIME()
    if clock == "either":
        return case((utc < local, utc), else_=local)
    return utc if clock == "utc" else local


def _mssql_settled(moment: Expression, column_type: TypeEngine[Any], spec: CursorSpec) -> ColumnElement[bool]:
    """Strictly below now - lag - rounding: a row still to come may be rounded down to that, but not below it."""
    moment_type = moment_of(column_type) or Moment("DATETIME2(7)", 0)
    name = moment_type.name
    back_ms = round(spec.lag.total_seconds() * 1000) + moment_type.rounding_ms
    bound = func.DATEADD(
        literal_column("MILLISECOND"), bindparam("lag_ms", -back_ms), _mssql_now(spec.clock, column_type)
    )
    if name in ("DATETIME", "SMALLDATETIME"):  # no digit is lost by it, and Babelfish converts no finer moment to these
        bound = func.CONVERT(literal_column("DATETIME2(3)"), bound)
    return moment < func.CONVERT(literal_column(name), bound)


def _mssql_identity_counter(_: Connection | None, source: SourceTable, wanted: Column) -> Select[Any]:
    """`last_value` is NULL in a table just made or truncated: then the value before the seed. IDENT_CURRENT() gives
    the seed itself there, as if that had been used."""
    names = ("object_id", "name", "last_value", "seed_value", "increment_value")
    columns = table("identity_columns", *map(column, names), schema="sys").c
    exact = Numeric(38, 0)
    fresh = cast(columns.seed_value, exact) - cast(columns.increment_value, exact)
    counted = func.coalesce(cast(columns.last_value, exact), fresh)
    values: tuple[Expression, ...] = (counted, cast(columns.increment_value, exact))
    return select(*values).where(
        and_(columns.object_id == func.OBJECT_ID(quoted_table(source.schema, source.name)), columns.name == wanted.name)
    )


# --- SQLite

_SQLITE_ROUNDING_SECONDS = 1
"""CURRENT_TIMESTAMP has whole seconds."""


def _sqlite_settled(moment: Expression, _: TypeEngine[Any], spec: CursorSpec) -> ColumnElement[bool]:
    back = f"-{spec.lag.total_seconds() + _SQLITE_ROUNDING_SECONDS:.3f} seconds"
    form = "%Y-%m-%d %H:%M:%f"
    utc, local = func.strftime(form, "now", back), func.strftime(form, "now", "localtime", back)
    bound = {"utc": utc, "local": local, "either": func.min(utc, local)}[spec.clock]
    return func.replace(moment, "T", " ") < bound


def _sqlite_identity_counter(connection: Connection | None, source: SourceTable, _: Column) -> Select[Any] | None:
    """Only where some table of the database is declared AUTOINCREMENT does SQLite keep a record."""
    if connection is None or not inspect(connection).has_table("sqlite_sequence"):
        return None
    kept = table("sqlite_sequence", column("name"), column("seq")).c
    return select(kept.seq).where(kept.name == source.name)


CURSOR_SQL: Mapping[str, CursorSql] = {
    "mssql": CursorSql(
        rowversion_types=(mssql.TIMESTAMP,),
        min_active=func.MIN_ACTIVE_ROWVERSION().label("horizon"),
        last_version=literal_column("@@DBTS").label("last_version"),
        moment_types=(DateTime, Date),
        lowest_moment=lowest_moment,
        settled=_mssql_settled,
        codec=mssql_codec,
        identity_counter=_mssql_identity_counter,
        utc_now=func.CONVERT(literal_column("VARCHAR(33)"), func.SYSUTCDATETIME(), literal_column("126")),
        offset_minutes=func.DATEDIFF(literal_column("MINUTE"), func.SYSUTCDATETIME(), func.SYSDATETIME()),
    ),
    "sqlite": CursorSql(
        rowversion_types=(Integer, LargeBinary),
        min_active=None,
        last_version=None,
        moment_types=(DateTime, Date, String, NullType),
        lowest_moment=lambda _: "0001-01-01 00:00:00",
        settled=_sqlite_settled,
        codec=lambda column: sqlite_codec(column.type)(column),
        identity_counter=_sqlite_identity_counter,
        utc_now=func.strftime("%Y-%m-%dT%H:%M:%f", "now"),
        offset_minutes=func.round((func.julianday("now", "localtime") - func.julianday("now")) * 1440),
    ),
}
"""By SQLAlchemy's name for the product. One that is missing has the `identity` strategy only."""
