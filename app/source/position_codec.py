"""How one column's values stand in a position and in a key's text, and come back from there into a
statement.

A value goes a long way: from the driver into a position or a delivery's id, through BSON or JSON,
and back into a statement as a parameter that must mean the same to the server: the same digits,
offset, blanks, collation, and also text that is no Unicode. Each product says which codec a column
of some type has, or that there is none (`Product.codec`): then the feed is refused when it is
planned.
"""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from sqlalchemy import BindParameter, ColumnElement, bindparam
from sqlalchemy.types import BigInteger, Float, LargeBinary, TypeEngine, Unicode
from sqlalchemy.types import (
    _Binary as Binary,
)  # the base of LargeBinary, BINARY and SQL Server's rowversion

from app.source.payload import part_text, plain_text
from app.source.table import Column

Expression: TypeAlias = ColumnElement[Any]
PartValue: TypeAlias = "int | str | list[str] | None"
"""A value in a position: a list of a tag below and a text, where a text alone would not say what it
is.
"""

REAL = "real"
"""A binary floating-point number; the text is the shortest that gives it."""
BLOB = "blob"
"""Bytes, in hexadecimal digits, in a column that is not declared to hold bytes."""
TEXT = "text"
"""Text, in a column that is declared to hold bytes."""
RAW = "raw"
"""Text that is no Unicode: the bytes in which the database keeps it, in hexadecimal digits."""

POSITION_CHARACTERS = 90_000
"""What a position may hold: a cursor keeps up to 41 of them in one document, which MongoDB bounds
to 16 MB.
"""


class Unplaceable(Exception):
    """A value that cannot stand in a position. Its message goes on from `column 'x' `."""


class Codec:
    """The codec of a driver that gives a column's own value, and takes it. A product's own codecs
    derive from it.
    """

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self.type: TypeEngine[Any] = column.type

    def shown(self, column: Expression) -> Expression | None:
        """What is read, beside the column, for `place`; `None` where the driver's value of the
        column has it all.
        """
        del column
        return None

    def place(self, value: object) -> PartValue:
        """The value read, as a position keeps it. Raises `Unplaceable`."""
        if value is None:
            return None
        if isinstance(value, int):
            return int(value)
        if isinstance(value, str):
            return value if storable(value) else self.raw(value)
        if isinstance(value, float):
            return [REAL, repr(value)]
        if isinstance(value, (bytes, bytearray, memoryview)):
            return hexadecimal(bytes(value))
        try:
            return plain_text(value)
        except (TypeError, ValueError) as error:
            raise Unplaceable(f"holds {error}") from error

    def raw(self, value: str) -> PartValue:
        """Text that is no Unicode, as a position keeps it. Raises `Unplaceable`."""
        raise Unplaceable(f"holds text that is not Unicode: {value!a:.40}")

    def fits(self, place: PartValue) -> bool:
        """Whether a position's value is of the form that this codec gives: the column's type may
        have changed.
        """
        del place
        return True

    def lowered(self, place: PartValue) -> PartValue:
        """For one that does not fit: a value at or below all that it can have become when the type
        was changed.

        Raises `ValueError` that says why there is none.
        """
        return place

    def bind(self, parameter: str, place: PartValue) -> Expression:
        """A position's value (not `None`) as a parameter that compares as the column's own values
        do.
        """
        return bare(parameter, place, binary=isinstance(self.type, Binary))

    def write(self, value: object) -> str:
        """The value read as a part of a key's text: different for different values, and only `A-Z
        a-z 0-9 _ . - ~ %`.

        Raises `ValueError` or `TypeError` for one that has no such text.
        """
        return part_text(value)

    def read(self, text: str) -> PartValue:
        """The value of a part of a key's text, as in a position. Raises `ValueError` for text of
        another form.
        """
        try:
            kind = self.type.python_type
        except NotImplementedError:
            kind = str
        if kind is int:
            return integer(text)
        if kind is float:
            return [REAL, repr(float(unquoted(text)))]
        if kind is bytes:
            return hexadecimal(bytes.fromhex(text))
        found = unquoted(text)
        return found if storable(found) else self.raw(found)


def integer(text: str) -> int:
    """An integer of 64 bits. Raises `ValueError` for text that is none."""
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{text!r:.40} has more than 64 bits")
    return number


def storable(text: str) -> bool:
    """Whether it has a form in UTF-8, as the ledger keeps it. Half a surrogate pair, as SQL Server
    takes, has none.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def hexadecimal(value: bytes) -> str:
    """Bytes as `0x…`."""
    return "0x" + value.hex().upper()


def unquoted(text: str) -> str:
    """What `payload.part_text` wrote of a text."""
    return unquote_to_bytes(text).decode("utf-8", "surrogatepass")


def bare(parameter: str, place: PartValue, *, binary: bool = False) -> BindParameter[Any]:
    """A position's value as a parameter of its own kind; with `binary` a text is `0x…`."""
    kind: TypeEngine[Any]
    value: int | float | str | bytes | None
    if isinstance(place, list):
        tag, text = place
        if tag == REAL:
            value, kind = float(text), Float()
        elif tag == TEXT:
            value, kind = text, Unicode()
        else:
            value, kind = bytes.fromhex(text), LargeBinary()
    elif isinstance(place, int):
        value, kind = place, BigInteger()
    elif binary and place is not None:
        value, kind = bytes.fromhex(place.removeprefix("0x")), LargeBinary()
    else:
        value, kind = place, Unicode()
    return bindparam(parameter, value, type_=kind)
