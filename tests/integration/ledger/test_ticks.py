"""A tick is planned once, held by one worker at a time, and finished once, whoever asks and however
often.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.core.errors import LeaseLost
from app.core.period import Kind, following, period_of
from app.ledger import Ledger
from app.ledger.ticks import StepDone, Tick, TickState
from tests.support.ledger import NOW
from tests.support.periodic import LEASE, all_ticks

UTC = ZoneInfo("UTC")
JOB = "purge"
HOUR = period_of(NOW, Kind.HOUR, UTC)
NEXT = following(HOUR, UTC)
LATER = NOW + LEASE
DONE = StepDone("orders", NOW, 12, {"purged": 3, "dry": False})


async def planned(ledger: Ledger, due_at: datetime = NOW) -> Tick:
    await ledger.ticks.plan(JOB, [(HOUR, due_at)])
    return (await all_ticks(ledger, JOB))[0]


async def claimed(ledger: Ledger, worker: str = "w1", now: datetime = NOW) -> Tick:
    tick = await ledger.ticks.claim(await planned(ledger), worker, now, LEASE)
    assert tick is not None
    return tick


async def test_a_period_is_planned_once_however_often_and_by_however_many(ledger: Ledger) -> None:
    both = [(HOUR, NOW), (NEXT, LATER)]
    added = await asyncio.gather(*(ledger.ticks.plan(JOB, both) for _ in range(4)))
    assert sum(added) == 2
    assert [tick.period for tick in await all_ticks(ledger, JOB)] == [HOUR, NEXT]
    assert (await ledger.ticks.latest(JOB, datetime.max.replace(tzinfo=UTC))) == (
        await all_ticks(ledger, JOB)
    )[1]


async def test_planning_again_leaves_what_was_done_alone(ledger: Ledger) -> None:
    await ledger.ticks.finish(await claimed(ledger), TickState.DONE, NOW, None)
    assert await ledger.ticks.plan(JOB, [(HOUR, LATER)]) == 0
    assert (await all_ticks(ledger, JOB))[0].state is TickState.DONE


async def test_of_many_workers_one_gets_the_tick(ledger: Ledger) -> None:
    tick = await planned(ledger)
    got = await asyncio.gather(*(ledger.ticks.claim(tick, f"w{n}", NOW, LEASE) for n in range(8)))
    assert sum(found is not None for found in got) == 1


async def test_a_tick_is_not_claimed_before_it_is_due(ledger: Ledger) -> None:
    tick = await planned(ledger, due_at=LATER)
    assert await ledger.ticks.claim(tick, "w1", LATER - timedelta(milliseconds=1), LEASE) is None
    assert await ledger.ticks.claim(tick, "w1", LATER, LEASE) is not None


async def test_a_claim_says_who_stopped_while_at_it_and_what_was_done(ledger: Ledger) -> None:
    first = await claimed(ledger)
    await ledger.ticks.note_step(first, DONE)
    second = await claimed(ledger, "w2", LATER)
    assert second.previous is not None
    assert (second.previous.worker, second.tries, second.started_at) == (
        "w1",
        2,
        NOW.replace(microsecond=0),
    )
    assert (second.steps, second.duration_ms, second.fruitless) == ((DONE,), 12, 1)


async def test_who_lost_the_lease_records_nothing_more(ledger: Ledger) -> None:
    first = await claimed(ledger)
    second = await claimed(ledger, "w2", LATER)
    for late in (
        ledger.ticks.renew(first, LATER),
        ledger.ticks.note_step(first, DONE),
        ledger.ticks.finish(first, TickState.DONE, LATER, None),
        ledger.ticks.retry(first, LATER, "failed"),
        ledger.ticks.release(first),
    ):
        with pytest.raises(LeaseLost, match=r"purge\|2026-01-01T12\+00:00"):
            await late
    await ledger.ticks.renew(second, LATER + LEASE)


async def test_a_lease_that_is_renewed_is_not_taken_over(ledger: Ledger) -> None:
    tick = await claimed(ledger)
    await ledger.ticks.renew(tick, LATER + LEASE)
    assert await ledger.ticks.claim(tick, "w2", LATER, LEASE) is None


async def test_what_is_finished_is_never_opened_again(ledger: Ledger) -> None:
    tick = await claimed(ledger)
    await ledger.ticks.finish(tick, TickState.FAILED, NOW, "orders: no space")
    assert await ledger.ticks.claim(tick, "w2", LATER, LEASE) is None
    assert not await ledger.ticks.close_missed(tick, TickState.SKIPPED, LATER, "missed")
    with pytest.raises(LeaseLost):
        await ledger.ticks.finish(tick, TickState.DONE, NOW, None)
    (found,) = await all_ticks(ledger, JOB)
    assert (found.state, found.error, found.lease) == (TickState.FAILED, "orders: no space", None)
    assert await ledger.ticks.open(JOB) == []


async def test_a_failed_try_waits_and_a_finished_step_counts_the_tries_anew(ledger: Ledger) -> None:
    await ledger.ticks.retry(await claimed(ledger), LATER, "orders: away")
    (waiting,) = await ledger.ticks.open(JOB)
    assert (waiting.due_at, waiting.error, waiting.tries, waiting.fruitless) == (
        LATER,
        "orders: away",
        1,
        1,
    )
    again = await claimed(ledger, now=LATER)
    await ledger.ticks.note_step(again, DONE)
    assert [(tick.tries, tick.fruitless) for tick in await ledger.ticks.open(JOB)] == [(2, 0)]


async def test_a_tick_given_back_is_free_at_once_and_no_try_was_spent(ledger: Ledger) -> None:
    await ledger.ticks.release(await claimed(ledger))
    again = await claimed(ledger, "w2")
    assert (again.tries, again.previous) == (1, None)


async def test_a_tick_that_was_claimed_meanwhile_is_not_passed_over(ledger: Ledger) -> None:
    seen = await planned(ledger)
    tick = await claimed(ledger)
    assert not await ledger.ticks.close_missed(seen, TickState.SKIPPED, LATER, "missed")
    assert not await ledger.ticks.close_missed(tick, TickState.FAILED, NOW, "missed"), (
        "its lease runs"
    )
    assert await ledger.ticks.close_missed(tick, TickState.FAILED, LATER, "missed")
    with pytest.raises(LeaseLost):
        await ledger.ticks.note_step(tick, DONE)


async def test_the_one_that_stands_for_a_period_is_the_next_that_was_not_passed_over(
    ledger: Ledger,
) -> None:
    seen = await planned(ledger)
    await ledger.ticks.plan(JOB, [(NEXT, LATER)])
    assert (await ledger.ticks.standing_for(JOB, HOUR.end)) == seen
    await ledger.ticks.close_missed(seen, TickState.SKIPPED, LATER, "the next stands for it")
    standing = await ledger.ticks.standing_for(JOB, HOUR.end)
    assert standing is not None
    assert standing.period == NEXT
    assert await ledger.ticks.standing_for(JOB, NEXT.end + timedelta(hours=1)) is None
    assert await ledger.ticks.standing_for("reconcile", HOUR.end) is None


async def test_only_finished_ticks_are_forgotten(ledger: Ledger) -> None:
    await ledger.ticks.finish(await claimed(ledger), TickState.DONE, NOW, None)
    await ledger.ticks.plan(JOB, [(NEXT, NOW)])
    assert await ledger.ticks.forget(JOB, HOUR.end) == 0
    assert await ledger.ticks.forget(JOB, NEXT.end + timedelta(days=1)) == 1
    assert [tick.period for tick in await all_ticks(ledger, JOB)] == [NEXT]
