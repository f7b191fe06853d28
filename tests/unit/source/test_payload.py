"""Rows become JSON without loss, and keys become text without collisions."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import RowUnreadable
from app.source.payload import RowShape, key_text, payload_json

PARIS = timezone(timedelta(hours=2))


def written(value: object) -> str:
    """The JSON text of one value."""
    return payload_json({"c": value}).decode().removeprefix('{"c":').removesuffix("}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**200), str(-(2**200))),
        (0.1, "0.1"),
        (Decimal("12.50"), '"12.50"'),
        (Decimal("1E+3"), '"1000"'),
        (Decimal("0.0000000001"), '"0.0000000001"'),
        ("größer 😀", '"größer 😀"'),
        (datetime(2026, 1, 2, 3, 4, 5, 678900), '"2026-01-02T03:04:05.678900"'),  # noqa: DTZ001 - naive on purpose
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05+00:00"'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=PARIS), '"2026-01-02T03:04:05+02:00"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (time(3, 4, 5, 6), '"03:04:05.000006"'),
        (time(3, 4, 5, tzinfo=PARIS), '"03:04:05+02:00"'),
        (timedelta(days=1, seconds=3723, microseconds=500_000), '"P1DT3723.5S"'),
        (timedelta(seconds=-1), '"-P0DT1S"'),
        (b"\x00\xff", '"AP8="'),
        (bytearray(b"ab"), '"YWI="'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ([1, {"a": Decimal("1.0")}], '[1,{"a":"1.0"}]'),
    ],
)
def test_each_kind_of_value_keeps_all_it_says(value: object, expected: str) -> None:
    assert written(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        Decimal("NaN"),
        [float("nan")],
        "a\ud800",
        ["\udfff"],
        pytest.param(object(), id="object"),
    ],
    ids=repr,
)
def test_a_value_without_a_json_form_is_refused_by_column(value: object) -> None:
    with pytest.raises(RowUnreadable, match="column 'amount'"):
        payload_json({"id": 1, "amount": value})


_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False, places=4)
)


def _restored(value: object, original: object) -> object:
    if isinstance(original, bytes):
        return base64.b64decode(str(value))
    return Decimal(str(value)) if isinstance(original, Decimal) else value


@given(st.lists(_values, max_size=6))
def test_every_value_can_be_read_back(values: list[Any]) -> None:
    names = [f"c{place}" for place in range(len(values))]
    read = json.loads(payload_json(dict(zip(names, values, strict=True))))
    assert list(read) == names
    assert [
        _restored(read[name], value) for name, value in zip(names, values, strict=True)
    ] == values


_texts = st.text(st.characters(exclude_categories=()))
_composite_keys = st.lists(_texts, min_size=1, max_size=4)


@given(_composite_keys, _composite_keys)
def test_different_keys_have_different_texts(left: list[str], right: list[str]) -> None:
    assert (key_text(left) == key_text(right)) == (left == right)


@given(_composite_keys)
def test_a_key_is_plain_ascii_whatever_it_holds(parts: list[str]) -> None:
    text = key_text(parts)
    assert text.isascii()
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~%:")
    assert text.count(":") == len(parts) - 1


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([42], "42"),
        ([-42], "-42"),
        (["acme", 7], "acme:7"),
        (["a:b", "c"], "a%3Ab:c"),
        ([UUID(int=1)], "00000000-0000-0000-0000-000000000001"),
        ([b"\x01\xff"], "01ff"),
        ([Decimal("1.50")], "1.50"),
        ([datetime(2026, 1, 2, tzinfo=UTC)], "2026-01-02T00%3A00%3A00%2B00%3A00"),
    ],
)
def test_a_key_reads_like_the_value_it_stands_for(parts: list[object], expected: str) -> None:
    assert key_text(parts) == expected


def _shape(max_payload: int = 1000, key_places: tuple[int, ...] = (0,)) -> RowShape:
    return RowShape(
        names=("id", "note"), key_places=key_places, decoders=(), max_payload=max_payload
    )


def test_a_payload_is_measured_in_bytes_and_refused_above_the_limit() -> None:
    row = (1, "é" * 10)
    size = len('{"id":1,"note":""}') + 20
    assert _shape(max_payload=size).source_row(row, 1).error is None
    refused = _shape(max_payload=size - 1).source_row(row, 1)
    assert refused.error == f"payload of {size} bytes is over max_payload {size - 1}"
    assert refused.payload == ""


def test_an_unreadable_row_keeps_its_key_and_position() -> None:
    row = _shape().source_row((7, float("nan")), 7)
    assert (row.key, row.position, row.payload) == ("7", 7, "")
    assert row.error is not None
    assert "column 'note'" in row.error


def test_rows_without_a_key_stay_apart() -> None:
    shape = _shape(key_places=(1,))
    first, second = shape.source_row((1, None), 1), shape.source_row((2, None), 2)
    assert first.key != second.key
    assert first.error == "a key column is NULL: the row has no identity"


def test_a_key_column_need_not_be_sent() -> None:
    shape = RowShape(names=("note",), key_places=(1,), decoders=(), max_payload=100)
    row = shape.source_row(("hello", 9), 9)
    assert (row.key, row.payload) == ("9", '{"note":"hello"}')
