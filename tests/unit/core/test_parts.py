"""What there is, is cut into parts that are bounded, and nothing of it is lost."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from app.core.parts import in_parts


@given(st.lists(st.integers()), st.integers(1, 5))
def test_parts_hold_every_item_in_order_and_no_more_than_they_may(
    items: list[int], most: int
) -> None:
    parts = list(in_parts(items, most))
    assert list(chain.from_iterable(parts)) == items
    assert all(len(part) == most for part in parts[:-1])
    assert all(0 < len(part) <= most for part in parts)


@given(st.lists(st.text(max_size=8)), st.integers(1, 5), st.integers(1, 10))
def test_a_part_keeps_within_its_bound_unless_a_single_item_exceeds_it(
    items: list[str], most: int, limit: int
) -> None:
    parts = list(in_parts(items, most, (len, limit)))
    assert list(chain.from_iterable(parts)) == items
    assert all(len(part) <= most for part in parts)
    assert all(sum(map(len, part)) <= limit or len(part) == 1 for part in parts)


def test_what_comes_one_by_one_is_cut_as_it_comes() -> None:
    taken: list[int] = []

    def coming() -> chain[int]:
        return chain.from_iterable(_noting(number, taken) for number in range(4))

    parts = in_parts(coming(), 2)
    assert (next(parts), taken) == ([0, 1], [0, 1])


def _noting(number: int, taken: list[int]) -> list[int]:
    taken.append(number)
    return [number]
