"""Delivering under the endpoint's throttle, and leaving: what may not be sent costs no attempt and
is not forgotten.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.core.attempts import Outcome
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.ledger import Ledger
from app.partner.throttle.throttles import Throttles
from tests.support.doubles import Mood
from tests.support.feeds import make_feed
from tests.support.relay import LEASE, Relay
from tests.support.wait import until


@pytest.fixture
def relay(ledger: Ledger) -> Relay:
    """One request at a time, so that a batch can stop half-way."""
    return Relay(ledger, make_feed(batch_size=5, concurrency=1))


def worker(relay: Relay) -> Delivering:
    terms = DeliverySettings("w1", LEASE, group_size=1, group_wait=timedelta(milliseconds=20))
    throttles = Throttles(now=relay.clock)
    return Delivering(
        relay.ledger, relay.partner, terms, now=relay.clock, throttles=throttles, queue=relay.queue
    )


async def attempts_made(relay: Relay) -> int:
    return await relay.ledger._database["attempts"].count_documents({})


async def test_a_hold_in_the_middle_of_a_batch_gives_the_rest_back_until_it_ends(
    relay: Relay,
) -> None:
    (batch_id,) = await relay.poll_rows(5)
    relay.partner.moods = [Mood.ACCEPTS, Mood.THROTTLES, Mood.ACCEPTS]
    outcomes = await worker(relay).deliver(relay.feed, batch_id)
    assert outcomes == {Outcome.DELIVERED: 1, Outcome.RETRY: 1}
    relay.queue.messages.clear()
    assert await relay.sweep_later(timedelta(seconds=5)) == 0, "the hold is 7 s"
    assert await relay.sweep_later(timedelta(seconds=10)) >= 1
    relay.partner.moods = [Mood.ACCEPTS]
    await relay.deliver_all()
    assert set((await relay.states()).values()) <= {"delivered", "retrying"}
    assert await attempts_made(relay) in (5, 6), (
        "one each, and one more for the row that was told to wait"
    )


async def test_a_batch_that_comes_during_a_hold_is_parked_and_costs_nothing(relay: Relay) -> None:
    first, second = await relay.poll_rows(10)
    relay.partner.moods = [Mood.THROTTLES]
    delivering = worker(relay)
    await delivering.deliver(relay.feed, first)
    relay.partner.moods = [Mood.ACCEPTS]
    assert await delivering.deliver(relay.feed, second) is None
    assert relay.partner.requests == 1
    found = await relay.ledger._database["batches"].find_one({"_id": second})
    assert found is not None
    assert (found["tries"], found.get("lease")) == (0, None)
    relay.queue.messages.clear()
    await relay.sweep_later(timedelta(seconds=10))
    assert second in [batch_id for _, batch_id in relay.queue.messages]


async def test_a_parked_batch_that_another_worker_holds_is_left_to_it(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(5)
    now = relay.clock()
    held = await relay.ledger.batches.claim(batch_id, relay.feed.name, "other", now, LEASE)
    assert held
    assert (
        await relay.ledger.batches.park(batch_id, relay.feed.name, now + timedelta(days=1), now)
        is None
    )


async def test_draining_gives_back_what_was_not_sent_and_records_what_was(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(5)
    answer = relay.partner.held["orders:1"] = asyncio.Event()
    delivering = worker(relay)
    running = asyncio.create_task(delivering.deliver(relay.feed, batch_id))
    await until(lambda: relay.partner.requests == 1)
    relay.queue.messages.clear()
    delivering.drain(timedelta(seconds=30))
    answer.set()
    assert await running == {Outcome.DELIVERED: 1}
    assert relay.queue.messages == [("orders", batch_id)], "its message is sent again at once"
    assert await relay.ledger.batches.claim(
        batch_id, relay.feed.name, "other", relay.clock(), LEASE
    )
    assert relay.partner.requests == 1


async def test_a_request_that_outlasts_the_grace_is_on_record_as_unknown(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(5)
    relay.partner.held["orders:1"] = asyncio.Event()
    delivering = worker(relay)
    running = asyncio.create_task(delivering.deliver(relay.feed, batch_id))
    await until(lambda: relay.partner.requests == 1)
    delivering.drain(timedelta(milliseconds=50))
    assert await running == {Outcome.UNKNOWN: 1}
    assert await attempts_made(relay) == 1


async def test_a_message_that_comes_while_leaving_goes_back(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(5)
    relay.queue.messages.clear()
    delivering = worker(relay)
    delivering.drain(timedelta(seconds=1))
    assert await delivering.deliver(relay.feed, batch_id) is None
    assert (relay.queue.messages, relay.partner.requests) == ([("orders", batch_id)], 0)


async def test_leaving_while_the_broker_is_away_leaves_the_batch_to_the_sweep(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(5)
    relay.queue.messages.clear()
    relay.queue.takes = 0
    delivering = worker(relay)
    delivering.drain(timedelta(seconds=1))
    await delivering.deliver(relay.feed, batch_id)
    relay.queue.takes = None
    assert await relay.sweep_later(timedelta(0)) == 1
