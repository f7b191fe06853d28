"""SQLite's values in positions and keys: there each value has a type of its own, whatever its
column is declared as.

A column's affinity turns some values into others as they are stored, so in a column of text there
are only text and blobs. Where values of several types can stand in one column, a key's text names
the type of those that would else read the same: `%s1` is the text `1`, `%x31` the blob `31`, `%n5`
the number 5 in a column of blobs. What the column was declared for is written plainly. No
percent-encoded text holds these.

Source: https://www.sqlite.org/datatype3.html
"""

from __future__ import annotations

from sqlalchemy import LargeBinary, String, Text, cast, func, literal_column

from app.source.payload import part_text
from app.source.position_codec import (
    BLOB,
    RAW,
    REAL,
    TEXT,
    Codec,
    Expression,
    PartValue,
    bare,
    integer,
    storable,
    unquoted,
)

_TEXT_TAG, _BLOB_TAG, _NUMBER_TAG = "%s", "%x", "%n"


class SqliteCodec(Codec):
    """A column that may hold any value: declared for numbers or dates, or not declared at all."""

    def place(self, value: object) -> PartValue:
        if isinstance(value, bytes):
            return [BLOB, value.hex().upper()]
        return super().place(value)

    def raw(self, value: str) -> PartValue:
        return [RAW, value.encode("utf-8", "surrogateescape").hex().upper()]

    def bind(self, parameter: str, place: PartValue) -> Expression:
        plain = bare(parameter, place)
        if isinstance(place, list) and place[0] == RAW:
            # The function takes the affinity away that a cast gives: it would turn the column's
            # numbers into text.
            return func.coalesce(cast(plain, Text()), literal_column("''"))
        return plain

    def write(self, value: object) -> str:
        if isinstance(value, bytes):
            return _BLOB_TAG + value.hex()
        if isinstance(value, str) and _reads_as_number(value):
            return _TEXT_TAG + part_text(value)
        return part_text(value)

    def read(self, text: str) -> PartValue:
        if (tagged := self._tagged(text)) is not None:
            return tagged
        found = unquoted(text)
        return self._number(found) if _reads_as_number(found) else self._text(found)

    def _tagged(self, text: str) -> PartValue:
        tag, rest = text[:2], text[2:]
        if tag == _BLOB_TAG:
            return self.place(bytes.fromhex(rest))
        if tag == _TEXT_TAG:
            return self._text(unquoted(rest))
        return self._number(unquoted(rest)) if tag == _NUMBER_TAG else None

    def _text(self, text: str) -> PartValue:
        return text if storable(text) else self.raw(text)

    def _number(self, text: str) -> PartValue:
        try:
            return integer(text)
        except ValueError:
            return [REAL, repr(float(text))]


class SqliteText(SqliteCodec):
    """A column declared for text: it holds text and blobs."""

    def write(self, value: object) -> str:
        return (
            _NUMBER_TAG + part_text(value)
            if isinstance(value, (int, float))
            else _text_or_blob(value)
        )

    def read(self, text: str) -> PartValue:
        tagged = self._tagged(text)
        return self._text(unquoted(text)) if tagged is None else tagged


class SqliteBlob(SqliteCodec):
    """A column declared for blobs: it holds any value."""

    def place(self, value: object) -> PartValue:
        if isinstance(value, bytes):
            return "0x" + value.hex().upper()
        found = super().place(value)
        return [TEXT, found] if isinstance(found, str) else found

    def fits(self, place: PartValue) -> bool:
        return not isinstance(place, str) or place.startswith("0x")

    def bind(self, parameter: str, place: PartValue) -> Expression:
        return (
            bare(parameter, place, binary=True)
            if isinstance(place, str)
            else super().bind(parameter, place)
        )

    def write(self, value: object) -> str:
        if isinstance(value, bytes) or value is None:
            return part_text(value)
        return (_TEXT_TAG if isinstance(value, str) else _NUMBER_TAG) + part_text(value)

    def read(self, text: str) -> PartValue:
        tagged = self._tagged(text)
        return self.place(bytes.fromhex(text)) if tagged is None else tagged

    def _text(self, text: str) -> PartValue:
        return [TEXT, text] if storable(text) else self.raw(text)


def sqlite_codec(column: object) -> type[SqliteCodec]:
    """The codec class for a column of that declared type."""
    if isinstance(column, LargeBinary):
        return SqliteBlob
    return SqliteText if isinstance(column, String) else SqliteCodec


def _text_or_blob(value: object) -> str:
    return _BLOB_TAG + value.hex() if isinstance(value, bytes) else part_text(value)


def _reads_as_number(text: str) -> bool:
    """Whether a plain text would be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
