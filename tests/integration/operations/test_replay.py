"""Replay and cancel: each moves what was selected, once, wherever it is stopped, and no attempt is
forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from app.core.attempts import Answer, Outcome, Result, Verdict
from app.core.rows import SourceRow
from app.core.states import State
from app.delivery.deliver import Delivering
from app.delivery.sweep import Sweeping
from app.delivery.work import DeliverySettings
from app.feeds.feed import Rate
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.client import Document
from app.ledger.operator_moves import REPLAYS_KEPT
from app.ledger.selection import Selection
from app.operations.account import Account
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.operations.replay import Replaying
from tests.support.doubles import MemoryQueue, Mood, ScriptedPartner, VirtualClock
from tests.support.feeds import make_feed
from tests.support.steps import (
    Crashed,
    Fate,
    Kind,
    Steps,
    stepped_ledger,
    stepped_partner,
    stepped_queue,
)
from tests.support.wait import until

FEED = make_feed()
BY = By("ada@desk")
LEASE = timedelta(minutes=1)
FAST = Rate(count=100_000, per_seconds=1)
DEAD = Selection(states=(State.DEAD,), feeds=("orders",))
OPEN = Selection(states=(State.QUEUED, State.RETRYING), feeds=("orders",))
STATES = (State.DEAD, State.CANCELLED, State.DELIVERED, State.QUEUED, State.RETRYING)


@dataclass(slots=True)
class World:
    """A ledger, and what surrounds it."""

    ledger: Ledger
    clock: VirtualClock
    queue: MemoryQueue
    partner: ScriptedPartner

    async def log(self, *keys: str, feed: str = "orders", visible_in: timedelta = LEASE) -> str:
        """Log rows as one batch of queued deliveries; returns the batch's id."""
        batch = new_batch(feed, [f"{feed}:{key}" for key in keys])
        await self.ledger.batches.insert([batch], self.clock() + visible_in)
        rows = [SourceRow(key, key, f'{{"id": "{key}"}}') for key in keys]
        await self.ledger.deliveries.log([(batch, rows)], self.clock())
        return batch.id

    async def fail(
        self, *keys: str, feed: str = "orders", status: int = 400, reason: str = "400 Bad Request"
    ) -> None:
        """Log rows, and record that each was refused for good."""
        batch_id = await self.log(*keys, feed=feed)
        batch = await self.ledger.batches.claim(batch_id, feed, "w", self.clock(), LEASE)
        assert batch
        verdict = Verdict(Outcome.DEAD, reason)
        loaded = await self.ledger.deliveries.load(batch)
        results = [
            Result(delivery, Answer(self.clock(), 1, status), verdict) for delivery in loaded
        ]
        await self.ledger.attempts.record(batch, results)
        await self.ledger.deliveries.fail(batch, results, self.clock())
        await self.ledger.batches.settle(batch)

    async def deliver(self, batch_id: str, steps: Steps | None = None) -> object:
        """One worker takes the batch."""
        steps = steps or Steps(Fate())
        terms = DeliverySettings("w", LEASE, group_size=1, group_wait=timedelta(hours=1))
        delivering = Delivering(
            stepped_ledger(self.ledger, steps),
            stepped_partner(self.partner, steps),
            terms,
            now=self.clock,
        )
        return await delivering.deliver(FEED, batch_id)

    async def run_until_quiet(self) -> None:
        """Sweep and deliver until nothing is owed."""
        sweeping = Sweeping(
            self.ledger, self.queue, {"orders": FEED}, lease=LEASE, limit=100, now=self.clock
        )
        for _ in range(20):
            self.clock.advance(2 * LEASE)
            await sweeping.sweep()
            await sweeping.adopt_orphans()
            while self.queue.messages:
                await self.deliver(self.queue.messages.pop(0)[1])

    def replaying(self, steps: Steps | None = None, **changes: Any) -> Replaying:
        steps = steps or Steps(Fate())
        ledger, queue = stepped_ledger(self.ledger, steps), stepped_queue(self.queue, steps)
        return Replaying(
            ledger, queue, {"orders": FEED}, message_wait=LEASE, now=self.clock, **changes
        )

    async def replay(self, selection: Selection = DEAD, rate: Rate = FAST) -> Account:
        return await self.replaying().replay(selection, rate, BY)

    async def cancel(self, selection: Selection = OPEN) -> Account:
        return await Cancelling(self.ledger, now=self.clock).cancel(selection, BY)

    async def get(self, key: str, feed: str = "orders") -> Document:
        found = await self.ledger.deliveries.get(f"{feed}:{key}")
        assert found
        return found

    async def states(self, keys: Sequence[str]) -> list[str]:
        return [(await self.get(key))["state"] for key in keys]

    async def change(self, key: str, **fields: object) -> None:
        """Write fields of a delivery as they are."""
        await self.ledger._database["deliveries"].update_one(
            {"_id": f"orders:{key}"}, {"$set": fields}
        )


