"""Deadlines under one timer: each at its time, none before, none for what has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from app.partner.deadlines import Deadlines


class Clock:
    """Stands in for a loop: its time passes as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: dict[Timer, float] = {}

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[float], None], seconds: float) -> Timer:
        timer = Timer(self, lambda: call(seconds))
        self.timers[timer] = when
        return timer

    def pass_until(self, moment: float) -> None:
        while due := [timer for timer, when in self.timers.items() if when <= moment]:
            timer = min(due, key=self.timers.__getitem__)
            self.now = max(self.now, self.timers.pop(timer))
            timer.call()
        self.now = moment


class Timer:
    def __init__(self, clock: Clock, call: Callable[[], None]) -> None:
        self._clock, self.call = clock, call

    def cancel(self) -> None:
        self._clock.timers.pop(self, None)


class Request:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.expired_at: float | None = None

    def expire(self) -> None:
        assert self.expired_at is None
        self.expired_at = self._clock.now


STEPS = st.tuples(st.sampled_from((1.0, 2.5, 10.0)), st.floats(0, 4), st.none() | st.floats(0, 12))
"""How long a request may take, how much later the next one begins, and when it ends by itself."""


@given(st.lists(STEPS, min_size=1, max_size=30))
def test_each_request_expires_at_its_own_deadline_unless_it_has_ended(
    steps: list[tuple[float, float, float | None]],
) -> None:
    clock = Clock()
    deadlines = Deadlines(cast("asyncio.AbstractEventLoop", clock))
    began: list[tuple[Request, float, float | None]] = []
    ends: list[tuple[float, Request, float]] = []
    moment = 0.0
    for seconds, later, own_end in steps:
        _pass(clock, deadlines, ends, moment)
        request = Request(clock)
        deadline = deadlines.begin(request, seconds)
        assert deadline == moment + seconds
        ended_at = None if own_end is None or own_end >= seconds else moment + own_end
        began.append((request, deadline, ended_at))
        if ended_at is not None:
            ends.append((ended_at, request, seconds))
        moment += later
    _pass(clock, deadlines, ends, moment + 100)
    for request, deadline, ended_at in began:
        assert request.expired_at == (deadline if ended_at is None else None)
    assert not clock.timers, "nothing is left to wait for"


def _pass(
    clock: Clock, deadlines: Deadlines, ends: list[tuple[float, Request, float]], moment: float
) -> None:
    for ended_at, request, seconds in sorted(ends, key=lambda end: end[0]):
        if ended_at <= moment:
            clock.pass_until(ended_at)
            deadlines.end(request, seconds)
            ends.remove((ended_at, request, seconds))
    clock.pass_until(moment)


def test_a_thousand_requests_that_end_in_time_need_one_timer() -> None:
    clock = Clock()
    deadlines = Deadlines(cast("asyncio.AbstractEventLoop", clock))
    for number in range(1000):
        clock.pass_until(number * 0.001)
        request = Request(clock)
        deadlines.begin(request, 10.0)
        assert len(clock.timers) == 1
        deadlines.end(request, 10.0)
