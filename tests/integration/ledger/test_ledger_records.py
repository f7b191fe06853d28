"""Attempts are append-only, and statistics add up."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from app.core.attempts import Answer, Outcome, Result, Verdict
from app.ledger import Ledger
from app.ledger.stats import bucket_bound, bucket_of
from tests.support.ledger import (
    FEED,
    LATER,
    LEASE,
    NOW,
    accepted,
    claim,
    failed,
    loaded,
    log_batch,
    succeed,
    take_over,
)

MINUTE = timedelta(minutes=1)


async def outcomes(ledger: Ledger, row_id: int) -> list[str]:
    return [attempt["outcome"] for attempt in await ledger.attempts.of_delivery(f"{FEED}:{row_id}")]


async def test_an_attempt_is_on_record_with_what_came_of_it(ledger: Ledger) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1))
    row = (await loaded(ledger, batch))["1"]
    answer = Answer(NOW, 31, 503, body="come back later")
    await ledger.attempts.record(batch, [Result(row, answer, Verdict(Outcome.RETRY, "503", LATER))])
    (attempt,) = await ledger.attempts.of_delivery("orders:1")
    assert (attempt["at"], attempt["outcome"], attempt["status"]) == (NOW, "retry", 503)
    assert (attempt["duration_ms"], attempt["response"], attempt["worker"]) == (
        31,
        "come back later",
        "w1",
    )
    assert "error" not in attempt


async def test_recording_an_attempt_again_changes_nothing(ledger: Ledger) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1, 2))
    rows = await loaded(ledger, batch)
    await ledger.attempts.record(batch, [accepted(rows["1"])])
    await ledger.attempts.record(batch, [failed(rows["1"]), accepted(rows["2"])])
    assert await outcomes(ledger, 1) == ["delivered"]
    assert await outcomes(ledger, 2) == ["delivered"], "a duplicate does not keep the others out"


async def test_an_unknown_attempt_does_not_overwrite_a_known_one(ledger: Ledger) -> None:
    logged = await log_batch(ledger, 1, 2)
    former = await claim(ledger, logged)
    await ledger.attempts.record(former, [accepted((await loaded(ledger, former))["1"], 204)])
    holder = await claim(ledger, logged, "w2", LATER)
    left = await ledger.deliveries.unsettled(holder)
    assert await ledger.attempts.delivered_under(left) == {"orders:1": 204}
    await ledger.attempts.record_unknown(holder, left, former.lease)
    await ledger.attempts.record_unknown(holder, left, former.lease)
    assert await outcomes(ledger, 1) == ["delivered"]
    (unknown,) = await ledger.attempts.of_delivery("orders:2")
    assert (unknown["outcome"], unknown["worker"], unknown["at"]) == (
        "unknown",
        "w1",
        former.lease.until,
    )


async def test_a_worker_that_died_taking_over_hides_no_attempt(ledger: Ledger) -> None:
    """The second take-over names the attempt of the first holder: the holder in between died before
    it sent.
    """
    logged = await log_batch(ledger, 1)
    first = await claim(ledger, logged)
    await ledger.attempts.record(first, [accepted((await loaded(ledger, first))["1"])])
    await claim(ledger, logged, "w2", LATER)
    third = await claim(ledger, logged, "w3", LATER + 2 * LEASE)
    left = await ledger.deliveries.unsettled(third)
    assert await ledger.attempts.delivered_under(left) == {"orders:1": 200}


async def test_a_late_success_hides_no_attempt_of_the_holder_after_it(ledger: Ledger) -> None:
    """The second holder may have sent the row, and died, while the first one's success came in."""
    logged = await log_batch(ledger, 1)
    first = await claim(ledger, logged)
    second = await take_over(ledger, logged)
    (row,) = await ledger.deliveries.load(second)
    await ledger.attempts.record(first, [accepted(row)])
    assert await succeed(ledger, 1, holder=first) == 1
    third = await claim(ledger, logged, "w3", LATER + 2 * LEASE)
    assert await ledger.deliveries.unsettled(third) == {"orders:1": second.lease.token}