@pytest.fixture
async def world(mongo_database_url: str) -> AsyncIterator[World]:
    ledger = Ledger.at(mongo_database_url, timedelta(seconds=5))
    clock = VirtualClock()
    yield World(ledger, clock, MemoryQueue(), ScriptedPartner(clock))
    await ledger.close()


# --- replay


async def test_a_dead_letter_that_is_replayed_arrives_and_says_who_replayed_it(
    world: World,
) -> None:
    await world.fail("1", "2", "3")
    world.clock.advance(timedelta(hours=1))
    account = await world.replay()
    assert (account.selected, account.moved, dict(account.skipped)) == (3, 3, {})
    assert [feed for feed, _ in world.queue.messages] == ["orders", "orders"], (
        "batches of the feed's own size"
    )
    await world.run_until_quiet()
    found = await world.get("1")
    assert found["state"] == State.DELIVERED
    assert found["replay_count"] == 1
    assert [(entry["by"], entry["was"]) for entry in found["replays"]] == [("ada@desk", "dead")]
    assert [a["outcome"] for a in await world.ledger.attempts.of_delivery("orders:1")] == [
        "dead",
        "delivered",
    ]


async def test_attempts_and_age_start_anew(world: World) -> None:
    await world.fail("1")
    await world.change("1", attempts=FEED.retry.max_attempts)
    world.clock.advance(FEED.retry.max_age * 2)
    await world.replay()
    world.partner.moods = [Mood.FAILS]
    await world.deliver(world.queue.messages.pop(0)[1])
    found = await world.get("1")
    assert (found["state"], found["attempts"]) == (State.RETRYING, 1)
    world.clock.advance(FEED.retry.max_age)
    await world.run_until_quiet()
    assert (await world.get("1"))["state"] == State.DEAD, "the age counts from the replay"


async def test_running_it_twice_moves_each_once(world: World) -> None:
    await world.fail("1", "2", "3")
    await world.replay()
    again = await world.replay()
    assert (again.selected, again.moved) == (0, 0)
    assert [(await world.get(key))["replay_count"] for key in "123"] == [1, 1, 1]


async def test_two_at_once_move_each_once(world: World) -> None:
    await world.fail(*map(str, range(40)))
    slow = Rate(count=20, per_seconds=1)
    both = await asyncio.gather(
        *(world.replaying(sleep=_at_once).replay(DEAD, slow, BY) for _ in range(2))
    )
    assert sum(account.moved for account in both) == 40
    assert {(await world.get(str(key)))["replay_count"] for key in range(40)} == {1}


