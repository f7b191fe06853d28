"""Keys as people write them: shown so, and found so, and nothing lost in between."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.keys import LONGEST_KEY, part_pattern, readings, short_key, shown_id, shown_key
from app.source.payload import key_text

PARTS = st.lists(
    st.text(max_size=12) | st.none() | st.binary(max_size=6) | st.integers(), min_size=1, max_size=4
)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (("acme", "INV-2026/00060"), "acme:INV-2026/00060"),
        (("10:30",), "10:30"),
        (("10:30", "b"), "10%3A30:b"),
        (("Ärzte & Söhne",), "Ärzte & Söhne"),
        (("anna@example.com",), "anna@example.com"),
        (("100%",), "100%"),
        (("100%25",), "100%2525"),
        ((" x y ",), "%20x y%20"),
        (("a\u202eb",), "a%E2%80%AEb"),
        (("a\u00a0b",), "a%C2%A0b"),
        (("a\x1b[31m",), "a%1B[31m"),
        (("\ud800",), "%ED%A0%80"),
        ((None, 7), "%-:7"),
    ],
)
def test_a_key_is_shown_as_it_is_written_as_far_as_it_can_be_seen(
    key: tuple[object, ...], shown: str
) -> None:
    assert shown_key(key_text(key)) == shown
    assert key_text(key) in readings(shown)


@given(PARTS)
def test_whatever_is_shown_is_read_again(parts: list[object]) -> None:
    key = key_text(parts)
    assert key in readings(shown_key(key))
    assert key in readings(key)


@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_characters=":%\x00", codec="utf-8"), max_size=9),
        min_size=1,
    )
)
def test_what_stands_in_the_source_is_read_as_a_key_of_parts(parts: list[str]) -> None:
    assert key_text(parts) in readings(":".join(parts))


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("a:b:c", "a%3Ab:c"),
        ("a:b:c", "a:b%3Ac"),
        ("a:b:c", "a%3Ab%3Ac"),
        ("INV-2026%2f00060", "INV-2026%2F00060"),
        ("e\u0301", quote("é")),
        ("é", quote("e\u0301")),
        ("6F9619FF-8B86-D011-B42D-00C04FC964FF", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        ("0x00FF", "00ff"),
        ("7:2026-01-31 10:00:00.123", "7:2026-01-31%2010%3A00%3A00.123"),
        ("x" * 3000, short_key("x" * 3000)),
        ("ä/" * 900 + ":0x07", short_key(quote("ä/" * 900, safe="")) + ":0x07"),
    ],
)
def test_a_typed_key_is_read_in_each_sense_that_it_may_have(typed: str, key: str) -> None:
    assert key in readings(typed)


def test_a_hash_in_a_long_keys_id_is_read_as_it_is_shown() -> None:
    for text in ("ä" * 400, "aä" * 400, "y: /%" * 700):
        key = quote(text, safe="")
        shown = shown_id({"_id": f"orders:{short_key(key)}", "feed": "orders", "key": key})
        assert short_key(key) in readings(shown.removeprefix("orders:"))
        assert len(shown) < LONGEST_KEY


def test_a_change_is_shown_behind_its_key() -> None:
    moment = "2026-01-31 10:00:00.1234567"
    known = f"orders:a%2Fb:7:{quote(moment)}"
    shown = shown_id({"_id": known, "feed": "orders", "key": "a%2Fb:7"})
    assert shown == f"orders:a/b:7:{moment}"
    assert known.removeprefix("orders:") in readings(shown.removeprefix("orders:"))


def test_many_colons_are_not_tried_in_every_way() -> None:
    assert len(readings(":".join("abcdefghijklmnop"))) < 20


@pytest.mark.parametrize(
    ("part", "key", "found"),
    [
        ("inv-2026/", "acme:INV-2026%2F00060", True),
        ("acme:inv", "acme:INV-2026%2F00060", True),
        ("10:30", "10%3A30", True),
        ("ärzte", quote("Ärzte & Söhne"), True),
        ("%2F0006", "acme:INV-2026%2F00060", True),
        ("2F", "acme:INV-2026%2F00060", False),
        ("a.c", "abc", False),
    ],
)
def test_a_part_of_a_key_is_found_in_capitals_or_not(part: str, key: str, found: bool) -> None:
    assert bool(re.search(part_pattern(part), key, re.IGNORECASE)) is found
