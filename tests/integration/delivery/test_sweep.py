"""The sweep: what is owed and nobody works on comes back to the queue, in time and within bounds."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.broker.queue import HINTS_A_FEED
from app.delivery.sweep import HINT_AGAIN, HINTS_AGAIN, Sweeping
from app.ledger import Ledger
from tests.support.doubles import MemorySource, Mood
from tests.support.feeds import make_feed
from tests.support.relay import LEASE, MESSAGE_WAIT, Relay
from tests.support.steps import Crashed, Fate, Kind, Steps, stepped_ledger

SECOND = timedelta(seconds=1)
LONGEST_BACKOFF = timedelta(minutes=1)


@pytest.fixture
def relay(ledger: Ledger) -> Relay:
    return Relay(ledger)


async def test_a_lost_message_is_sent_again_and_again(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(2)
    relay.queue.messages.clear()
    sweeping = relay.sweeping()

    async def sweep_later(after: timedelta) -> int:
        relay.clock.advance(after)
        return (await sweeping.sweep()).messages

    assert await sweep_later(MESSAGE_WAIT - SECOND) == 0
    assert await sweep_later(SECOND) == 1
    assert relay.queue.messages == [("orders", batch_id)]
    relay.queue.messages.clear()
    assert await sweep_later(HINT_AGAIN - SECOND) == 0, "it may be on its way"
    assert await sweep_later(SECOND) == 1
    await relay.deliver_all()
    assert set((await relay.states()).values()) == {"delivered"}
    assert await sweep_later(timedelta(days=1)) == 0


async def test_a_feed_with_much_to_send_gets_a_few_messages_and_hides_no_other(
    ledger: Ledger,
) -> None:
    relay = Relay(ledger, make_feed(batch_size=1, page_size=1000), sweep_limit=HINTS_A_FEED + 5)
    big = await relay.poll_rows(3 * HINTS_A_FEED)
    assert len(big) == HINTS_A_FEED, "the others are due at once"
    other = relay.feed
    relay.feed = make_feed(name="small")
    relay.source = MemorySource()
    (small,) = await relay.poll_rows(1)
    relay.queue.messages.clear()
    relay.clock.advance(MESSAGE_WAIT)
    sweeping = Sweeping(
        ledger,
        relay.queue,
        {feed.name: feed for feed in (other, relay.feed)},
        lease=LEASE,
        limit=1000,
        now=relay.clock,
    )
    assert (await sweeping.requeue()).messages == HINTS_A_FEED + 1
    assert ("small", small) in relay.queue.messages
    assert (await sweeping.requeue()).messages == 0, (
        "nobody claimed any, and more messages would not help"
    )
    hinted = [batch_id for feed, batch_id in relay.queue.messages if feed == "orders"]
    for batch_id in hinted[:3]:
        assert await ledger.batches.claim(batch_id, "orders", "w1", relay.clock(), LEASE)
    assert (await sweeping.requeue()).messages == 3, "as many as were claimed"
    await ledger.batches.drop_due("small", relay.clock())
    for _ in range(2):
        relay.queue.messages.clear()
        relay.clock.advance(HINT_AGAIN)
        assert (await sweeping.requeue()).messages == HINTS_AGAIN, (
            "whoever has room for one takes the others too"
        )


async def test_what_could_not_be_sent_is_sent_at_the_next_look(relay: Relay) -> None:
    sent = await relay.poll_rows(6)
    relay.queue.messages.clear()
    relay.clock.advance(MESSAGE_WAIT)
    sweeping = relay.sweeping()
    relay.queue.takes = 0
    assert (await sweeping.requeue()).messages == 0
    relay.queue.takes = None
    assert (await sweeping.requeue()).messages == len(sent)
    assert (await sweeping.requeue()).messages == 0


async def test_what_the_limit_left_out_is_sent_once_there_is_room(ledger: Ledger) -> None:
    relay = Relay(ledger, make_feed(batch_size=1), sweep_limit=4)
    sent = set(await relay.poll_rows(5))
    relay.queue.messages.clear()
    relay.clock.advance(MESSAGE_WAIT)
    sweeping = relay.sweeping()
    assert (await sweeping.requeue()).messages == 4
    first = {batch_id for _, batch_id in relay.queue.messages}
    relay.queue.messages.clear()
    assert (await sweeping.requeue()).messages == 1
    assert first | {batch_id for _, batch_id in relay.queue.messages} == sent


async def test_a_feed_that_is_not_configured_gets_no_message(relay: Relay) -> None:
    await relay.poll_rows(2)
    relay.queue.messages.clear()
    relay.clock.advance(MESSAGE_WAIT)
    other = make_feed(name="other")
    sweeping = Sweeping(
        relay.ledger, relay.queue, {"other": other}, lease=LEASE, limit=100, now=relay.clock
    )
    assert (await sweeping.requeue()).messages == 0
    assert await relay.sweep_later(SECOND) == 1, "it is still owed"


async def test_due_retries_of_one_feed_leave_room_for_those_of_another(ledger: Ledger) -> None:
    relay = Relay(ledger, make_feed(batch_size=10))
    relay.partner.moods = [Mood.FAILS]
    await relay.poll_rows(30)
    await relay.deliver_all()
    relay.clock.advance(SECOND)
    relay.feed, relay.source = make_feed(name="small", batch_size=10), MemorySource()
    await relay.poll_rows(2)
    await relay.deliver_all()
    relay.clock.advance(LONGEST_BACKOFF)
    due = await ledger.requeueing.due_retries(relay.clock(), 10)
    assert len(due) == 10
    assert sum(feed == "small" for feed, _ in due) == 2


async def test_after_a_flush_everything_still_arrives(relay: Relay) -> None:
    await relay.poll_rows(20)
    relay.queue.messages.clear()
    await relay.sweep_later(MESSAGE_WAIT)
    await relay.deliver_all()
    assert list((await relay.states()).values()) == ["delivered"] * 20
    assert relay.partner.requests == 20


async def test_a_batch_comes_back_when_its_lease_has_run_out(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(1)
    relay.queue.messages.clear()
    assert await relay.ledger.batches.claim(batch_id, relay.feed.name, "dead", relay.clock(), LEASE)
    assert await relay.sweep_later(LEASE - SECOND) == 0
    assert await relay.sweep_later(SECOND) == 1
    await relay.deliver_all()
    assert await relay.states() == {"orders:1": "delivered"}


async def test_a_long_queue_gets_no_more_messages_than_fill_it(ledger: Ledger) -> None:
    relay = Relay(ledger, sweep_limit=3)
    await relay.poll_rows(10)
    relay.queue.messages.clear()
    assert await relay.sweep_later(MESSAGE_WAIT) == 3
    assert await relay.sweep_later(SECOND) == 0
    relay.queue.messages.pop()
    assert await relay.sweep_later(SECOND) == 1
    while await relay.sweep_later(LEASE) or relay.queue.messages:
        assert len(relay.queue.messages) <= 3
        await relay.deliver_all()
    assert set((await relay.states()).values()) == {"delivered"}


async def test_a_retry_waits_for_its_time(relay: Relay) -> None:
    relay.partner.moods = [Mood.FAILS]
    await relay.poll_rows(5)
    await relay.deliver_all()
    assert set((await relay.states()).values()) == {"retrying"}
    found = await relay.ledger._database["deliveries"].find().to_list()
    last = max(document["next_attempt_at"] for document in found)
    relay.clock.time = min(document["next_attempt_at"] for document in found) - SECOND
    assert (await relay.sweeping().sweep()).retries == 0
    relay.clock.time = last
    swept = await relay.sweeping().sweep()
    assert (swept.retries, swept.messages) == (5, 3), "gathered into batches of 2"
    assert (await relay.sweeping().sweep()).retries == 0


async def test_a_delivery_is_dead_when_its_attempts_are_spent(relay: Relay) -> None:
    relay.partner.moods = [Mood.FAILS]
    await relay.poll_rows(1)
    for attempt in range(1, 5):
        await relay.deliver_all()
        assert relay.partner.requests == attempt
        await relay.sweep_later(LONGEST_BACKOFF)
    assert not relay.queue.messages
    found = await relay.ledger.deliveries.get("orders:1")
    assert found is not None
    assert (found["state"], found["attempts"]) == ("dead", 4)
    assert found["reason"].startswith("attempts spent: 500")
    assert await relay.sweep_later(timedelta(days=1)) == 0
    assert len(await relay.ledger.attempts.of_delivery("orders:1")) == 4


async def test_retries_wait_while_nothing_may_be_sent_to_their_endpoint(relay: Relay) -> None:
    """Gathered into batches they would be offered, parked and offered again."""
    relay.partner.moods = [Mood.FAILS]
    await relay.poll_rows(5)
    await relay.deliver_all()
    relay.clock.advance(LONGEST_BACKOFF)
    quiet = ["orders"]
    sweeping = Sweeping(
        relay.ledger, relay.queue, {"orders": relay.feed}, lease=LEASE, limit=100,
        now=relay.clock, quiet=lambda: quiet,
    )  # fmt: skip
    assert (await sweeping.requeue()).retries == 0
    await relay.poll_rows(2)
    relay.queue.messages.clear()
    relay.clock.advance(LONGEST_BACKOFF)
    assert (await sweeping.requeue()).messages == 1, "a batch is offered, for its worker to park"
    quiet.clear()
    assert (await sweeping.requeue()).retries == 5


@pytest.mark.parametrize("sending_alone", [False, True])
async def test_a_paused_feed_is_not_swept(relay: Relay, *, sending_alone: bool) -> None:
    pauses = relay.ledger.pauses
    relay.partner.moods = [Mood.FAILS, Mood.ACCEPTS]
    first, _ = await relay.poll_rows(3)
    await relay.delivering().deliver(relay.feed, first)
    relay.queue.messages.clear()
    await (pauses.pause_sending if sending_alone else pauses.pause)("orders", "by hand")
    relay.clock.advance(timedelta(hours=1))
    swept = await relay.sweeping().sweep()
    assert (swept.retries, swept.messages) == (0, 0)
    await (pauses.resume_sending if sending_alone else pauses.resume)("orders")
    swept = await relay.sweeping().sweep()
    assert (swept.retries, swept.messages) == (1, 2)


async def test_without_a_broker_nothing_is_put_off(relay: Relay) -> None:
    await relay.poll_rows(6)
    relay.queue.messages.clear()
    relay.queue.takes = 0
    assert await relay.sweep_later(MESSAGE_WAIT) == 0
    relay.queue.takes = 1
    assert await relay.sweep_later(SECOND) == 0, "it went away between two messages"
    relay.queue.takes = None
    assert await relay.sweep_later(SECOND) == 4


async def test_orphans_are_adopted_and_arrive(relay: Relay) -> None:
    await relay.poll_rows(6)
    gone = relay.queue.messages[0][1]
    await relay.ledger._database["batches"].delete_one({"_id": gone})
    relay.queue.messages.clear()
    assert await relay.sweeping().adopt_orphans() == 0, "just logged: a poll may be at it"
    relay.clock.advance(LEASE)
    assert await relay.sweeping().adopt_orphans() == 2
    assert await relay.sweeping().adopt_orphans() == 0
    await relay.sweep_later(timedelta(0))
    await relay.deliver_all()
    assert list((await relay.states()).values()) == ["delivered"] * 6
    assert relay.partner.requests == 6


async def test_sweeps_at_once_send_each_row_once(relay: Relay) -> None:
    relay.partner.moods = [Mood.FAILS]
    await relay.poll_rows(8)
    await relay.deliver_all()
    relay.clock.advance(LONGEST_BACKOFF)
    swept = await asyncio.gather(*(relay.sweeping().sweep() for _ in range(3)))
    assert sum(each.retries for each in swept) == 8
    relay.partner.moods = [Mood.ACCEPTS]
    await relay.deliver_all()
    assert relay.partner.requests == 16
    assert await relay.batches() == set()


async def test_a_batch_is_not_sent_by_another_sweep_before_its_rows_are_in_it(relay: Relay) -> None:
    """It would be claimed with nothing in it, and deleted, and its rows would wait as orphans."""
    relay.partner.moods = [Mood.FAILS]
    await relay.poll_rows(2)
    await relay.deliver_all()
    relay.partner.moods = [Mood.ACCEPTS]
    relay.clock.advance(LONGEST_BACKOFF)
    steps = Steps(Fate(Kind.FREEZE, 3, after=True))  # the batch is inserted
    slow = asyncio.create_task(relay.sweeping(stepped_ledger(relay.ledger, steps)).sweep())
    await steps.frozen.wait()
    (unfilled,) = await relay.batches()
    await relay.sweeping().sweep()
    assert unfilled not in {batch_id for _, batch_id in relay.queue.messages}
    steps.thaw()
    await slow
    await relay.deliver_all()
    assert set((await relay.states()).values()) == {"delivered"}
    assert await relay.batches() == set()


@pytest.mark.parametrize("step", range(1, 14))
async def test_wherever_a_sweep_dies_the_next_one_completes_it(ledger: Ledger, step: int) -> None:
    relay = Relay(ledger, make_feed(batch_size=3))
    relay.partner.moods = [Mood.FAILS]
    first, *_ = await relay.poll_rows(9)
    await relay.delivering().deliver(relay.feed, first)
    relay.queue.messages.clear()
    await ledger._database["batches"].delete_one({})
    relay.partner.moods = [Mood.ACCEPTS]
    relay.clock.advance(LEASE * 2)
    dying = relay.sweeping(stepped_ledger(ledger, Steps(Fate(Kind.CRASH, step, after=True))))
    try:
        await dying.sweep()
        await dying.adopt_orphans()
    except Crashed:
        pass
    await relay.sweeping().adopt_orphans()
    await relay.sweep_later(LEASE)
    await relay.deliver_all()
    assert list((await relay.states()).values()) == ["delivered"] * 9
    assert relay.partner.requests == 3 + 9
    assert await relay.batches() == set()
