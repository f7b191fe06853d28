"""What the defaults of a feed's retries come to, worked through with the clock moved."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from app.core.attempts import Answer, Outcome
from app.core.url import parse_url
from app.delivery.policy import judge
from app.feeds.feed import Breaker, Partner, Retry
from app.partner.throttle.throttle import EndpointThrottle
from tests.support.doubles import VirtualClock
from tests.support.feeds import make_feed

START = datetime(2026, 3, 1, tzinfo=UTC)
LATE = timedelta(seconds=1)
"""How long after its time a retry may come."""
SEEDS = range(300)
EVERY = timedelta(minutes=10)


def attempts_on(policy: Retry, away: timedelta, seed: int) -> tuple[list[datetime], Outcome]:
    """When a row is tried whose partner answers 503 for that long, and what becomes of it."""
    chance, now = random.Random(seed), START
    times: list[datetime] = []
    while True:
        times.append(now)
        answer = Answer(now, 5, 503 if now < START + away else 200)
        verdict = judge(
            answer, attempt=len(times), created_at=START, policy=policy, now=now, draw=chance.random
        )
        if verdict.next_attempt_at is None:
            return times, verdict.outcome
        now = verdict.next_attempt_at + chance.random() * LATE


@pytest.mark.parametrize("hours", [0.1, 0.5, 1, 6, 24, 71])
def test_a_partner_that_is_away_costs_no_row_and_has_each_within_the_cap_after_it_is_back(
    hours: float,
) -> None:
    policy, away = Retry(), timedelta(hours=hours)
    for seed in SEEDS:
        times, outcome = attempts_on(policy, away, seed)
        assert outcome is Outcome.DELIVERED
        assert times[-1] - (START + away) <= policy.backoff_cap + LATE


def test_a_row_whose_partner_stays_away_is_tried_for_three_days_and_about_a_hundred_times() -> None:
    policy = Retry()
    for seed in SEEDS:
        times, outcome = attempts_on(policy, timedelta(days=30), seed)
        assert outcome is Outcome.DEAD
        assert policy.max_age <= times[-1] - START <= policy.max_age + policy.backoff_cap
        assert 80 <= len(times) <= 110


@pytest.mark.parametrize("cap", ["5s", "10m", "6h"])
def test_whatever_the_cap_a_row_is_not_given_up_before_its_age(cap: str) -> None:
    policy = Retry.model_validate({"backoff_cap": cap})
    times, outcome = attempts_on(policy, timedelta(days=30), seed=1)
    assert outcome is Outcome.DEAD
    assert times[-1] - START >= policy.max_age


def test_an_operator_may_still_bound_the_attempts() -> None:
    times, outcome = attempts_on(Retry(max_attempts=3), timedelta(days=30), seed=1)
    assert (len(times), outcome) == (3, Outcome.DEAD)


@dataclass
class QuietFeed:
    """A row every ten minutes for a day, whose partner is away for that day; the clock moves from
    event to event.
    """

    clock: VirtualClock
    endpoint: EndpointThrottle
    away: timedelta = timedelta(hours=24)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    requests: int = 0
    attempts: dict[int, int] = field(default_factory=dict)
    done: dict[int, tuple[Outcome, datetime]] = field(default_factory=dict)
    _due: list[tuple[datetime, int]] = field(default_factory=list)

    async def run(self) -> None:
        """Until every row is done with."""
        rows = int(self.away / EVERY)
        self._due = [(START + row * EVERY, row) for row in range(rows)]
        while self._due:
            at, row = heapq.heappop(self._due)
            self.clock.advance(max(at - self.clock(), timedelta(0)))
            if quiet := self.endpoint.held_for():
                self._later(row, self.clock() + timedelta(seconds=quiet))
            elif back_at := await self.endpoint.admit():
                self._later(row, back_at)
            else:
                await self._send(row)

    def _later(self, row: int, at: datetime) -> None:
        heapq.heappush(self._due, (at + self.chance.random() * LATE, row))

    async def _send(self, row: int) -> None:
        now, attempt = self.clock(), self.attempts.get(row, 0) + 1
        self.requests, self.attempts[row] = self.requests + 1, attempt
        answer = Answer(now, 5, 503 if now < START + self.away else 200)
        created = START + row * EVERY
        policy = self.endpoint.feed.retry
        verdict = judge(
            answer,
            attempt=attempt,
            created_at=created,
            policy=policy,
            now=now,
            draw=self.chance.random,
        )
        await self.endpoint.report([answer])
        if verdict.next_attempt_at is None:
            self.done[row] = verdict.outcome, now
        else:
            self._later(row, verdict.next_attempt_at)


async def quiet_day(breaker: Breaker) -> QuietFeed:
    clock, url = VirtualClock(), parse_url("http://partner.invalid/")
    clock.time = START

    def steady() -> float:
        return (clock() - START).total_seconds()

    feed = make_feed(partner=Partner(url=url, breaker=breaker), retry=Retry())
    quiet = QuietFeed(clock, EndpointThrottle(feed, now=clock, steady=steady))
    await quiet.run()
    return quiet


async def test_a_quiet_feed_opens_its_breaker_and_loses_no_row_to_a_partner_that_is_away_for_a_day() -> (
    None
):
    breaker = Breaker()
    quiet = await quiet_day(breaker)
    assert {outcome for outcome, _ in quiet.done.values()} == {Outcome.DELIVERED}
    assert len(quiet.done) == quiet.away / EVERY
    back, policy = START + quiet.away, quiet.endpoint.feed.retry
    assert max(at for _, at in quiet.done.values()) <= back + policy.backoff_cap + breaker.open_for
    assert max(quiet.attempts.values()) <= 100
    assert quiet.endpoint.breaker.generation == 0, "closed again"
    failed = quiet.requests - len(quiet.done)
    probing = quiet.away / breaker.open_for_cap * breaker.probes
    assert failed <= probing, (
        "a few probes each time that it half opens, whatever the rows that wait"
    )
    without = await quiet_day(breaker.model_copy(update={"consecutive_failures": 0}))
    assert without.requests > 4 * quiet.requests
