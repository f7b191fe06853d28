"""One feed's trouble is that feed's: what a worker takes up of each, and what it leaves for whoever
has room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from app.core.batches import NewBatch
from app.core.errors import LedgerUnavailable
from app.core.under_way import UnderWay
from app.delivery.deliver import Delivering
from app.delivery.dispatch import LEFT_AT_ONCE, Dispatch
from app.delivery.sweep import Sweeping
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.monitoring.heartbeat import Activity
from app.partner.throttle.throttles import Throttles
from tests.support.doubles import MemoryQueue, Mood, ScriptedPartner, VirtualClock
from tests.support.feeds import make_feed
from tests.support.ledger import source_rows
from tests.support.relay import LEASE, replaced
from tests.support.wait import until

SLOW = make_feed(name="slow", batch_size=2, concurrency=3)
FAST = make_feed(name="fast", batch_size=2, concurrency=3)


@dataclass
class Worker:
    """One worker process's part that takes batches up."""

    dispatch: Dispatch
    delivering: Delivering
    under_way: UnderWay
    progress: Activity
    feeds: dict[str, Feed]
    """Those that it knows: as it is told of them."""

    def hint(self, feed: Feed, batches: Iterable[NewBatch]) -> None:
        self.feeds[feed.name] = feed
        for batch in batches:
            self.dispatch.hint(feed.name, batch.id, len(batch.delivery_ids))

    def held(self, feed: Feed) -> tuple[int, int]:
        """Batches under way of the feed, and rows."""
        return self.dispatch.shares.held().get(feed.name, (0, 0))


@dataclass
class World:
    """A ledger, a partner, and workers before them."""

    ledger: Ledger
    clock: VirtualClock = field(default_factory=VirtualClock)
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.partner = ScriptedPartner(self.clock)

    def worker(self, *, ledger: Ledger | None = None, most_batches: int = 100) -> Worker:
        ledger, progress, name = ledger or self.ledger, Activity(), f"w{len(self.workers) + 1}"
        terms = DeliverySettings(name, LEASE, group_size=1, group_wait=timedelta(milliseconds=5))
        throttles = Throttles(now=self.clock)
        under_way = UnderWay(progress)
        delivering = Delivering(
            ledger, self.partner, terms, now=self.clock, throttles=throttles, queue=self.queue
        )
        feeds: dict[str, Feed] = {}
        dispatch = Dispatch(
            delivering,
            ledger,
            throttles,
            under_way,
            feeds,
            most_batches=most_batches,
            lease=LEASE,
            now=self.clock,
        )
        self.workers.append(Worker(dispatch, delivering, under_way, progress, feeds))
        return self.workers[-1]

    async def log(self, feed: Feed, count: int, *, hold: bool = False) -> list[NewBatch]:
        """Rows in the ledger, in batches whose messages are on their way. `hold`: the partner keeps
        their answers.
        """
        rows = source_rows(*range(count))
        parts = [
            rows[start : start + feed.batch_size] for start in range(0, count, feed.batch_size)
        ]
        batches = [
            NewBatch(
                f"{feed.name}-{number}", feed.name, tuple(f"{feed.name}:{row.key}" for row in part)
            )
            for number, part in enumerate(parts)
        ]
        if hold:
            self.partner.held |= {
                one: asyncio.Event() for batch in batches for one in batch.delivery_ids
            }
        await self.ledger.batches.insert(batches, self.clock() + LEASE)
        await self.ledger.deliveries.log(list(zip(batches, parts, strict=True)), self.clock())
        return batches

    async def sweep(self, worker: Worker) -> None:
        """What is due gets messages, all of which reach this worker."""
        feeds = dict(worker.feeds)
        sweeping = Sweeping(self.ledger, self.queue, feeds, lease=LEASE, limit=1000, now=self.clock)
        await sweeping.requeue()
        told, self.queue.messages = self.queue.messages, []
        for name, batch_id in told:
            worker.dispatch.hint(name, batch_id, feeds[name].batch_size)

    def release(self, held: Callable[[str], bool] = lambda _: True) -> None:
        """The partner answers what it held back."""
        for one, event in self.partner.held.items():
            if held(one):
                event.set()

    async def delivered(self, feed: Feed) -> int:
        found = self.ledger._database["deliveries"]
        return await found.count_documents({"feed": feed.name, "state": "delivered"})

    async def leased(self, feed: Feed) -> int:
        return await self.ledger._database["batches"].count_documents(
            {"feed": feed.name, "lease": {"$ne": None}}
        )

    async def due(self, feed: Feed) -> list[NewBatch]:
        return [
            batch
            for batch in await self.ledger.batches.due(self.clock(), 1000)
            if batch.feed == feed.name
        ]


