"""SQL Server's types: how each is read, so that no digit is lost and no value is far above the
payload's limit.

Some are turned into text by the server, because drivers or Python's own types would lose a part of
them:

| type | read as | why |
| --- | --- | --- |
| datetime2, time, datetimeoffset | text, style 121 | Python keeps 6 digits of a second, these have 7 |
| sql_variant | text, by its base type | pyodbc has no such type |
| hierarchyid | text, `/1/2/` | as above |
| geometry, geography | varbinary, the server's own form | as above |
| xml, json, vector | text | a value can be cut, and drivers differ |
| varchar(max), nvarchar(max), varbinary(max), text, ntext, image | cut above the limit | 2 GB fill the memory |

Sources: Microsoft Learn, "CAST and CONVERT" (styles 1, 2, 3, 121), "sql_variant", "hierarchyid",
"SUBSTRING", "DATALENGTH".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, case, cast, func
from sqlalchemy.dialects import mssql
from sqlalchemy.sql import literal_column
from sqlalchemy.types import (
    BINARY,
    CHAR,
    NCHAR,
    NVARCHAR,
    VARBINARY,
    VARCHAR,
    BigInteger,
    TypeEngine,
)

from app.source.payload import Decoder

Expression: TypeAlias = ColumnElement[Any]


class Hierarchyid(TypeEngine[str]):
    """A place in a tree. A CLR type, which SQLAlchemy does not know."""


class Spatial(TypeEngine[bytes]):
    """`geometry` or `geography`. CLR types, which SQLAlchemy does not know."""


class LongText(TypeEngine[str]):
    """`json` or `vector` (SQL Server 2025): text for a client."""


TYPE_NAMES: Mapping[str, type[TypeEngine[Any]]] = {
    "hierarchyid": Hierarchyid,
    "geometry": Spatial,
    "geography": Spatial,
    "json": LongText,
    "vector": LongText,
}
"""Types of the catalogue that SQLAlchemy does not know."""

_MOMENTS = (mssql.DATETIME2, mssql.DATETIMEOFFSET, mssql.TIME)
_CONVERTED = (mssql.XML, mssql.NTEXT, LongText)
_SIZED = (
    VARCHAR, NVARCHAR, VARBINARY, CHAR, NCHAR, BINARY, mssql.TEXT, mssql.NTEXT, mssql.IMAGE, mssql.SQL_VARIANT,
    Hierarchyid, Spatial,
)  # fmt: skip
"""Types whose values differ much in size: DATALENGTH tells it without reading a value that lies
outside of its row.
"""


def selected(column: Expression, column_type: TypeEngine[Any], limit: int) -> Expression:
    """The column as it is read. A value longer than `limit` (bytes of JSON) may come cut, and is
    still longer.
    """
    if isinstance(column_type, _MOMENTS):
        return func.convert(literal_column("varchar(40)"), column, literal_column("121"))
    if isinstance(column_type, mssql.SQL_VARIANT):
        return _variant(column)
    if isinstance(column_type, Hierarchyid):
        return cast(column, NVARCHAR(4000))
    long = _long(column, column_type)
    return (
        column
        if long is None
        else func.substring(long, literal_column("1"), literal_column(str(limit + 1)))
    )


def size(column: Expression, column_type: TypeEngine[Any]) -> Expression | None:
    """The bytes of a value; `None` for numbers, dates and the like. A sum of many may be above what
    an int holds.
    """
    if isinstance(column_type, (mssql.XML, LongText)):
        column = cast(column, NVARCHAR())
    elif not isinstance(column_type, _SIZED):
        return None
    return cast(func.datalength(column), BigInteger())


def decoder(column_type: TypeEngine[Any]) -> Decoder | None:
    """What turns a driver's value into what the column's type means; `None` where it is right
    already.
    """
    if isinstance(column_type, mssql.TIMESTAMP):
        return _version
    if isinstance(column_type, mssql.DATETIMEOFFSET):
        return _moment_with_offset
    return _moment if isinstance(column_type, mssql.DATETIME2) else None


def _long(column: Expression, column_type: TypeEngine[Any]) -> Expression | None:
    """The column where its values can be of any length, as a type that SUBSTRING takes; `None` for
    other columns.
    """
    if isinstance(column_type, _CONVERTED):
        return cast(column, NVARCHAR())
    if isinstance(column_type, mssql.TEXT):
        return cast(column, VARCHAR())
    if isinstance(column_type, (mssql.IMAGE, Spatial)):
        return cast(column, VARBINARY())
    if isinstance(column_type, (VARCHAR, NVARCHAR, VARBINARY)):
        return None if isinstance(column_type.length, int) else column
    return None


def _variant(column: Expression) -> Expression:
    """The text of what the variant holds: binary as `0x…`, floats and money with all digits,
    moments by style 121.
    """
    base = cast(func.sql_variant_property(column, "BaseType"), NVARCHAR(128))

    def text(value: Expression, style: str) -> Expression:
        return func.convert(literal_column("nvarchar(4000)"), value, literal_column(style))

    return case(
        (base.in_(["binary", "varbinary"]), text(cast(column, VARBINARY(8000)), "1")),
        (base.in_(["float", "real"]), text(cast(column, mssql.FLOAT(53)), "3")),
        (base.in_(["money", "smallmoney"]), text(cast(column, mssql.MONEY()), "2")),
        else_=text(column, "121"),
    )


def _version(value: Any) -> Any:
    """A rowversion as `0x` and 16 digits, the form in which cursors name it."""
    return f"0x{bytes(value).hex().upper()}" if isinstance(value, (bytes, bytearray)) else value


def _moment(value: Any) -> Any:
    """`2026-01-31 10:00:00.1234567` with the `T` of ISO 8601."""
    return value.replace(" ", "T", 1) if isinstance(value, str) else value


def _moment_with_offset(value: Any) -> Any:
    """`2026-01-31 10:00:00.1234567 +01:00` in the form of ISO 8601."""
    return value.replace(" ", "T", 1).replace(" ", "") if isinstance(value, str) else value
