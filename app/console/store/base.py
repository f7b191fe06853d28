"""What all tables share: names of constraints, so that migrations can speak of them, and moments in UTC."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, MetaData, String, Unicode
from sqlalchemy.dialects.mssql import DATETIME2
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

ID = String(32)
NAME = Unicode(100)
"""Text that people write is Unicode: a VARCHAR of SQL Server keeps one code page."""


class Moment(TypeDecorator[datetime]):
    """A moment in UTC, the same in all databases: stored without a zone, read with one."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """SQL Server's DATETIME rounds to 3 ms; DATETIME2 does not."""
        exact = DATETIME2(precision=6)  # type: ignore[no-untyped-call] # the library's
        return dialect.type_descriptor(exact if dialect.name == "mssql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Raises `ValueError` for a moment without a zone.

        To SQL Server as text, which it takes exactly: of a `datetime` pyodbc sends as many digits of
        the second as the driver says of the first of its types of time, and for some that is none
        (an entry of the audit log would not be what its hash was made of).
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        moment = value.astimezone(UTC).replace(tzinfo=None)
        return moment.isoformat() if dialect.name == "mssql" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - as above
        """The moment with its zone."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """The console's tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Moment()}  # noqa: RUF012 - SQLAlchemy reads it once


def new_id() -> str:
    """An id that nobody can guess: 32 hexadecimal digits."""
    return uuid.uuid4().hex