async def test_a_success_that_is_settled_leaves_nothing_in_doubt(ledger: Ledger) -> None:
    """Given back at shutdown, claimed anew, and taken over: what was delivered before was not sent
    again.
    """
    logged = await log_batch(ledger, 1, 2)
    first = await claim(ledger, logged)
    await succeed(ledger, 1, holder=first)
    await ledger.batches.release(first, NOW, NOW)
    await claim(ledger, logged, "w2")
    third = await claim(ledger, logged, "w3", LATER)
    assert (await ledger.deliveries.unsettled(third)).keys() == {"orders:2"}


async def test_each_lease_has_attempts_of_its_own_in_order(ledger: Ledger) -> None:
    logged = await log_batch(ledger, 1, 11)
    first = await claim(ledger, logged)
    rows = await loaded(ledger, first)
    await ledger.attempts.record_unknown(first, {"orders:1": first.lease.token}, first.lease)
    second = await claim(ledger, logged, "w2", LATER)
    later = Result(rows["1"], Answer(LATER, 5, 200), Verdict(Outcome.DELIVERED, "200"))
    await ledger.attempts.record(second, [later, accepted(rows["11"])])
    assert await outcomes(ledger, 1) == ["unknown", "delivered"]
    assert await outcomes(ledger, 11) == ["delivered"]


async def test_statistics_of_a_minute_add_up(ledger: Ledger) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1, 2, 3))
    rows = await loaded(ledger, batch)
    await ledger.stats.add_logged(FEED, 3, NOW)
    await ledger.stats.add_logged(FEED, 0, NOW)
    await ledger.stats.add_results(
        FEED, [accepted(rows["1"]), failed(rows["2"])], NOW + timedelta(seconds=10)
    )
    await ledger.stats.add_results(FEED, [accepted(rows["3"])], NOW + timedelta(seconds=29))
    await ledger.stats.add_outcomes(FEED, Outcome.UNKNOWN, 2, NOW)
    (minute,) = await ledger.stats.between(FEED, NOW - MINUTE, NOW + MINUTE)
    assert minute["minute"] == NOW.replace(second=0)
    assert minute["logged"] == 3
    assert minute["outcomes"] == {"delivered": 2, "retry": 1, "unknown": 2}
    assert minute["statuses"] == {"200": 2, "500": 1}
    assert minute["attempt_ms"] == {str(bucket_of(12)): 2, str(bucket_of(30)): 1}
    assert minute["delivered_ms"] == {str(bucket_of(10_000)): 1, str(bucket_of(29_000)): 1}


async def test_feeds_and_minutes_are_counted_apart(ledger: Ledger) -> None:
    await ledger.stats.add_logged(FEED, 1, NOW)
    await ledger.stats.add_logged(FEED, 2, NOW + timedelta(minutes=1))
    await ledger.stats.add_logged("other", 4, NOW)
    minute, hour = NOW.replace(second=0), NOW + timedelta(hours=1)
    assert [found["logged"] for found in await ledger.stats.between(FEED, minute, hour)] == [1, 2]
    assert [found["logged"] for found in await ledger.stats.between("other", minute, hour)] == [4]
    assert [
        found["logged"] for found in await ledger.stats.between(FEED, minute + MINUTE, hour)
    ] == [2]


async def test_workers_that_count_at_once_lose_no_count(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.stats.add_logged(FEED, 1, NOW) for _ in range(20)))
    (minute,) = await ledger.stats.between(FEED, NOW - MINUTE, NOW + MINUTE)
    assert minute["logged"] == 20


def test_a_duration_lies_in_its_bucket() -> None:
    for duration_ms in (0, 0.4, 1, 1.2, 9.99, 10, 10.01, 1234.5, 86_400_000):
        bucket = bucket_of(duration_ms)
        assert duration_ms <= bucket_bound(bucket) * (1 + 1e-9)
        assert bucket == 0 or bucket_bound(bucket - 1) < duration_ms * (1 + 1e-9)
