"""The reasons of a kind are found by a pattern that misses none of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.ledger.reasons import kind_pattern, normal

PIECES = (*"ab 0129.-'\"{}[]@:/#éệ…<>", "400 ", "http://x", "order ", "x@y.z", "12345", "{…}")
REASONS = st.lists(st.sampled_from(PIECES), max_size=200).map("".join)


@given(REASONS)
@example('400 Bad Request: "{"error": "no customer 12345"}" at [1]')
@example("x" * 118 + " {1}")
def test_the_pattern_of_a_kind_finds_every_reason_of_it(reason: str) -> None:
    assert re.search(kind_pattern(normal(reason)), reason)


@pytest.mark.parametrize(
    ("reason", "other"),
    [
        ("400 Bad Request: order 12345", "400 Bad Request: order 12345 is late"),
        ("404 Not Found", "attempts spent: 404 Not Found"),
        ("409 Conflict: 'a'", "410 Gone: 'a'"),
    ],
)
def test_the_pattern_of_a_kind_leaves_others_out(reason: str, other: str) -> None:
    assert not re.search(kind_pattern(normal(reason)), other)


def test_a_pattern_stays_cheap_however_many_quotes_a_partner_writes() -> None:
    kind = normal(" ".join("'a'" for _ in range(60)))
    assert kind_pattern(kind).count("[\\s\\S]*") <= 2
