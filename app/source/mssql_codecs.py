"""SQL Server's values in positions and keys, each type's in its own way; `None` for the types that cannot serve.

| type | in a position | back |
| --- | --- | --- |
| bit, tinyint … bigint | number | as it is |
| decimal, numeric | text | CAST to the declared precision and scale |
| money, smallmoney | text with 4 digits | by DECIMAL: text does not become money by itself |
| float, real | shortest text | as a double: text would be rounded |
| dates and times | text, style 121 | CONVERT, style 121, to the declared precision |
| datetime, smalldatetime | text, style 121 | by DATETIME2(3): they take no text with more than 3 digits |
| nchar, nvarchar | text; UTF-16 where that is no Unicode | CAST |
| char, varchar | text | CAST, by the column's collation: else it would be by the database's code page |
| binary, varbinary, rowversion | `0x…` | CAST |
| uniqueidentifier, hierarchyid | text | CAST |
| text, ntext, image, xml, json, vector, spatial and other CLR types | | the server neither compares nor sorts them |
| sql_variant | | values of two types can have the same text |

Sources: Microsoft Learn, "CAST and CONVERT" (collation of the result, style 121), "Data type precedence", "Collation
precedence", "sql_variant".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import cast, func
from sqlalchemy.dialects import mssql
from sqlalchemy.sql import literal_column
from sqlalchemy.types import (
    BINARY,
    CHAR,
    NCHAR,
    NVARCHAR,
    VARBINARY,
    VARCHAR,
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    Numeric,
    Time,
    TypeEngine,
    Uuid,
)

from app.source.catalogue import Column
from app.source.codec import RAW, REAL, Codec, Expression, PartValue, Unplaceable, bare, integer, storable, unquoted
from app.source.mssql_types import Hierarchyid

STYLE: Expression = literal_column("121")
"""`yyyy-mm-dd hh:mi:ss.nnnnnnn`, whatever the session's language (Microsoft Learn: CAST and CONVERT)."""
_SHOWN_AS: Expression = literal_column("VARCHAR(40)")
"""A datetimeoffset(7) has 34 characters."""
_FINEST = 7
_DATETIME_DIGITS = 3
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?: (\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?)?( ?[+-]\d\d:\d\d)?")
_DECIMAL = re.compile(r"-?\d+(\.\d+)?")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class Moment:
    """How a type of dates and times is written in a statement."""

    name: str
    rounding_ms: int
    """The most that it rounds a moment by. The coarsest precision is assumed where a column may have any."""
    precise: bool = False
    """Its precision is declared."""


_MOMENTS: Mapping[type[TypeEngine[Any]], Moment] = {
    mssql.DATETIMEOFFSET: Moment("DATETIMEOFFSET", 1000, precise=True),
    mssql.DATETIME2: Moment("DATETIME2", 1000, precise=True),
    mssql.SMALLDATETIME: Moment("SMALLDATETIME", 60_000),
    DateTime: Moment("DATETIME", 4),
    Date: Moment("DATE", 0),
    Time: Moment("TIME", 0, precise=True),
}


def moment_of(column_type: TypeEngine[Any]) -> Moment | None:
    """How the type is written, where it is one of dates and times."""
    found = next((found for kind, found in _MOMENTS.items() if isinstance(column_type, kind)), None)
    if found is None or not found.precise:
        return found
    digits = getattr(column_type, "precision", None)
    return Moment(f"{found.name}({_FINEST if digits is None else digits})", found.rounding_ms, precise=True)


class _Integers(Codec):
    """bit, tinyint, smallint, int, bigint."""

    def fits(self, place: PartValue) -> bool:
        return place is None or isinstance(place, int)

    def read(self, text: str) -> PartValue:
        return {"True": 1, "False": 0}[text] if text in ("True", "False") else integer(text)


