"""What belongs to a feed or a delivery is found by how its id begins, and nothing else is."""

from __future__ import annotations

import pytest

from app.ledger.client import Document
from app.ledger.ids import attempts_under, ids_under


def _matches(known: str, wanted: Document) -> bool:
    """As a server compares strings: by their bytes."""
    comparisons = {
        "$gt": lambda bound: known.encode() > bound.encode(),
        "$gte": lambda bound: known.encode() >= bound.encode(),
        "$lt": lambda bound: known.encode() < bound.encode(),
    }
    return all(comparisons[name](bound) for name, bound in wanted.items())


@pytest.mark.parametrize(
    "known", ["orders:", "orders:1", "orders:%C3%A9", "orders:~", "orders:1:2"]
)
def test_what_begins_with_the_prefix_is_found(known: str) -> None:
    assert _matches(known, ids_under("orders:"))


@pytest.mark.parametrize(
    "known", ["orders", "orders2:1", "orders-eu:1", "order:1", "orders;", "orders|2026-11-21"]
)
def test_nothing_else_is(known: str) -> None:
    assert not _matches(known, ids_under("orders:"))


def test_only_what_follows_may_be_asked_for() -> None:
    ids = ["orders:1", "orders:10", "orders:2"]
    assert [known for known in ids if _matches(known, ids_under("orders:", "orders:10"))] == [
        "orders:2"
    ]


def test_a_delivery_has_its_own_attempts_only() -> None:
    ids = ["orders:1#a", "orders:10#a", "orders:1:2#a", "orders:1"]
    assert [known for known in ids if _matches(known, attempts_under("orders:1"))] == ["orders:1#a"]
