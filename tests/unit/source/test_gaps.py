"""The gap algebra, checked against plain sets of ids."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.core.position import Gap
from app.source.cursors.gaps import Gaps, Round, coarsen, expire, missing, split, subtract

START = datetime(2026, 1, 1, tzinfo=UTC)
FLOOR, CEILING = -5, 60
"""The ids that the model knows; a gap without a lower bound begins at `FLOOR` there."""

id_sets = st.sets(st.integers(0, CEILING))


def members(gaps: Iterable[Gap]) -> set[int]:
    """The ids that gaps hold, as far down as `FLOOR`."""
    return {
        number
        for gap in gaps
        for number in range(FLOOR if gap.low is None else gap.low, gap.high + 1)
    }


def ages(gaps: Iterable[Gap]) -> dict[int, datetime]:
    return {number: gap.since for gap in gaps for number in members([gap])}


def well_formed(gaps: Gaps) -> bool:
    bounded = all(gap.low is not None for gap in gaps[1:])
    ordered = all(right.low is not None and left.high < right.low for left, right in pairwise(gaps))
    return bounded and ordered and all(gap.low is None or gap.low <= gap.high for gap in gaps)


@st.composite
def gap_sets(draw: st.DrawFn) -> Gaps:
    """Ascending gaps of different ages, the first one sometimes unbounded."""
    bounds = sorted(draw(st.sets(st.integers(0, CEILING), max_size=24)))
    pairs = list(zip(bounds[::2], bounds[1::2], strict=False))
    minutes = draw(st.lists(st.integers(0, 20), min_size=len(pairs), max_size=len(pairs)))
    unbounded = draw(st.booleans())
    gaps = [
        Gap(low, high, START + timedelta(minutes=m))
        for (low, high), m in zip(pairs, minutes, strict=True)
    ]
    if gaps and unbounded:
        gaps[0] = Gap(None, gaps[0].high, gaps[0].since)
    return tuple(gaps)


@given(id_sets, st.integers(FLOOR, -1))
def test_missing_ids_and_found_ids_make_up_the_whole_range(found: set[int], after: int) -> None:
    gaps = missing(after, sorted(found), START)
    assert well_formed(gaps)
    assert members(gaps) == (set(range(after + 1, max(found))) - found if found else set())


@given(id_sets.filter(bool))
def test_a_first_page_leaves_everything_below_it_open(found: set[int]) -> None:
    gaps = missing(None, sorted(found), START)
    assert gaps[0] == Gap(None, min(found) - 1, START)
    assert members(gaps) == set(range(FLOOR, max(found))) - found


def test_a_page_of_a_thousand_million_missing_ids_costs_one_range() -> None:
    assert missing(0, [1, 10**9], START) == (Gap(2, 10**9 - 1, START),)


@given(gap_sets(), id_sets)
def test_subtracting_removes_the_found_ids_and_keeps_every_age(gaps: Gaps, found: set[int]) -> None:
    left = subtract(gaps, sorted(found))
    assert well_formed(left)
    assert ages(left) == {
        number: since for number, since in ages(gaps).items() if number not in found
    }


@given(gap_sets(), st.integers(-1, CEILING + 1))
def test_splitting_loses_no_id_and_no_age(gaps: Gaps, at: int) -> None:
    below, above = split(gaps, at)
    assert well_formed(below + above)
    assert all(number <= at for number in members(below))
    assert all(number > at for number in members(above))
    assert ages(below) | ages(above) == ages(gaps)


@given(gap_sets(), st.integers(0, 40))
def test_only_gaps_that_reached_the_timeout_expire(gaps: Gaps, minutes: int) -> None:
    now = START + timedelta(minutes=minutes)
    kept, expired = expire(gaps, now, timedelta(minutes=10))
    assert all(now - gap.since < timedelta(minutes=10) for gap in kept)
    assert all(now - gap.since >= timedelta(minutes=10) for gap in expired)
    assert members(kept) | members(expired) == members(gaps)


@given(gap_sets(), st.integers(1, 8))
def test_coarsening_is_bounded_forgets_no_id_and_ages_none(gaps: Gaps, max_gaps: int) -> None:
    merged = coarsen(gaps, max_gaps)
    assert well_formed(merged)
    assert len(merged) == min(len(gaps), max_gaps)
    after = ages(merged)
    assert all(after[number] >= since for number, since in ages(gaps).items())


@given(gap_sets())
def test_gaps_that_fit_are_not_coarsened(gaps: Gaps) -> None:
    assert coarsen(gaps, max(1, len(gaps))) == gaps


def test_coarsening_merges_the_nearest_neighbours_and_keeps_the_later_age() -> None:
    later = START + timedelta(minutes=1)
    gaps = (Gap(1, 1, later), Gap(3, 3, START), Gap(50, 50, START))
    assert coarsen(gaps, 2) == (Gap(1, 3, later), Gap(50, 50, START))


@given(gap_sets(), id_sets, st.none() | st.integers(0, CEILING), st.data())
def test_a_round_gives_up_only_what_it_looked_at(
    gaps: Gaps, present: set[int], stopped_at: int | None, data: st.DataObject
) -> None:
    now = START + timedelta(hours=1)
    rounds = Round(gaps, stopped_at)
    found: list[int] = []
    seen: set[int] = set()
    for _ in range(data.draw(st.integers(0, 5))):
        asked = rounds.ask(2)
        answer = sorted(present & members(asked))
        limit = data.draw(st.integers(1, 3))
        up_to = answer[limit - 1] if len(answer) > limit else None
        found += answer[:limit]
        seen |= {number for number in members(asked) if up_to is None or number <= up_to}
        rounds.looked(asked, up_to)
    kept, expired = rounds.settle(found, now, timedelta(minutes=1))
    assert well_formed(kept)
    assert members(kept) == members(gaps) - seen
    assert members(expired) == seen - set(found)


@given(gap_sets(), st.none() | st.integers(0, CEILING))
def test_rounds_that_go_on_where_the_last_stopped_reach_every_gap(
    gaps: Gaps, stopped_at: int | None
) -> None:
    seen: set[int] = set()
    for _ in range(2 * len(gaps) + 2):
        rounds = Round(gaps, stopped_at)
        asked = rounds.ask(1)
        seen |= members(asked)
        rounds.looked(asked, None)
        stopped_at = rounds.stopped_at
        assert rounds.complete == (stopped_at is None)
    assert seen == members(gaps)
