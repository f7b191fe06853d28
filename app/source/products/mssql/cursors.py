"""SQL Server's versions, moments and identities, as the cursor strategies ask for them."""

from __future__ import annotations

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
    select,
    table,
)
from sqlalchemy.dialects import mssql
from sqlalchemy.sql import literal_column
from sqlalchemy.types import Date, DateTime, Numeric, TypeEngine

from app.feeds.cursors.timestamp import TimestampCursor
from app.source.position_codec import Expression
from app.source.products.mssql.change_tracking import CHANGES
from app.source.products.mssql.findings import examine_versions
from app.source.products.mssql.moments import Moment, lowest_moment, moment_of
from app.source.products.product import CursorSql
from app.source.table import Column, SourceTable, quoted_table


def _now(clock: str, column_type: TypeEngine[Any]) -> Expression:
    if isinstance(column_type, mssql.DATETIMEOFFSET):
        return func.SYSDATETIMEOFFSET()
    utc, local = func.SYSUTCDATETIME(), func.SYSDATETIME()
    if clock == "either":
        return case((utc < local, utc), else_=local)
    return utc if clock == "utc" else local


def _settled(
    moment: Expression, column_type: TypeEngine[Any], spec: TimestampCursor
) -> ColumnElement[bool]:
    """Strictly below now - lag - rounding: a row still to come may be rounded down to that, but not
    below it.
    """
    moment_type = moment_of(column_type) or Moment("DATETIME2(7)", 0)
    name = moment_type.name
    back_ms = round(spec.lag.total_seconds() * 1000) + moment_type.rounding_ms
    bound = func.DATEADD(
        literal_column("MILLISECOND"), bindparam("lag_ms", -back_ms), _now(spec.clock, column_type)
    )
    if name in (
        "DATETIME",
        "SMALLDATETIME",
    ):  # no digit is lost by it, and Babelfish converts no finer moment to these
        bound = func.CONVERT(literal_column("DATETIME2(3)"), bound)
    return moment < func.CONVERT(literal_column(name), bound)


def _identity_counter(_: Connection | None, source: SourceTable, wanted: Column) -> Select[Any]:
    """`last_value` is NULL in a table just made or truncated: then the value before the seed.
    IDENT_CURRENT() gives the seed itself there, as if that had been used."""
    names = ("object_id", "name", "last_value", "seed_value", "increment_value")
    columns = table("identity_columns", *map(column, names), schema="sys").c
    exact = Numeric(38, 0)
    fresh = cast(columns.seed_value, exact) - cast(columns.increment_value, exact)
    counted = func.coalesce(cast(columns.last_value, exact), fresh)
    values: tuple[Expression, ...] = (counted, cast(columns.increment_value, exact))
    return select(*values).where(
        and_(
            columns.object_id == func.OBJECT_ID(quoted_table(source.schema, source.name)),
            columns.name == wanted.name,
        )
    )


CURSORS = CursorSql(
    usual_version=mssql.ROWVERSION,
    usual_moment=mssql.DATETIME2,
    rowversion_types=(mssql.TIMESTAMP,),
    min_active=func.MIN_ACTIVE_ROWVERSION().label("horizon"),
    last_version=literal_column("@@DBTS").label("last_version"),
    moment_types=(DateTime, Date),
    lowest_moment=lowest_moment,
    settled=_settled,
    identity_counter=_identity_counter,
    utc_now=func.CONVERT(
        literal_column("VARCHAR(33)"), func.SYSUTCDATETIME(), literal_column("126")
    ),
    offset_minutes=func.DATEDIFF(
        literal_column("MINUTE"), func.SYSUTCDATETIME(), func.SYSDATETIME()
    ),
    examine_versions=examine_versions,
    changes=CHANGES,
)