@pytest.mark.parametrize("step", range(1, 16))
async def test_wherever_it_dies_the_same_command_goes_on_and_each_arrives(
    world: World, step: int
) -> None:
    await world.fail("1", "2", "3")
    dying = world.replaying(Steps(Fate(Kind.CRASH, step, after=True)), sleep=_at_once)
    try:
        await dying.replay(DEAD, Rate(count=8, per_seconds=1), BY)
    except Crashed:
        await world.replay()
    assert [(await world.get(key))["replay_count"] for key in "123"] == [1, 1, 1]
    world.queue.messages.clear()
    await world.run_until_quiet()
    assert await world.states("123") == ["delivered"] * 3
    assert not await world.ledger.batches.due(world.clock() + LEASE * 9, 9)


async def test_without_a_broker_the_sweep_sends_them(world: World) -> None:
    await world.fail("1")
    world.queue.takes = 0
    assert (await world.replay()).moved == 1
    world.queue.takes = None
    await world.run_until_quiet()
    assert await world.states("1") == ["delivered"]


async def test_what_dies_again_meanwhile_is_not_replayed_twice_by_one_run(world: World) -> None:
    await world.fail("1", "2")
    world.partner.moods = [Mood.REFUSES]

    async def deliver_meanwhile(_: float) -> None:
        world.clock.advance(timedelta(seconds=1))
        while world.queue.messages:
            await world.deliver(world.queue.messages.pop(0)[1])

    account = await world.replaying(sleep=deliver_meanwhile).replay(
        DEAD, Rate(count=1, per_seconds=1), BY
    )
    assert account.moved == 2
    assert [
        (found["state"], found["replay_count"])
        for found in [await world.get("1"), await world.get("2")]
    ] == [
        ("dead", 1),
        ("dead", 1),
    ]


async def test_what_cannot_be_sent_is_counted_and_stays(world: World) -> None:
    await world.fail("1", "2", "3")
    await world.fail("1", feed="gone")
    await world.change("1", payload=None)
    await world.ledger.deliveries.log_unreadable(
        "orders", [SourceRow("9", 9, "", error="no JSON")], world.clock()
    )
    account = await world.replay(Selection(states=(State.DEAD,)))
    assert (account.selected, account.moved) == (5, 2)
    assert account.skipped == {"no payload": 2, "feed not configured": 1}
    assert await world.states("1239") == ["dead", "queued", "queued", "dead"]


async def test_a_paused_feed_is_left_alone(world: World) -> None:
    await world.fail("1")
    await world.ledger.pauses.pause("orders", "by an operator")
    account = await world.replay()
    assert (account.moved, dict(account.skipped)) == (0, {"feed paused": 1})


async def test_ids_in_other_states_are_told_apart(world: World) -> None:
    await world.fail("1")
    await world.log("2")
    account = await world.replay(Selection((State.DEAD,), ids=("orders:1", "orders:2", "orders:3")))
    assert (account.selected, account.moved) == (3, 1)
    assert account.skipped == {"queued": 1, "not in the ledger": 1}


async def test_delivered_ones_are_sent_again_under_the_same_key_and_it_stays_on_record(
    world: World,
) -> None:
    await world.deliver(await world.log("1"))
    account = await world.replay(Selection((State.DELIVERED,), feeds=("orders",)))
    assert account.moved == 1
    await world.run_until_quiet()
    found = await world.get("1")
    assert (found["state"], found["replays"][0]["was"]) == ("delivered", "delivered")
    assert world.partner.requests == 2


async def test_the_record_of_replays_is_bounded_and_the_count_goes_on(world: World) -> None:
    await world.fail("1")
    for _ in range(REPLAYS_KEPT + 3):
        await world.replay()
        await world.change("1", state="dead", finished_at=world.clock())
        world.clock.advance(timedelta(seconds=1))
    found = await world.get("1")
    assert (found["replay_count"], len(found["replays"])) == (REPLAYS_KEPT + 3, REPLAYS_KEPT)


async def test_the_rate_is_a_cap(world: World) -> None:
    await world.fail(*map(str, range(50)))
    started, told = time.monotonic(), [(0.0, 0)]
    await world.replaying().replay(
        DEAD,
        Rate(count=100, per_seconds=1),
        BY,
        lambda moved, _: told.append((time.monotonic() - started, moved)),
    )
    assert told[-1][1] == 50
    for (_, before), (at, moved) in pairwise(told):
        assert moved - before <= 25, "in chunks of a quarter of a second"
        assert before <= 100 * at


