"""SQLite's versions, moments and identities, as the cursor strategies ask for them.

SQLite has no rowversion and no MIN_ACTIVE_ROWVERSION(): any integer or blob column that grows with
each write serves, and needs no upper bound, because SQLite lets one transaction write at a time.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, column, func, inspect, select, table
from sqlalchemy.types import (
    BigInteger,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    NullType,
    String,
    TypeEngine,
)

from app.feeds.cursors.timestamp import TimestampCursor
from app.source.position_codec import Expression
from app.source.products.product import CursorSql
from app.source.table import Column, SourceTable

_ROUNDING_SECONDS = 1
"""CURRENT_TIMESTAMP has whole seconds."""


def _settled(moment: Expression, _: TypeEngine[Any], spec: TimestampCursor) -> ColumnElement[bool]:
    back = f"-{spec.lag.total_seconds() + _ROUNDING_SECONDS:.3f} seconds"
    form = "%Y-%m-%d %H:%M:%f"
    utc, local = func.strftime(form, "now", back), func.strftime(form, "now", "localtime", back)
    bound = {"utc": utc, "local": local, "either": func.min(utc, local)}[spec.clock]
    return func.replace(moment, "T", " ") < bound


def _identity_counter(
    connection: Connection | None, source: SourceTable, _: Column
) -> Select[Any] | None:
    """Only where some table of the database is declared AUTOINCREMENT does SQLite keep a record."""
    if connection is None or not inspect(connection).has_table("sqlite_sequence"):
        return None
    kept = table("sqlite_sequence", column("name"), column("seq")).c
    return select(kept.seq).where(kept.name == source.name)


CURSORS = CursorSql(
    usual_version=BigInteger,
    usual_moment=DateTime,
    rowversion_types=(Integer, LargeBinary),
    min_active=None,
    last_version=None,
    moment_types=(DateTime, Date, String, NullType),
    lowest_moment=lambda _: "0001-01-01 00:00:00",
    settled=_settled,
    identity_counter=_identity_counter,
    utc_now=func.strftime("%Y-%m-%dT%H:%M:%f", "now"),
    offset_minutes=func.round((func.julianday("now", "localtime") - func.julianday("now")) * 1440),
    examine_versions=lambda _connection, _feed: (),
)
