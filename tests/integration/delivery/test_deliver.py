"""Delivering a batch: results as they come, one batch one worker, and nothing forgotten when the
ledger is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.core.attempts import Answer, Outcome
from app.core.batches import Batch
from app.core.deliveries import Delivery
from app.core.errors import LeaseLost, LedgerRefused, LedgerUnavailable, RowrelayError
from app.delivery.deliver import Delivering
from app.delivery.recording import RECORD_PATIENCE
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.ledger import Ledger
from tests.support.doubles import Mood, ScriptedPartner
from tests.support.feeds import make_feed
from tests.support.ledger import accepted, loaded
from tests.support.relay import LEASE, Relay, replaced
from tests.support.wait import until


@pytest.fixture
def relay(ledger: Ledger) -> Relay:
    return Relay(ledger, make_feed(batch_size=5))


@pytest.fixture
def narrow(ledger: Ledger) -> Relay:
    """One request at a time, each result written at once."""
    return Relay(ledger, make_feed(batch_size=5, concurrency=1), group_size=1)


def gone(
    query: Callable[..., Awaitable[Any]], times: int, error: RowrelayError
) -> Callable[..., Awaitable[Any]]:
    """The query, failing with `error` so many times before it works."""
    left = times

    async def failing(*args: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise error
        return await query(*args)

    return failing


async def outcomes(relay: Relay, delivery_id: str) -> list[str]:
    return [attempt["outcome"] for attempt in await relay.ledger.attempts.of_delivery(delivery_id)]


async def attempts(relay: Relay, delivery_id: str) -> int:
    """How many attempts the delivery counts."""
    found = await relay.ledger.deliveries.get(delivery_id)
    assert found is not None
    return int(found["attempts"])


# --- results as they come


async def test_a_straggler_does_not_hold_up_the_others_results(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(5)
    answer = relay.partner.held["orders:3"] = asyncio.Event()
    running = asyncio.create_task(relay.delivering().deliver(relay.feed, batch_id))

    async def others() -> bool:
        return list((await relay.states()).values()).count("delivered") == 4

    await until(others, message="the other four to be recorded")
    assert not running.done()
    assert (await relay.states())["orders:3"] == "queued"
    answer.set()
    assert await running == {Outcome.DELIVERED: 5}
    assert await relay.batches() == set()


async def test_a_batch_that_hangs_does_not_hold_up_another(relay: Relay) -> None:
    slow, quick = await relay.poll_rows(10)
    answer = asyncio.Event()
    relay.partner.held = {f"orders:{i}": answer for i in range(1, 6)}
    worker = relay.delivering()
    running = asyncio.create_task(worker.deliver(relay.feed, slow))
    await until(lambda: relay.partner.requests == 5)
    assert await asyncio.wait_for(worker.deliver(relay.feed, quick), 10) == {Outcome.DELIVERED: 5}
    assert not running.done()
    answer.set()
    await running


class StumblingPartner(ScriptedPartner):
    """Meets what nobody foresaw in one row."""

    async def send(self, feed: Feed, delivery: Delivery) -> Answer:
        if delivery.id == "orders:3":
            raise AttributeError("nobody foresaw this")
        return await super().send(feed, delivery)


async def test_a_row_that_nobody_foresaw_spends_its_own_attempts_alone(relay: Relay) -> None:
    relay.partner = StumblingPartner(relay.clock)
    (batch_id,) = await relay.poll_rows(5)
    assert await relay.delivering().deliver(relay.feed, batch_id) == {
        Outcome.DELIVERED: 4,
        Outcome.UNKNOWN: 1,
    }
    assert (await relay.states())["orders:3"] == "retrying"
    assert await outcomes(relay, "orders:3") == ["unknown"]
    assert await relay.batches() == set()


async def test_a_batch_that_one_process_holds_twice_is_finished_by_both(relay: Relay) -> None:
    """Its lease ran out with a request in flight, and the only worker there is took it over."""
    (batch_id,) = await relay.poll_rows(5)
    first, second = asyncio.Event(), asyncio.Event()
    relay.partner.held["orders:3"] = first
    worker = relay.delivering()
    before = asyncio.create_task(worker.deliver(relay.feed, batch_id))
    await until(lambda: _recorded(relay, 4), message="the other four to be recorded")
    relay.clock.advance(LEASE * 2)
    relay.partner.held["orders:3"] = second
    after = asyncio.create_task(worker.deliver(relay.feed, batch_id))
    await until(lambda: _asked(relay, "orders:3", 2), message="the row to be sent again")
    first.set()
    assert await before == {Outcome.DELIVERED: 5}
    second.set()
    assert await after == {Outcome.DELIVERED: 1}
    assert await relay.batches() == set()


async def _recorded(relay: Relay, count: int) -> bool:
    return list((await relay.states()).values()).count("delivered") == count


async def _asked(relay: Relay, delivery_id: str, times: int) -> bool:
    return len(relay.partner.payloads[delivery_id]) == times


async def test_each_result_goes_its_own_way(relay: Relay) -> None:
    relay.partner.moods = [
        Mood.ACCEPTS,
        Mood.FAILS,
        Mood.REFUSES,
        Mood.LOSES_ANSWER,
        Mood.THROTTLES,
    ]
    (batch_id,) = await relay.poll_rows(5)
    done = await relay.delivering().deliver(relay.feed, batch_id)
    assert done is not None
    assert sum(done.values()) == 5
    assert sorted((await relay.states()).values()) == [
        "dead",
        "delivered",
        "retrying",
        "retrying",
        "retrying",
    ]
    assert await relay.batches() == set()
    assert [await attempts(relay, delivery_id) for delivery_id in await relay.states()] == [1] * 5


# --- one batch, one worker


async def test_of_two_workers_with_one_message_one_sends(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(5)
    workers = [relay.delivering(f"w{i}") for i in range(4)]
    results = await asyncio.gather(*(worker.deliver(relay.feed, batch_id) for worker in workers))
    assert [result for result in results if result] == [{Outcome.DELIVERED: 5}]
    assert relay.partner.requests == 5
    assert await workers[0].deliver(relay.feed, batch_id) is None, (
        "a message that comes late finds nothing"
    )


async def test_the_lease_is_renewed_while_a_long_batch_runs(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(1)
    answer = relay.partner.held["orders:1"] = asyncio.Event()
    lease = timedelta(seconds=4)
    terms = DeliverySettings("w1", lease, group_size=1, group_wait=lease)
    worker = Delivering(relay.ledger, relay.partner, terms)
    running = asyncio.create_task(worker.deliver(relay.feed, batch_id))
    await until(lambda: relay.partner.requests == 1)
    first_ends = await _lease_until(relay, batch_id)

    async def renewed() -> bool:
        return await _lease_until(relay, batch_id) > first_ends

    await until(renewed, message="the lease to be renewed")
    assert (
        await relay.ledger.batches.claim(batch_id, relay.feed.name, "w2", first_ends, lease) is None
    )
    answer.set()
    assert await running == {Outcome.DELIVERED: 1}


async def _lease_until(relay: Relay, batch_id: str) -> datetime:
    found = await relay.ledger._database["batches"].find_one({"_id": batch_id})
    assert found is not None
    until: datetime = found["lease"]["until"]
    return until


async def test_a_renewal_under_way_does_not_keep_a_batch_that_is_done(relay: Relay) -> None:
    """PyMongo may swallow a cancelling: whoever cancels a renewal, and waits for it, can wait for
    ever.
    """
    (batch_id,) = await relay.poll_rows(1)
    relay.lease = timedelta(seconds=0.3)
    answer = relay.partner.held["orders:1"] = asyncio.Event()
    cut_short = False

    async def as_pymongo(*args: Any) -> None:
        nonlocal cut_short
        answer.set()
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            cut_short = True
        await relay.ledger.batches.renew(*args)

    ledger = replaced(relay.ledger, "batches", renew=as_pymongo)
    async with asyncio.timeout(10):
        assert await relay.delivering(ledger=ledger).deliver(relay.feed, batch_id) == {
            Outcome.DELIVERED: 1
        }
    assert not cut_short


async def test_what_was_not_sent_when_the_lease_ran_out_is_not_sent(narrow: Relay) -> None:
    (batch_id,) = await narrow.poll_rows(3)
    answer = narrow.partner.held["orders:1"] = asyncio.Event()
    running = asyncio.create_task(narrow.delivering().deliver(narrow.feed, batch_id))
    await until(lambda: narrow.partner.requests == 1)
    narrow.clock.advance(LEASE)
    answer.set()
    assert await running == {Outcome.DELIVERED: 1}
    assert narrow.partner.requests == 1
    assert sorted((await narrow.states()).values()) == ["delivered", "queued", "queued"]
    await narrow.sweep_later(LEASE)
    await narrow.deliver_all()
    assert set((await narrow.states()).values()) == {"delivered"}


async def test_a_worker_that_learns_of_a_take_over_sends_no_more(narrow: Relay) -> None:
    """It learns of it from the renewal of its lease, whatever its own clock says."""
    learnt = asyncio.Event()

    async def renew(*args: Any) -> None:
        try:
            await narrow.ledger.batches.renew(*args)
        except LeaseLost:
            learnt.set()
            raise

    (batch_id,) = await narrow.poll_rows(3)
    answer = narrow.partner.held["orders:1"] = asyncio.Event()
    narrow.lease = timedelta(seconds=0.15)
    worker = narrow.delivering(ledger=replaced(narrow.ledger, "batches", renew=renew))
    running = asyncio.create_task(worker.deliver(narrow.feed, batch_id))
    await until(lambda: narrow.partner.requests == 1)
    assert await narrow.ledger.batches.claim(
        batch_id, narrow.feed.name, "w2", narrow.clock() + timedelta(days=1), LEASE
    )
    await asyncio.wait_for(learnt.wait(), 10)
    answer.set()
    await running
    assert narrow.partner.requests == 1
    assert await narrow.batches() == {batch_id}, "it is the other worker's to settle"


@pytest.mark.parametrize(
    ("slow", "quick", "expected"),
    [
        (Mood.ACCEPTS, Mood.REFUSES, "delivered"),
        (Mood.ACCEPTS, Mood.FAILS, "delivered"),
        (Mood.REFUSES, Mood.ACCEPTS, "delivered"),
        (Mood.FAILS, Mood.ACCEPTS, "delivered"),
        (Mood.REFUSES, Mood.FAILS, "retrying"),
    ],
)
async def test_a_slow_worker_may_add_a_success_and_no_failure(
    relay: Relay, slow: Mood, quick: Mood, expected: str
) -> None:
    (batch_id,) = await relay.poll_rows(1)
    relay.partner.moods = [slow]
    answer = relay.partner.held["orders:1"] = asyncio.Event()
    running = asyncio.create_task(relay.delivering("slow").deliver(relay.feed, batch_id))
    await until(lambda: relay.partner.requests == 1)
    relay.clock.advance(LEASE)
    other = ScriptedPartner(relay.clock, [quick])
    await relay.delivering("quick", partner=other).deliver(relay.feed, batch_id)
    assert other.requests == 1
    answer.set()
    await running
    assert await relay.states() == {"orders:1": expected}
    assert len(await outcomes(relay, "orders:1")) == 2


async def test_a_success_on_record_is_not_sent_again(relay: Relay) -> None:
    """The worker died after it wrote the attempt down, before it moved the delivery."""
    (batch_id,) = await relay.poll_rows(2)
    dead = await relay.ledger.batches.claim(batch_id, relay.feed.name, "dead", relay.clock(), LEASE)
    assert dead
    rows = await loaded(relay.ledger, dead)
    await relay.ledger.attempts.record(dead, [accepted(rows["1"])])
    relay.clock.advance(LEASE)
    assert await relay.delivering().deliver(relay.feed, batch_id) == {Outcome.DELIVERED: 1}
    assert set(relay.partner.payloads) == {"orders:2"}
    assert await relay.states() == {"orders:1": "delivered", "orders:2": "delivered"}
    assert await outcomes(relay, "orders:1") == ["delivered"]
    assert await outcomes(relay, "orders:2") == ["unknown", "delivered"]
    assert [await attempts(relay, i) for i in ("orders:1", "orders:2")] == [1, 2]


async def test_a_success_that_is_recorded_during_a_take_over_is_not_sent_again(
    relay: Relay,
) -> None:
    """The former holder is alive, as after a clock jumped, and writes an attempt down between our
    two questions.
    """
    (batch_id,) = await relay.poll_rows(2)
    former = await relay.ledger.batches.claim(
        batch_id, relay.feed.name, "former", relay.clock(), LEASE
    )
    assert former
    rows = await loaded(relay.ledger, former)
    relay.clock.advance(LEASE)
    deliveries, recorded = relay.ledger.deliveries, relay.ledger.attempts

    async def unsettled(batch: Batch) -> dict[str, str]:
        left = await deliveries.unsettled(batch)
        await recorded.record(former, [accepted(rows["1"])])
        return left

    async def delivered_under(tokens: dict[str, str]) -> dict[str, int]:
        found = await recorded.delivered_under(tokens)
        await recorded.record(former, [accepted(rows["2"])])
        return found

    during = replaced(relay.ledger, "deliveries", unsettled=unsettled)
    during = replaced(during, "attempts", delivered_under=delivered_under)
    await relay.delivering(ledger=during).deliver(relay.feed, batch_id)
    assert set(relay.partner.payloads) == {"orders:2"}
    assert await outcomes(relay, "orders:1") == ["delivered"]
    assert await outcomes(relay, "orders:2") == ["unknown", "delivered"], (
        "what may be sent again is on record as such"
    )


# --- the ledger is away


@pytest.mark.parametrize(
    ("collection", "query", "mood"),
    [
        ("attempts", "record", Mood.ACCEPTS),
        ("deliveries", "succeed", Mood.ACCEPTS),
        ("deliveries", "fail", Mood.REFUSES),
        ("stats", "add_results", Mood.ACCEPTS),
        ("pauses", "pause", Mood.DENIES),
    ],
)
async def test_results_are_kept_while_the_ledger_is_away(
    relay: Relay, collection: str, query: str, mood: Mood
) -> None:
    (batch_id,) = await relay.poll_rows(3)
    relay.partner.moods = [mood]
    working = getattr(getattr(relay.ledger, collection), query)
    ledger = replaced(
        relay.ledger, collection, **{query: gone(working, 2, LedgerUnavailable("away"))}
    )
    done = await relay.delivering(ledger=ledger).deliver(relay.feed, batch_id)
    assert done is not None
    assert sum(done.values()) == relay.partner.requests == (1 if mood is Mood.DENIES else 3)
    assert list((await relay.states()).values()).count("queued") == 3 - relay.partner.requests
    assert (await relay.ledger.cursors.get("orders")).paused is (mood is Mood.DENIES)


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), LedgerRefused("no right to write")])
async def test_nothing_more_is_sent_when_results_cannot_be_recorded(
    narrow: Relay, error: RowrelayError
) -> None:
    """After `RECORD_PATIENCE`, or at once where waiting is no use: the next lease sends what is
    left.
    """

    tries = 0

    async def record(*_: Any) -> None:
        nonlocal tries
        tries += 1
        narrow.clock.advance(RECORD_PATIENCE / 4)
        raise error

    narrow.lease = RECORD_PATIENCE * 10
    (batch_id,) = await narrow.poll_rows(5)
    for place in range(2, 6):
        narrow.partner.held[f"orders:{place}"] = asyncio.Event()
    ledger = replaced(narrow.ledger, "attempts", record=record)
    running = asyncio.create_task(narrow.delivering(ledger=ledger).deliver(narrow.feed, batch_id))
    await until(lambda: narrow.partner.requests == 2)
    await until(lambda: tries == (4 if error.retryable else 1), message="the last try to record")
    for answer in narrow.partner.held.values():
        answer.set()
    with pytest.raises(type(error)):
        await running
    assert narrow.partner.requests == 2
    assert set((await narrow.states()).values()) == {"queued"}
    assert await narrow.batches() == {batch_id}


# --- the partner speaks of the feed


@pytest.mark.parametrize("sending_alone", [False, True])
async def test_a_paused_feed_is_not_sent_and_its_batch_stays_free(
    relay: Relay, *, sending_alone: bool
) -> None:
    (batch_id,) = await relay.poll_rows(2)
    pauses = relay.ledger.pauses
    await (pauses.pause_sending if sending_alone else pauses.pause)("orders", "by hand")
    assert await relay.delivering().deliver(relay.feed, batch_id) is None
    assert relay.partner.requests == 0
    await (pauses.resume_sending if sending_alone else pauses.resume)("orders")
    assert await relay.delivering().deliver(relay.feed, batch_id) == {Outcome.DELIVERED: 2}


async def test_a_feed_whose_polling_alone_is_paused_is_sent(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(2)
    await relay.ledger.pauses.pause("orders", "by hand", sending=True)
    assert await relay.delivering().deliver(relay.feed, batch_id) == {Outcome.DELIVERED: 2}


async def test_a_worker_that_found_the_feed_paused_goes_on_as_soon_as_it_is_resumed(
    relay: Relay,
) -> None:
    (batch_id,) = await relay.poll_rows(2)
    worker = relay.delivering()
    await relay.ledger.pauses.pause("orders", "by hand")
    assert await worker.deliver(relay.feed, batch_id) is None
    await relay.ledger.pauses.resume("orders")
    assert await worker.deliver(relay.feed, batch_id) == {Outcome.DELIVERED: 2}


async def test_a_worker_that_pauses_the_feed_sends_no_other_batch(narrow: Relay) -> None:
    (first,) = await narrow.poll_rows(1)
    (second,) = await narrow.poll_rows(1)
    narrow.partner.moods = [Mood.DENIES]
    worker = narrow.delivering()
    await worker.deliver(narrow.feed, first)
    assert await worker.deliver(narrow.feed, second) is None
    assert narrow.partner.requests == 1


async def test_refused_credentials_pause_the_feed_and_cost_one_row_one_attempt(
    narrow: Relay,
) -> None:
    narrow.partner.moods = [Mood.DENIES]
    (batch_id,) = await narrow.poll_rows(3)
    await narrow.delivering().deliver(narrow.feed, batch_id)
    assert narrow.partner.requests == 1
    assert sorted((await narrow.states()).values()) == ["queued", "queued", "retrying"]
    assert "401" in ((await narrow.ledger.cursors.get("orders")).paused_reason or "")
    narrow.partner.moods = [Mood.ACCEPTS]
    await narrow.ledger.pauses.resume("orders")
    for _ in range(2):
        await narrow.sweep_later(timedelta(minutes=2))
        await narrow.deliver_all()
    assert set((await narrow.states()).values()) == {"delivered"}