async def test_no_more_than_two_seconds_of_it_wait_for_a_worker(world: World) -> None:
    await world.fail(*map(str, range(60)))
    waited_at: list[int] = []

    def tell(moved: int, waits: str) -> None:
        if waits:
            assert "still to be sent" in waits
            waited_at.append(moved)

    async def sleep(_: float) -> None:
        while waited_at and world.queue.messages:
            await world.deliver(world.queue.messages.pop(0)[1])

    account = await world.replaying(sleep=sleep).replay(
        DEAD, Rate(count=10, per_seconds=1), BY, tell
    )
    assert account.moved == 60
    assert waited_at[0] == pytest.approx(20, abs=3)


async def test_it_leaves_half_of_the_backlog_to_live_rows(world: World) -> None:
    await world.fail("1")
    live = await world.log("2", "3")
    feed = make_feed(max_backlog=4)
    told: list[str] = []

    async def sleep(_: float) -> None:
        await world.deliver(live)

    replaying = Replaying(
        world.ledger,
        world.queue,
        {"orders": feed},
        message_wait=LEASE,
        now=world.clock,
        sleep=sleep,
    )
    account = await replaying.replay(DEAD, FAST, BY, lambda _, waits: told.append(waits))
    assert account.moved == 1
    assert told == ["feed orders has 2 deliveries open", ""]


# --- selecting


@pytest.mark.parametrize(
    ("narrowing", "expected"),
    [
        ({"ids": ("orders:1", "other:1")}, {"orders:1", "other:1"}),
        ({"feeds": ("other",)}, {"other:1"}),
        ({"reason": "(bad"}, {"orders:1", "other:1"}),
        ({"status": 422}, {"orders:2"}),
        ({"since": timedelta(hours=1)}, {"orders:2", "other:1"}),
        ({"until": timedelta(hours=1)}, {"orders:1"}),
        ({"feeds": ("orders",), "since": timedelta(hours=1), "status": 422}, {"orders:2"}),
        ({"feeds": ("orders", "other")}, {"orders:1", "orders:2", "other:1"}),
    ],
)
async def test_each_way_to_select(
    world: World, narrowing: dict[str, Any], expected: set[str]
) -> None:
    start = world.clock()
    await world.fail("1", reason="400 (BAD request)")
    world.clock.advance(timedelta(hours=1))
    await world.fail("2", status=422, reason="422")
    await world.fail("1", feed="other", reason="400 (Bad Request)")
    narrowing = {
        name: start + value if isinstance(value, timedelta) else value
        for name, value in narrowing.items()
    }
    selection = Selection(states=(State.DEAD,), **narrowing)
    counted = await world.ledger.selections.counts(selection)
    assert sum(one.count for one in counted) == len(expected)
    assert {
        found["_id"] for found in await world.ledger.selections.sample(selection, 10)
    } == expected
    picked = await world.ledger.selections.to_replay(selection, State.DEAD, world.clock(), None, 10)
    assert {one.id for one in picked} == expected


@pytest.mark.parametrize("state", STATES)
async def test_chunks_go_through_all_of_a_state_once(world: World, state: State) -> None:
    keys = [str(key) for key in range(7)]
    await world.log(*keys)
    for key in keys:
        moment: datetime = world.clock()
        await world.change(key, state=state.value, finished_at=moment, next_attempt_at=moment)
    selection = Selection((state,), feeds=("orders",))
    if state in (State.QUEUED, State.RETRYING):
        assert (await world.cancel(selection)).moved == 7
    else:
        account = await world.replaying(sleep=_at_once).replay(
            selection, Rate(count=8, per_seconds=1), BY
        )
        assert account.moved == 7
        assert {(await world.get(key))["replay_count"] for key in keys} == {1}


