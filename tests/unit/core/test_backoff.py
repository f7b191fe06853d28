"""Waits that double: never longer than their bound, whatever the number of tries."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.core.backoff import doubled

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("times", "seconds"), [(-1, 1), (0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (10_000, 60)]
)
def test_a_wait_doubles_up_to_its_bound(times: int, seconds: int) -> None:
    assert doubled(SECOND, times, timedelta(minutes=1)) == timedelta(seconds=seconds)


def test_a_first_wait_beyond_the_bound_is_cut_to_it() -> None:
    assert doubled(timedelta(hours=1), 0, SECOND) == SECOND


def test_the_longest_waits_there_are_stay_within_what_a_timedelta_holds() -> None:
    assert doubled(timedelta(days=3650), 10_000, timedelta(days=3650)) == timedelta(days=3650)
