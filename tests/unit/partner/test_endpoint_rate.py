"""The pace of a rate limit never lets more through than the limit, whoever asks and however late it
is used.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.feeds.feed import Rate
from app.partner.throttle.rate import SLACK_SECONDS, LocalPace, Pace, Permits, Reserved

SLOW_SECONDS = 5.0
"""A busy machine may take so long between two lines: half an interval of the slots below."""

rates = st.builds(
    Rate, count=st.integers(1, 5000), per_seconds=st.sampled_from([1, 60, 3600, 86400])
)


def _slots(pace: Pace, count: int) -> list[float]:
    """The first slots after a long rest: the burst at once, then one an interval."""
    return [max(0.0, (n + 1 - pace.burst) * pace.interval) for n in range(count)]


def _most_in_any(slots: list[float], seconds: float) -> int:
    most = start = 0
    for end, slot in enumerate(slots):
        while slot - slots[start] >= seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


@given(rates)
def test_no_stretch_holds_more_slots_than_the_limit_allows(rate: Rate) -> None:
    slots = _slots(Pace.of(rate), 2 * rate.count + 2)
    assert _most_in_any(slots, rate.per_seconds + SLACK_SECONDS - 1e-6) <= rate.count


@given(rates)
def test_the_pace_uses_most_of_the_limit(rate: Rate) -> None:
    pace = Pace.of(rate)
    assert rate.per_seconds / pace.interval >= 0.89 * rate.count or rate.count < 10


def test_a_limit_a_second_has_no_bursts_and_one_an_hour_has() -> None:
    assert Pace.of(Rate(count=50, per_seconds=1)).burst == 1
    assert Pace.of(Rate(count=10_000, per_seconds=3600)).burst == 1000


@given(st.integers(1, 50), rates)
def test_the_parts_of_the_processes_add_up_to_the_pace(processes: int, rate: Rate) -> None:
    pace = Pace.of(rate)
    assert processes / pace.shared(processes).interval == pytest.approx(1 / pace.interval)


def test_slots_reserved_locally_follow_each_other() -> None:
    local, pace = LocalPace(), Pace(interval=10.0, burst=1)
    first, second = local.reserve(pace, 2, 100.0), local.reserve(pace, 1, 100.0)
    assert first.first == pytest.approx(0.0, abs=SLOW_SECONDS)
    assert second.first == pytest.approx(20.0, abs=SLOW_SECONDS)


def test_what_is_too_far_away_is_not_reserved() -> None:
    local, pace = LocalPace(), Pace(interval=10.0, burst=1)
    local.reserve(pace, 1, 2.0)
    assert local.reserve(pace, 1, 2.0).first > 2.0
    assert local.remaining == pytest.approx(10.0, abs=SLOW_SECONDS)


async def _never_too_far(pace: Pace, takers: int) -> list[float]:
    local = LocalPace()

    async def reserve(count: int) -> Reserved:
        return local.reserve(pace, count, 10.0)

    permits = Permits(pace, reserve, longest=10.0)
    moments: list[float] = []

    async def take() -> None:
        assert await permits.take() == 0.0
        moments.append(time.monotonic())

    await asyncio.gather(*(take() for _ in range(takers)))
    return moments


async def test_permits_are_handed_out_at_the_pace() -> None:
    moments = await _never_too_far(Pace(interval=0.02, burst=1), 20)
    assert moments == sorted(moments)
    assert moments[-1] - moments[0] >= 19 * 0.02 - SLACK_SECONDS


async def test_slots_that_were_missed_are_thrown_away() -> None:
    reserved = 0

    async def reserve(count: int) -> Reserved:
        nonlocal reserved
        reserved += count
        return Reserved(0.1, 0.01, count)

    taking = asyncio.create_task(Permits(Pace(0.01, 1), reserve, longest=1.0).take())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - the whole loop stands still: that is the point
    await taking
    assert reserved >= 2


async def test_a_far_slot_is_told_and_not_waited_for() -> None:
    async def reserve(count: int) -> Reserved:
        return Reserved(600.0, 1.0, count)

    assert await Permits(Pace(1.0, 1), reserve, longest=2.0).take() == 600.0
