"""Deliveries: logged once, failed only by the holder, and delivered for good."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.core.errors import LedgerRefused
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger import Ledger
from app.ledger.delivery_documents import MEND_IT
from tests.support.ledger import (
    FEED,
    LATER,
    LEASE,
    NOW,
    accepted,
    batch_of,
    claim,
    delivery,
    failed,
    loaded,
    log_batch,
    source_rows,
    states,
    succeed,
    take_over,
)


async def test_logging_a_row_again_leaves_it_as_it_is(ledger: Ledger) -> None:
    first = await log_batch(ledger, 1, 2)
    await succeed(ledger, 1)
    second = batch_of(1, 2, 3)
    assert await ledger.deliveries.log([(second, source_rows(1, 2, 3))], LATER) == [
        "orders:1",
        "orders:2",
    ]
    assert await states(ledger, [1, 2, 3]) == ["delivered", "queued", "queued"]
    assert (await delivery(ledger, 2))["batch"] == first.id
    assert (await delivery(ledger, 2))["created_at"] == NOW
    assert (await delivery(ledger, 3))["batch"] == second.id


async def test_a_duplicate_does_not_keep_the_rows_behind_it_out(ledger: Ledger) -> None:
    await log_batch(ledger, 2, 4)
    numbers = (1, 2, 3, 4, 5, 5)
    known = await ledger.deliveries.log([(batch_of(*numbers), source_rows(*numbers))], NOW)
    assert known == ["orders:2", "orders:4", "orders:5"]
    assert await ledger.deliveries.log([(batch_of(1), source_rows(1))], NOW) == ["orders:1"]
    assert await ledger.deliveries.log([], NOW) == []
    assert len(await states(ledger, [1, 2, 3, 4, 5])) == 5


async def test_a_write_error_that_is_no_duplicate_is_raised(ledger: Ledger) -> None:
    """A row that MongoDB cannot hold must not be passed over as if it were there already."""
    await log_batch(ledger, 1)
    rows = [*source_rows(1), SourceRow("2", 2, "x" * (17 * 2**20))]
    with pytest.raises(LedgerRefused):
        await ledger.deliveries.log([(batch_of(1, 2), rows)], NOW)


async def test_an_unreadable_row_is_a_dead_letter_with_its_reason(ledger: Ledger) -> None:
    unreadable = SourceRow("7", 7, "", error="column note: no JSON form")
    assert await ledger.deliveries.log_unreadable(FEED, [unreadable], NOW) == []
    assert await ledger.deliveries.log_unreadable(FEED, [unreadable], LATER) == ["orders:7"]
    found = await delivery(ledger, 7)
    assert (found["state"], found["reason"], found["finished_at"]) == (
        "dead",
        f"column note: no JSON form{MEND_IT}",
        NOW,
    )


async def test_a_batch_loads_only_what_names_it_and_is_queued(ledger: Ledger) -> None:
    first = await log_batch(ledger, 1, 2)
    second = await log_batch(ledger, 1, 2, 3)  # the same page, read again
    await succeed(ledger, 2)
    assert set(await loaded(ledger, await claim(ledger, first))) == {"1"}
    assert set(await loaded(ledger, await claim(ledger, second))) == {"3"}


async def test_a_failure_waits_for_its_time(ledger: Ledger) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1, 2))
    found = await loaded(ledger, batch)
    results = [failed(found["1"], LATER), failed(found["2"], None)]
    assert await ledger.deliveries.fail(batch, results, NOW) == 2
    retrying, dead = await delivery(ledger, 1), await delivery(ledger, 2)
    assert (retrying["state"], retrying["next_attempt_at"], retrying["attempts"]) == (
        "retrying",
        LATER,
        1,
    )
    assert (dead["state"], dead["reason"], dead["attempts"]) == (
        "dead",
        "500 Internal Server Error",
        1,
    )
    assert "batch" not in retrying
    assert await ledger.requeueing.due_retries(LATER - timedelta(seconds=1), 10) == []
    assert await ledger.requeueing.due_retries(LATER, 10) == [(FEED, "orders:1")]
    assert await ledger.requeueing.due_retries(LATER, 10, paused=[FEED]) == []


async def test_a_failure_recorded_twice_counts_once(ledger: Ledger) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1))
    results = [failed((await loaded(ledger, batch))["1"])]
    assert await ledger.deliveries.fail(batch, results, NOW) == 1
    assert await ledger.deliveries.fail(batch, results, NOW) == 0
    assert (await delivery(ledger, 1))["attempts"] == 1


async def test_a_failure_after_a_take_over_changes_nothing(ledger: Ledger) -> None:
    logged = await log_batch(ledger, 1)
    former = await claim(ledger, logged)
    results = [failed((await loaded(ledger, former))["1"])]
    holder = await take_over(ledger, logged)
    before = await delivery(ledger, 1)
    assert await ledger.deliveries.fail(former, results, LATER) == 0
    assert await delivery(ledger, 1) == before
    assert await ledger.deliveries.fail(holder, results, LATER) == 1


async def test_a_take_over_counts_the_attempt_it_cannot_see(ledger: Ledger) -> None:
    logged = await log_batch(ledger, 1)
    await claim(ledger, logged)
    holder = await take_over(ledger, logged)
    await ledger.deliveries.fence(holder, LATER)
    found = await delivery(ledger, 1)
    assert found["attempts"] == 1, "once, though fenced twice"
    assert "unknown" in found["last"]["error"]
    assert (await loaded(ledger, holder))["1"].attempts == 1


async def test_a_holder_that_comes_late_does_not_fence_out_the_one_after_it(ledger: Ledger) -> None:
    """It stood still between its claim and its fence, for longer than its lease."""
    logged = await log_batch(ledger, 1)
    await claim(ledger, logged)
    late = await claim(ledger, logged, "late", LATER)
    holder = await claim(ledger, logged, "w3", LATER + LEASE)
    await ledger.deliveries.fence(holder, LATER + LEASE)
    found = await loaded(ledger, holder)
    await ledger.deliveries.fence(late, LATER + LEASE)
    assert await loaded(ledger, late) == {}
    assert await ledger.deliveries.fail(holder, [failed(found["1"])], LATER + LEASE) == 1
    assert (await delivery(ledger, 1))["attempts"] == 2, "the unknown one and ours"


async def test_a_batch_given_back_after_a_take_over_can_fail_under_its_next_holder(
    ledger: Ledger,
) -> None:
    logged = await log_batch(ledger, 1)
    await claim(ledger, logged)
    taken = await take_over(ledger, logged)
    await ledger.batches.release(taken, LATER, LATER)
    holder = await claim(ledger, logged, "w3", LATER)
    found = await loaded(ledger, holder)
    assert await ledger.deliveries.fail(holder, [failed(found["1"])], LATER) == 1


@pytest.mark.parametrize("state", [state for state in State if state is not State.DELIVERED])
async def test_a_success_is_recorded_whatever_the_state(ledger: Ledger, state: State) -> None:
    await log_batch(ledger, 1)
    await ledger._database["deliveries"].update_one(
        {"_id": "orders:1"},
        {"$set": {"state": state.value, "reason": "why", "next_attempt_at": LATER}},
    )
    assert await succeed(ledger, 1, status=201) == 1
    found = await delivery(ledger, 1)
    assert (found["state"], found["last"]["status"], found["finished_at"]) == (
        "delivered",
        201,
        NOW,
    )
    assert not found.keys() & {"batch", "token", "reason", "next_attempt_at"}


async def test_a_success_counts_once_and_is_never_overwritten(ledger: Ledger) -> None:
    logged = await log_batch(ledger, 1)
    batch = await claim(ledger, logged)
    found = await loaded(ledger, batch)
    assert await succeed(ledger, 1, now=NOW) == 1
    before = await delivery(ledger, 1)
    assert await succeed(ledger, 1, status=202, now=LATER) == 0
    assert await ledger.deliveries.fail(batch, [failed(found["1"])], LATER) == 0
    assert await ledger.requeueing.requeue_due(batch_of(1), LATER) == 0
    await take_over(ledger, logged)
    assert await ledger.deliveries.log([(batch_of(1), source_rows(1))], LATER) == ["orders:1"]
    assert await delivery(ledger, 1) == before
    assert before["attempts"] == 1


async def test_successes_and_failures_of_one_group_go_their_own_ways(ledger: Ledger) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1, 2, 3))
    found = await loaded(ledger, batch)
    group = [accepted(found["1"]), failed(found["2"]), failed(found["3"], None)]
    await ledger.attempts.record(batch, group)
    await succeed(ledger, 1)
    await ledger.deliveries.fail(batch, group[1:], NOW)
    assert await states(ledger, [1, 2, 3]) == ["delivered", "retrying", "dead"]


async def test_two_sweeps_move_a_due_retry_once(ledger: Ledger) -> None:
    batch = await claim(ledger, await log_batch(ledger, 1, 2))
    found = await loaded(ledger, batch)
    await ledger.deliveries.fail(
        batch, [failed(found["1"]), failed(found["2"], LATER + LEASE)], NOW
    )
    first, second = batch_of(1, 2), batch_of(1, 2)
    assert await ledger.requeueing.requeue_due(first, LATER) == 1, "2 is not due"
    assert await ledger.requeueing.requeue_due(second, LATER) == 0
    assert (await delivery(ledger, 1))["batch"] == first.id
    assert "next_attempt_at" not in await delivery(ledger, 1)
    assert await states(ledger, [1, 2]) == ["queued", "retrying"]


async def test_only_a_delivery_whose_batch_is_gone_is_adopted(ledger: Ledger) -> None:
    orphaned, living = await log_batch(ledger, 1), await log_batch(ledger, 2)
    await ledger.batches.settle(await claim(ledger, orphaned))
    queued = await ledger.requeueing.queued_batches(NOW)
    gone = queued - await ledger.batches.existing(queued)
    assert gone == {orphaned.id}
    assert await ledger.requeueing.queued_batches(NOW - timedelta(seconds=1)) == set(), (
        "just logged: its poll may run"
    )
    assert await ledger.requeueing.queued_in(gone, 10) == [(FEED, "orders:1")]
    new = batch_of(1, 2)
    assert await ledger.requeueing.adopt(new, gone) == 1
    assert await ledger.requeueing.adopt(batch_of(1, 2), gone) == 0
    assert (await delivery(ledger, 1))["batch"] == new.id
    assert (await delivery(ledger, 2))["batch"] == living.id


async def test_what_is_open_is_counted_and_dated(ledger: Ledger) -> None:
    await log_batch(ledger, 3, now=LATER)
    assert await ledger.backlog.oldest_open(FEED) == LATER
    batch = await claim(ledger, await log_batch(ledger, 1, 2))
    found = await loaded(ledger, batch)
    await ledger.deliveries.fail(batch, [failed(found["1"])], NOW)
    await succeed(ledger, 2)
    assert await ledger.backlog.oldest_open(FEED) == NOW
    assert await ledger.backlog.oldest_open("other") is None
    assert await ledger.backlog.retrying(FEED, 10) == 1
    states = (await ledger.state_counts.by_feed(NOW))[FEED].states
    assert {state: n for state, n in states.items() if n} == {
        State.QUEUED: 1,
        State.RETRYING: 1,
        State.DELIVERED: 1,
    }
