"""From a row of the source to JSON text, without loss.

| value | JSON |
| --- | --- |
| integer | number, with all its digits also beyond 64 bits |
| decimal | string, `"12.50"`: a number would lose digits in most readers |
| float | number; one that is not finite makes the row unreadable |
| datetime, date, time | string, ISO 8601; with an offset only where the source gave one |
| duration | string, ISO 8601: `"P1DT3723.5S"` |
| bytes | string, base64 (RFC 4648, section 4) |
| UUID | string |
| text | string; lone surrogates make the row unreadable |
| boolean, NULL | `true`, `false`, `null` |
| array, object | array, object |
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import UUID

import orjson

from app.core.errors import RowUnreadable
from app.core.keys import short_key
from app.core.position import Position
from app.core.rows import SourceRow
from app.source.content import by_name, hashed, held

Decoder: TypeAlias = Callable[[Any], Any]
"""Turns a driver's value into what the column's declared type means. Must not raise."""

_NESTED = frozenset({dict, list, tuple})
_NULL_PART = "%-"
"""Stands for NULL in a key's text; no percent-encoded text holds it."""
_NO_TEXT = "%!"
"""Stands for a key that has no text."""
KEY_CHARACTERS = 500_000
"""A longer key's row becomes a dead letter: key, position and payload stand in one document, of 16
MB at most.
"""


@dataclass(frozen=True, slots=True)
class RowShape:
    """How the rows of one feed are laid out, and what becomes of them."""

    names: tuple[str, ...]
    """The columns that are sent; they come first in a row."""
    key_places: tuple[int, ...]
    decoders: tuple[tuple[int, Decoder], ...]
    """For the columns whose driver value is not yet what their type means."""
    max_payload: int
    """Bytes of JSON."""
    key_writers: tuple[Callable[[object], str], ...] = ()
    """For each part of the key, what makes it text; none: `part_text`."""
    by_name: tuple[tuple[str, int], ...] = field(init=False)
    """The names with their places, in the order in which a row's content is hashed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", by_name(self.names))

    def source_row(self, row: Sequence[Any], position: Position) -> SourceRow:
        """The row as it goes on. One that cannot be sent carries the reason in `error`, and an
        empty payload.
        """
        key, error = self._identity(row, position)
        if error is not None:
            return SourceRow(key, position, "", error)
        values = self._values(row)
        try:
            payload = payload_json(dict(zip(self.names, values, strict=True)))
        except RowUnreadable as error:
            return SourceRow(key, position, "", str(error))
        if len(payload) > self.max_payload:
            reason = f"payload of {len(payload)} bytes is over max_payload {self.max_payload}"
            return SourceRow(key, position, "", reason)
        return SourceRow(key, position, payload.decode(), content=self._content(key, values))

    def content_row(self, row: Sequence[Any], position: Position) -> SourceRow:
        """The row's key, position and hash, without a payload. One whose content has no JSON form
        has no hash.
        """
        key, error = self._identity(row, position)
        if error is not None:
            return SourceRow(key, position, "", error)
        try:
            return SourceRow(key, position, "", content=self._content(key, self._values(row)))
        except RowUnreadable:
            return SourceRow(key, position, "")

    def key_row(self, row: Sequence[Any], position: Position) -> SourceRow:
        """The row's key and position alone. One that has no identity carries the reason in `error`."""
        key, error = self._identity(row, position)
        return SourceRow(key, position, "", error)

    def _identity(self, row: Sequence[Any], position: Position) -> tuple[str, str | None]:
        """The row's key; where that is none, what stands for it, and why."""
        parts = [row[place] for place in self.key_places]
        try:
            key = key_text(parts, self.key_writers)
        except (TypeError, ValueError) as error:
            # The position keeps two such rows apart in the ledger.
            return f"{_NO_TEXT}@{position}", f"the key has no text: {error}"
        if None in parts:
            return f"{key}@{position}", "a key column is NULL: the row has no identity"
        if len(key) > KEY_CHARACTERS:
            reason = f"the key is {len(key):,} characters long as text, over {KEY_CHARACTERS:,}"
            return f"{short_key(key)}@{short_key(str(position))}", reason
        return key, None

    def _content(self, key: str, values: Sequence[Any]) -> int:
        return hashed(key, payload_json(held(self.by_name, values)))

    def _values(self, row: Sequence[Any]) -> Sequence[Any]:
        if not self.decoders:
            return row[: len(self.names)]
        values = list(row[: len(self.names)])
        for place, decode in self.decoders:
            values[place] = decode(values[place])
        return values


def key_text(parts: Sequence[object], writers: Sequence[Callable[[object], str]] = ()) -> str:
    """One text for a key of one or several parts: each percent-encoded (RFC 3986) but for `A-Z a-z
    0-9 _ . - ~`, joined by `:`. Keys that differ, part by part, as text differ here too.

    `writers`: what makes each part text, where that is not `part_text`. Raises `TypeError` or
    `ValueError`.
    """
    if len(parts) == 1:  # the usual key, and this is done for each row
        return (writers[0] if writers else part_text)(parts[0])
    return ":".join(
        [
            write(part)
            for write, part in zip(writers or [part_text] * len(parts), parts, strict=True)
        ]
    )


def payload_json(members: Mapping[str, Any]) -> bytes:
    """A row as a JSON object in UTF-8. Raises `RowUnreadable` that names the column whose value has
    no JSON form.
    """
    kinds = set(map(type, members.values()))
    infinite = float in kinds and not all(
        isfinite(value) for value in members.values() if type(value) is float
    )
    if infinite or not kinds.isdisjoint(
        _NESTED
    ):  # orjson would write a float that is not finite as null
        return _column_by_column(members)
    try:
        return orjson.dumps(members, default=plain_text)
    except TypeError:  # an integer beyond 64 bits, a time with an offset, or what has no JSON form
        return _column_by_column(members)


def part_text(part: object) -> str:
    """One part of a key as text, percent-encoded: half a surrogate pair as its three bytes in
    UTF-8's manner.
    """
    if type(part) is int:
        return str(part)
    if part is None:
        return _NULL_PART
    if isinstance(part, (bytes, bytearray, memoryview)):
        return bytes(part).hex()
    text = (
        part
        if isinstance(part, str)
        else str(plain_text(part) if isinstance(part, _PLAIN_TYPES) else part)
    )
    return quote(text, safe="", errors="surrogatepass")


def _column_by_column(members: Mapping[str, Any]) -> bytes:
    """What orjson would write, by the standard library: slower, with integers of any size, and
    knowing the column.
    """
    written: list[bytes] = []
    for name, value in members.items():
        try:
            text = json.dumps(
                value,
                default=plain_text,
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            )
            written.append(json.dumps(name, ensure_ascii=False).encode() + b":" + text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise RowUnreadable(f"column {name!r}: no JSON form: {error}") from error
    return b"{" + b",".join(written) + b"}"


_PLAIN_TYPES = (Decimal, datetime, date, time, timedelta, UUID)


def plain_text(value: object) -> str:
    """The text for a value that JSON has no form for. Raises `TypeError` or `ValueError` where
    there is none.
    """
    if isinstance(value, Decimal):
        return _decimal_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(value).decode()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration_text(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}")


def _decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"a decimal that is {value}")
    return format(value, "f")


def _duration_text(value: timedelta) -> str:
    size = abs(value)
    fraction = f".{size.microseconds:06}".rstrip("0") if size.microseconds else ""
    return f"{'-' if value < timedelta(0) else ''}P{size.days}DT{size.seconds}{fraction}S"