class _Decimals(Codec):
    """decimal, numeric; money and smallmoney."""

    def fits(self, place: PartValue) -> bool:
        return place is None or (isinstance(place, str) and _DECIMAL.fullmatch(place) is not None)

    def read(self, text: str) -> PartValue:
        if not _DECIMAL.fullmatch(text):
            raise ValueError(f"{text!r} is no decimal")
        return text

    def bind(self, parameter: str, place: PartValue) -> Expression:
        plain = bare(parameter, place)
        if isinstance(self.type, Numeric):
            return cast(plain, Numeric(self.type.precision, self.type.scale))
        digits = 10 if isinstance(self.type, mssql.SMALLMONEY) else 19
        return cast(cast(plain, Numeric(digits, 4)), self.type)


class _Floats(Codec):
    """float, real: a real is exactly the double that the driver gives for it."""

    def fits(self, place: PartValue) -> bool:
        return place is None or (isinstance(place, list) and place[0] == REAL)


class _Moments(Codec):
    """Dates and times: text on the way, made and read by the server, so that no digit is lost."""

    def __init__(self, column: Column, moment: Moment) -> None:
        super().__init__(column)
        self._moment = moment
        self._digits = getattr(column.type, "precision", None) if moment.precise else None

    def shown(self, column: Expression) -> Expression | None:
        return func.CONVERT(_SHOWN_AS, column, STYLE)

    def bind(self, parameter: str, place: PartValue) -> Expression:
        plain: Expression = bare(parameter, place)
        if self._moment.name in ("DATETIME", "SMALLDATETIME"):
            plain = func.CONVERT(literal_column("DATETIME2(3)"), plain, STYLE)
            return func.CONVERT(literal_column(self._moment.name), plain)
        return func.CONVERT(literal_column(self._moment.name), plain, STYLE)

    def read(self, text: str) -> PartValue:
        return unquoted(text).replace("T", " ", 1)

    def fits(self, place: PartValue) -> bool:
        if place is None or isinstance(self.type, Time):
            return True
        found = _MOMENT.fullmatch(place) if isinstance(place, str) else None
        if found is None:
            return False
        _, minutes, seconds, fraction, offset = found.groups()
        if isinstance(self.type, Date) or minutes is None:
            return isinstance(self.type, Date) and minutes is None
        if offset and not isinstance(self.type, mssql.DATETIMEOFFSET):
            return False
        if isinstance(self.type, mssql.SMALLDATETIME):
            return not (seconds or "").strip("0") and not (fraction or "").strip("0")
        return self._holds(len(fraction or ""))

    def _holds(self, digits: int) -> bool:
        """Whether so many digits come back as they were. Three, in a column that has more, may be of a datetime that
        became a datetime2: that gives it digits which it did not show."""
        if not self._moment.precise:
            return digits <= _DATETIME_DIGITS
        return self._digits is None or (digits <= self._digits and not (digits == _DATETIME_DIGITS < self._digits))

    def lowered(self, place: PartValue) -> PartValue:
        """A minute earlier, or a day where only one is known: more than any change of the type rounds by."""
        found = _MOMENT.fullmatch(place) if isinstance(place, str) else None
        if found is None:
            raise ValueError("it is no moment")
        day, minutes, seconds, _, offset = found.groups()
        if offset and not isinstance(self.type, mssql.DATETIMEOFFSET):
            raise ValueError(f"it has an offset, and the column's type is now {self._moment.name}")
        by = timedelta(days=1) if minutes is None or isinstance(self.type, Date) else timedelta(minutes=1)
        moment = datetime.fromisoformat(f"{day} {minutes or '00:00'}:{seconds or '00'}")
        lowest = datetime.fromisoformat(lowest_moment(self.type))
        if moment - lowest <= by:
            return lowest.isoformat(" ", "seconds")
        return (moment - by).isoformat(" ", "seconds") + (offset or "")