# --- cancel


async def test_what_is_cancelled_is_not_sent(world: World) -> None:
    batch_id = await world.log("1", "2")
    world.partner.moods = [Mood.FAILS]
    await world.deliver(await world.log("3"))
    account = await world.cancel()
    assert (account.selected, account.moved) == (3, 3)
    found = await world.get("1")
    assert (found["state"], found["cancelled"]["by"]) == ("cancelled", "ada@desk")
    assert found["reason"] == "cancelled by ada@desk"
    await world.deliver(batch_id)
    await world.run_until_quiet()
    assert world.partner.requests == 1
    assert await world.states("123") == ["cancelled"] * 3
    assert not await world.ledger.batches.due(world.clock() + LEASE * 9, 9)
    assert (await world.cancel()).moved == 0


async def test_rows_logged_while_it_runs_are_left_alone(world: World) -> None:
    await world.log("1")
    looked = Cancelling(world.ledger, now=world.clock)
    world.clock.advance(-timedelta(seconds=1))
    account = await looked.cancel(OPEN, BY)
    assert (account.moved, dict(account.skipped)) == (0, {"changed meanwhile": 1})


async def test_what_is_on_its_way_when_cancelled_and_arrives_is_delivered(world: World) -> None:
    arrived = await _cancel_while_sending(world, Mood.ACCEPTS)
    assert (arrived["state"], arrived["cancelled"]["by"]) == ("delivered", "ada@desk")


async def test_what_is_on_its_way_when_cancelled_and_fails_stays_cancelled(world: World) -> None:
    failed = await _cancel_while_sending(world, Mood.FAILS)
    assert failed["state"] == "cancelled"
    assert [a["status"] for a in await world.ledger.attempts.of_delivery("orders:1")] == [500]
    await world.run_until_quiet()
    assert world.partner.requests == 1


@pytest.mark.parametrize(
    ("step", "outcome", "state"),
    [("send", "unknown", "cancelled"), ("record", "delivered", "delivered")],
)
async def test_an_attempt_under_way_when_cancelled_is_on_record_though_the_worker_dies(
    world: World, step: str, outcome: str, state: str
) -> None:
    batch_id = await world.log("1", "2")
    steps = Steps(Fate())
    steps.seen = lambda name, _args, _result: steps.thaw(dead=True) if name == step else None
    with pytest.raises((Crashed, BaseExceptionGroup)):
        await world.deliver(batch_id, steps)
    await world.cancel()
    account = await world.replay(Selection((State.CANCELLED,), feeds=("orders",)))
    assert account.skipped == {"still being sent": 2}, "or its attempt would never be on record"
    await world.run_until_quiet()
    sent = next(iter(world.partner.payloads))
    assert (await world.ledger.deliveries.get(sent) or {})["state"] == state
    assert [a["outcome"] for a in await world.ledger.attempts.of_delivery(sent)] == [outcome]
    assert (await world.replay(Selection((State.CANCELLED,), feeds=("orders",)))).skipped == {}


async def test_a_cancel_that_was_a_mistake_is_undone_at_once(world: World) -> None:
    await world.log("1")
    await world.cancel()
    assert (await world.replay(Selection((State.CANCELLED,), ids=("orders:1",)))).moved == 1
    await world.run_until_quiet()
    assert await world.states("1") == ["delivered"]
    assert [a["outcome"] for a in await world.ledger.attempts.of_delivery("orders:1")] == [
        "delivered"
    ]


async def _cancel_while_sending(world: World, mood: Mood) -> Document:
    batch_id = await world.log("1")
    world.partner.moods = [mood]
    answer = world.partner.held["orders:1"] = asyncio.Event()
    sending = asyncio.create_task(world.deliver(batch_id))
    await until(lambda: world.partner.requests, message="the request to be sent")
    assert (await world.cancel()).moved == 1
    answer.set()
    await sending
    return await world.get("1")


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)
