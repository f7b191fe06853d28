"""Which periods a job leaves out, and how long a failing one waits: decided without a ledger."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.period import Kind, periods
from app.jobs.schedule import (
    HORIZON,
    JOBS,
    LONGEST_WAIT,
    MAX_TRIES,
    SETTLE,
    Job,
    Misfire,
    missed,
    wait_after,
)
from app.ledger.ticks import Tick, TickState

UTC = ZoneInfo("UTC")
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def ended(hours: int) -> list[Tick]:
    """Open ticks of that many hours from `START` on, oldest first."""
    found = periods(START, START + hours * HOUR, Kind.HOUR, UTC)
    return [Tick("job", period, TickState.OPEN, period.end + SETTLE) for period in found]


def left(rule: Misfire, ticks: list[Tick], now: datetime) -> list[int]:
    """The hours that are worked at."""
    out = [tick.id for tick, _ in missed(Job("job", Kind.HOUR, rule), ticks, now)]
    return [tick.period.start.hour for tick in ticks if tick.id not in out]


@pytest.mark.parametrize(
    ("rule", "late", "expected"),
    [
        (Misfire.ALL, SETTLE, [0, 1, 2, 3, 4, 5]),
        (Misfire.ALL, 5 * HOUR, [0, 1, 2, 3, 4, 5]),
        (Misfire.ALL, HORIZON - 2 * HOUR, [3, 4, 5]),
        (Misfire.ONCE, SETTLE, [5]),
        (Misfire.ONCE, HORIZON, [5]),
        (Misfire.SKIP, SETTLE + timedelta(minutes=15), [5]),
        (Misfire.SKIP, SETTLE + timedelta(minutes=15, microseconds=1), []),
    ],
)
def test_six_hours_away(rule: Misfire, late: timedelta, expected: list[int]) -> None:
    """`late`: how long after the last of the six periods ended somebody is there again."""
    assert left(rule, ended(6), START + 6 * HOUR + late) == expected


@pytest.mark.parametrize("rule", Misfire)
def test_nothing_is_left_out_while_all_goes_well(rule: Misfire) -> None:
    assert missed(Job("job", Kind.HOUR, rule), [], START) == []
    assert left(rule, ended(1), START + HOUR + SETTLE) == [0]


@given(hours=st.integers(1, 400), late=st.integers(0, 10 * 24 * 60))
def test_all_leaves_out_only_what_is_older_than_the_horizon_and_says_so(
    hours: int, late: int
) -> None:
    now = START + hours * HOUR + SETTLE + timedelta(minutes=late)
    for tick, why in missed(Job("job", Kind.HOUR, Misfire.ALL), ended(hours), now):
        assert tick.period.end < now - HORIZON
        assert why == "older than 7 days"


def test_each_wait_is_longer_than_the_one_before_up_to_the_longest() -> None:
    waits = [wait_after(tries) for tries in range(1, MAX_TRIES)]
    assert waits[0] == timedelta(minutes=1)
    assert all(earlier <= later <= LONGEST_WAIT for earlier, later in pairwise(waits))
    assert (
        timedelta(hours=1, minutes=30) < sum(waits, timedelta(0)) < timedelta(hours=2, minutes=30)
    )
    assert wait_after(0) == waits[0], "a try that finished a step starts anew"


def test_a_job_that_waits_for_another_has_the_same_periods() -> None:
    by_name = {job.name: job for job in JOBS}
    assert len(by_name) == len(JOBS)
    assert all(by_name[job.after].kind is job.kind for job in JOBS if job.after)