@asynccontextmanager
async def _world(ledger: Ledger) -> AsyncIterator[World]:
    world = World(ledger)
    try:
        yield world
    finally:
        world.release()
        for worker in world.workers:
            worker.delivering.drain(timedelta(seconds=0))
            await worker.under_way.finished()


@pytest.fixture
async def world(ledger: Ledger) -> AsyncIterator[World]:
    async with _world(ledger) as made:
        yield made


async def test_a_feed_whose_partner_answers_nothing_keeps_no_other_waiting(world: World) -> None:
    worker = world.worker()
    slow, fast = await world.log(SLOW, 40, hold=True), await world.log(FAST, 40)
    worker.hint(SLOW, slow)
    await until(
        lambda: world.partner.requests == SLOW.partner.concurrency,
        message="all that may be sent",
        timeout=60,
    )
    worker.hint(FAST, fast)
    await until(lambda: _all(world, FAST, 40), timeout=60, message="the fast feed's rows")
    assert await world.delivered(SLOW) == 0
    assert await world.leased(SLOW) <= 4, "no more is claimed than can be sent soon"
    world.release()
    await until(
        lambda: _all(world, SLOW, 40),
        timeout=60,
        message="the others, though no message came any more",
    )
    await worker.under_way.finished()
    assert world.partner.requests == 80
    assert worker.held(SLOW) == worker.held(FAST) == (0, 0)
    assert await world.ledger._database["batches"].count_documents({}) == 0


async def _all(world: World, feed: Feed, rows: int) -> bool:
    return await world.delivered(feed) == rows


async def test_what_finds_no_room_stays_in_the_ledger_for_any_worker_that_has(world: World) -> None:
    busy, idle = world.worker(), world.worker()
    batches = await world.log(SLOW, 40, hold=True)
    busy.hint(SLOW, batches)
    await until(lambda: _left(world, SLOW, 10), timeout=60, message="what found no room to be due")
    left = await world.due(SLOW)
    requests = world.partner.requests
    idle.hint(SLOW, left[:1])  # as the sweep does
    await until(
        lambda: world.partner.requests == requests + SLOW.partner.concurrency,
        message="as many requests as it may make",
        timeout=60,
    )
    world.release()
    await until(lambda: _all(world, SLOW, 40), timeout=60, message="all rows")
    assert world.partner.requests == 40


async def _left(world: World, feed: Feed, batches: int) -> bool:
    return len(await world.due(feed)) >= batches


async def test_a_row_that_is_answered_late_keeps_its_feed_from_nothing(world: World) -> None:
    """Two batches with one such row each would else be all that the feed has under way."""
    feed = make_feed(name="slow", batch_size=10, concurrency=10)
    batches = await world.log(feed, 200)
    stragglers = {batch.delivery_ids[0] for batch in batches[:3]}
    world.partner.held = {one: asyncio.Event() for one in stragglers}
    worker = world.worker()
    worker.hint(feed, batches)
    await until(lambda: _all(world, feed, 197), timeout=60, message="all but those")
    world.release()
    await until(lambda: _all(world, feed, 200), timeout=60)


async def test_batches_of_one_row_use_all_the_requests_that_a_feed_may_make(world: World) -> None:
    feed = make_feed(name="slow", batch_size=1, concurrency=20)
    worker = world.worker()
    worker.hint(feed, await world.log(feed, 60, hold=True))
    await until(lambda: world.partner.requests == 20, message="20 requests in flight", timeout=60)
    world.release()
    await until(lambda: _all(world, feed, 60), timeout=60)


async def test_what_comes_beside_a_full_worker_is_taken_as_soon_as_it_has_room(
    world: World,
) -> None:
    worker = world.worker()
    first = await world.log(SLOW, 8, hold=True)
    worker.hint(SLOW, first)
    await until(lambda: world.partner.requests == 3, timeout=60)
    world.release(lambda one: one in first[0].delivery_ids)
    await until(lambda: _all(world, SLOW, 2), message="the first batch", timeout=60)
    world.release()
    await until(lambda: _all(world, SLOW, 8), timeout=60)
    await worker.under_way.finished()
    assert worker.dispatch.shares.of("slow").more is False, "it does not go on asking"