class _UnicodeText(Codec):
    """nchar, nvarchar: a lone surrogate is text to the server."""

    def raw(self, value: str) -> PartValue:
        return [RAW, value.encode("utf-16-le", "surrogatepass").hex().upper()]

    def fits(self, place: PartValue) -> bool:
        return place is None or isinstance(place, str) or (isinstance(place, list) and place[0] == RAW)

    def read(self, text: str) -> PartValue:
        found = unquoted(text)
        return found if storable(found) else self.raw(found)

    def bind(self, parameter: str, place: PartValue) -> Expression:
        plain: Expression = bare(parameter, place)
        if isinstance(place, list):
            plain = cast(plain, VARBINARY())
        return cast(plain, _sized(self.type))


class _CodePageText(Codec):
    """char, varchar: letters of the column's own code page."""

    def place(self, value: object) -> PartValue:
        if isinstance(value, str) and "\ufffd" in value:
            raise Unplaceable("holds bytes that are no text in its code page")
        return super().place(value)

    def fits(self, place: PartValue) -> bool:
        return place is None or isinstance(place, str)

    def read(self, text: str) -> PartValue:
        return self.place(unquoted(text))

    def bind(self, parameter: str, place: PartValue) -> Expression:
        plain: Expression = bare(parameter, place)
        collation = getattr(self.type, "collation", None)
        return cast(plain.collate(collation) if collation else plain, _sized(self.type))


class _Bytes(Codec):
    """binary, varbinary, rowversion."""

    def fits(self, place: PartValue) -> bool:
        return place is None or (isinstance(place, str) and place.startswith("0x"))

    def bind(self, parameter: str, place: PartValue) -> Expression:
        plain = bare(parameter, place, binary=True)
        return cast(plain, BINARY(8) if isinstance(self.type, mssql.TIMESTAMP) else _sized(self.type))

    def read(self, text: str) -> PartValue:
        return self.place(bytes.fromhex(text))


class _Guids(Codec):
    """uniqueidentifier."""

    def fits(self, place: PartValue) -> bool:
        return place is None or (isinstance(place, str) and _UUID.fullmatch(place) is not None)

    def read(self, text: str) -> PartValue:
        if not _UUID.fullmatch(text):
            raise ValueError(f"{text!r} is no uniqueidentifier")
        return text

    def bind(self, parameter: str, place: PartValue) -> Expression:
        return cast(bare(parameter, place), mssql.UNIQUEIDENTIFIER())


class _Places(Codec):
    """hierarchyid: `/1/2/` is what it is read as, and all there is to it."""

    def bind(self, parameter: str, place: PartValue) -> Expression:
        return func.CONVERT(literal_column("hierarchyid"), bare(parameter, place))


_CODECS: Mapping[tuple[type[TypeEngine[Any]], ...], type[Codec]] = {
    (Integer, Boolean): _Integers,
    (Float,): _Floats,  # before Numeric, its base
    (Numeric, mssql.MONEY, mssql.SMALLMONEY): _Decimals,
    (Uuid,): _Guids,
    (NVARCHAR, NCHAR): _UnicodeText,
    (VARCHAR, CHAR): _CodePageText,
    (VARBINARY, BINARY, mssql.TIMESTAMP): _Bytes,
    (Hierarchyid,): _Places,
}


def mssql_codec(column: Column) -> Codec | None:
    """The codec for a column; `None` for a type that cannot serve."""
    if (moment := moment_of(column.type)) is not None:
        return _Moments(column, moment)
    found = next((made for kinds, made in _CODECS.items() if isinstance(column.type, kinds)), None)
    return None if found is None else found(column)


def lowest_moment(column_type: TypeEngine[Any]) -> str:
    """The lowest moment that a column of the type can hold."""
    if isinstance(column_type, mssql.SMALLDATETIME):
        return "1900-01-01 00:00:00"
    wide = isinstance(column_type, (mssql.DATETIME2, mssql.DATETIMEOFFSET, Date))
    return "0001-01-01 00:00:00" if wide else "1753-01-01 00:00:00"


def _sized(column_type: Any) -> TypeEngine[Any]:
    """The type without its collation, which a cast cannot name."""
    made: TypeEngine[Any] = type(column_type)(length=column_type.length)
    return made
