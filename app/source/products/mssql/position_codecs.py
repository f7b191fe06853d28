"""SQL Server's values in positions and keys, each type's in its own way; `None` for the types that
cannot serve. The JSON of a payload is made by `types.py` and `app/source/payload.py`.

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

Sources: Microsoft Learn, "CAST and CONVERT" (collation of the result, style 121), "Data type
precedence", "Collation precedence", "sql_variant".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    Float,
    Integer,
    Numeric,
    TypeEngine,
    Uuid,
)

from app.source.position_codec import (
    RAW,
    REAL,
    Codec,
    Expression,
    PartValue,
    Unplaceable,
    bare,
    integer,
    storable,
    unquoted,
)
from app.source.products.mssql.moments import MomentCodec, moment_of
from app.source.products.mssql.types import Hierarchyid
from app.source.table import Column

_DECIMAL = re.compile(r"-?\d+(\.\d+)?")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


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


class _UnicodeText(Codec):
    """nchar, nvarchar: a lone surrogate is text to the server."""

    def raw(self, value: str) -> PartValue:
        return [RAW, value.encode("utf-16-le", "surrogatepass").hex().upper()]

    def fits(self, place: PartValue) -> bool:
        return (
            place is None or isinstance(place, str) or (isinstance(place, list) and place[0] == RAW)
        )

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
        return cast(
            plain, BINARY(8) if isinstance(self.type, mssql.TIMESTAMP) else _sized(self.type)
        )

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
        return MomentCodec(column, moment)
    found = next((made for kinds, made in _CODECS.items() if isinstance(column.type, kinds)), None)
    return None if found is None else found(column)


def _sized(column_type: Any) -> TypeEngine[Any]:
    """The type without its collation, which a cast cannot name."""
    made: TypeEngine[Any] = type(column_type)(length=column_type.length)
    return made
