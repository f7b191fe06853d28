"""What the defaults of a feed's retries come to, worked through with the clock moved."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from app.feed import Retry
from app.models import Answer, Outcome
from app.partner.policy import judge

START = datetime(2026, 3, 1, tzinfo=UTC)
LATE = timedelta(seconds=1)
"""How long after its time a retry may come."""
SEEDS = range(300)


def attempts_on(policy: Retry, away: timedelta, seed: int) -> tuple[list[datetime], Outcome]:
    """When a row is tried whose partner answers 503 for that long, and what becomes of it."""
    chance, now = random.Random(seed), START
    times: list[datetime] = []
    while True:
        times.append(now)
        answer = Answer(now, 5, 503 if now < START + away else 200)
        verdict = judge(answer, attempt=len(times), created_at=START, policy=policy, now=now, draw=chance.random)
        if verdict.next_attempt_at is None:
            return times, verdict.outcome
        now = verdict.next_attempt_at + chance.random() * LATE


@pytest.mark.parametrize("hours", [0.1, 0.5, 1, 6, 24, 71])
def test_a_partner_that_is_away_costs_no_row_and_has_each_within_the_cap_after_it_is_back(hours: float) -> None:
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