async def test_a_process_that_retires_finishes_what_it_holds_and_takes_nothing_more(
    world: World,
) -> None:
    """As one of a pool after so many tasks: what is due in the ledger is for another."""
    worker = world.worker()
    batches = await world.log(SLOW, 40, hold=True)
    worker.hint(SLOW, batches)
    await until(lambda: world.partner.requests == 3, timeout=60)
    await until(
        lambda: worker.dispatch.shares.of("slow").more, timeout=60, message="the others to be left"
    )
    taken, _ = worker.held(SLOW)
    worker.dispatch.retire()
    world.release()
    await worker.under_way.finished()
    assert await world.delivered(SLOW) == taken * SLOW.batch_size < 40


async def test_a_ledger_that_is_away_is_not_asked_again_and_again(world: World) -> None:
    asked = 0

    async def away(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise LedgerUnavailable("away")

    worker = world.worker(
        ledger=replaced(world.ledger, "batches", claim=away, claim_next=away, show=away)
    )
    worker.hint(SLOW, await world.log(SLOW, 40))
    await worker.under_way.finished()
    assert 1 <= asked <= 20
    assert worker.held(SLOW) == (0, 0)
    well = world.worker()
    world.clock.advance(LEASE)
    well.hint(SLOW, (await world.due(SLOW))[:1])
    await until(
        lambda: _all(world, SLOW, 40), timeout=60, message="all rows, once the ledger is back"
    )


async def test_a_batch_that_fails_unforeseen_is_named_and_the_others_go_on(world: World) -> None:
    batches = await world.log(SLOW, 12)

    async def load(batch: Any, ids: Any = None) -> Any:
        if batch.id == batches[0].id:
            raise KeyError("what is in a row")
        return await world.ledger.deliveries.load(batch, ids)

    worker = world.worker(ledger=replaced(world.ledger, "deliveries", load=load))
    worker.hint(SLOW, batches)
    await until(lambda: _all(world, SLOW, 10), timeout=60, message="the other batches")
    await worker.under_way.finished()
    (trouble,) = worker.progress.troubles.current()
    assert (trouble.task, trouble.feed, trouble.subject) == ("deliver", "slow", batches[0].id)
    assert worker.progress.running == 0
    assert worker.progress.times["deliver"].failed == 1


async def test_a_feed_that_is_held_back_by_its_partner_claims_nothing(world: World) -> None:
    worker = world.worker()
    batches = await world.log(SLOW, 40)
    world.partner.moods = [Mood.THROTTLES]
    worker.hint(SLOW, batches[:1])
    await worker.under_way.finished()
    requests = world.partner.requests
    worker.hint(SLOW, batches[1:])
    await worker.under_way.finished()
    assert world.partner.requests == requests
    assert await world.leased(SLOW) == 0


async def test_a_worker_that_stops_hands_on_what_it_is_told_of(world: World) -> None:
    worker = world.worker()
    batches = await world.log(SLOW, 40, hold=True)
    worker.hint(SLOW, batches[:15])
    await until(lambda: world.partner.requests == 3, timeout=60)
    worker.delivering.drain(timedelta(seconds=0))
    worker.hint(SLOW, batches[15:])
    await worker.under_way.finished()
    assert await world.leased(SLOW) == 0
    assert {one for _, one in world.queue.messages} >= {batch.id for batch in batches[15:]}
    world.partner.held.clear()
    other = world.worker()
    other.hint(SLOW, batches)
    cut_off = await world.ledger.backlog.retrying("slow", 40)
    assert 0 < cut_off <= 3
    await until(
        lambda: _all(world, SLOW, 40 - cut_off),
        timeout=60,
        message="another worker to send the rest",
    )


async def test_hints_without_number_are_forgotten_rather_than_kept(world: World) -> None:
    worker = world.worker()
    batches = await world.log(SLOW, 6, hold=True)
    worker.hint(SLOW, batches)
    for number in range(LEFT_AT_ONCE + 1000):
        worker.dispatch.hint(SLOW.name, f"slow-{number:016x}", 2)
    assert sum(map(len, worker.dispatch._left.values())) <= LEFT_AT_ONCE
    world.release()
    await until(lambda: _all(world, SLOW, 6), timeout=60)
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            await worker.under_way.finished()
    assert not worker.dispatch._left


async def test_a_batch_just_logged_is_taken_up_where_the_feed_has_room(world: World) -> None:
    worker = world.worker()
    worker.feeds[SLOW.name] = SLOW
    batches = await world.log(SLOW, 40, hold=True)
    taken = [batch for batch in batches if worker.dispatch.take(batch)]
    assert worker.held(SLOW) == (len(taken), 2 * len(taken)), "at once, before any is claimed"
    assert 0 < len(taken) < len(batches), "as many as the feed has room for"
    world.release()
    await until(
        lambda: _all(world, SLOW, 2 * len(taken)), timeout=60, message="the rows that were taken"
    )
    assert await world.due(SLOW) == [], "the others wait for their messages"


async def test_what_is_taken_up_is_traced_as_part_of_the_poll_that_logged_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, place, seen = world.worker(), ContextVar("place", default="nowhere"), list[str]()
    deliver = worker.delivering.deliver

    async def noted(*args: Any) -> Any:
        seen.append(place.get())
        return await deliver(*args)

    monkeypatch.setattr(worker.delivering, "deliver", noted)
    worker.feeds[FAST.name] = FAST
    (batch,) = await world.log(FAST, 1)
    place.set("poll")
    assert worker.dispatch.take(batch)
    await until(lambda: _all(world, FAST, 1), timeout=60, message="the row")
    assert seen == ["poll"]


async def test_a_worker_that_ends_or_does_not_know_the_feed_takes_nothing_up(world: World) -> None:
    stranger, retired, draining = world.worker(), world.worker(), world.worker()
    retired.feeds[FAST.name] = draining.feeds[FAST.name] = FAST
    retired.dispatch.retire()
    draining.delivering.drain(timedelta(seconds=0))
    (batch,) = await world.log(FAST, 1)
    assert not any(worker.dispatch.take(batch) for worker in (stranger, retired, draining))
    assert await world.leased(FAST) == world.partner.requests == 0


async def test_what_has_been_due_the_longest_stays_first_whatever_messages_find_no_room(
    world: World,
) -> None:
    """A backlog that has waited for longer than a lease; the sweep sends messages for its oldest."""
    batches = await world.log(SLOW, 40, hold=True)
    worker = world.worker()
    worker.hint(SLOW, batches[:3])
    await until(lambda: world.partner.requests == 3, timeout=20)
    waiting = [batch.id for batch in batches[3:]]
    for number, batch_id in enumerate(waiting):
        due = world.clock() - timedelta(hours=1) + timedelta(seconds=number)
        await world.ledger.batches.show([batch_id], due)
    await world.sweep(worker)
    await until(lambda: not worker.dispatch._leaving, timeout=20)
    assert [batch.id for batch in await world.due(SLOW)] == waiting


async def test_what_a_dead_worker_held_is_taken_over_while_its_feed_has_a_backlog(
    world: World,
) -> None:
    second = timedelta(seconds=1)
    (left,) = await world.log(SLOW, 2)
    assert await world.ledger.batches.claim(left.id, SLOW.name, "dead", world.clock(), second)
    world.clock.advance(3 * second)
    backlog: list[NewBatch] = []
    for number in range(1, 31):  # as polls leave it: due from the moment at which it was logged
        rows = source_rows(2 * number, 2 * number + 1)
        batch = NewBatch(f"slow-{number}", SLOW.name, tuple(f"slow:{row.key}" for row in rows))
        due = world.clock() + number * timedelta(milliseconds=10)
        await world.ledger.batches.insert([batch], due)
        await world.ledger.deliveries.log([(batch, rows)], world.clock())
        world.partner.held |= {one: asyncio.Event() for one in batch.delivery_ids}
        backlog.append(batch)
    world.clock.advance(2 * second)
    worker = world.worker()
    worker.hint(SLOW, backlog[:2])
    await until(lambda: world.partner.requests == 3, timeout=20)
    await world.sweep(worker)
    for _ in range(3):  # as the partner answers, room comes
        sent = world.partner.requests
        world.release(lambda one: one in world.partner.payloads)
        await until(lambda: world.partner.requests >= sent + 3, timeout=20)  # noqa: B023 - asked in this turn
    assert set(left.delivery_ids) <= world.partner.payloads.keys()
