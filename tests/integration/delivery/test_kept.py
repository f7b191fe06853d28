"""A worker that has logged rows sends them as it has them in memory, and reads nothing back, unless
somebody has come in between.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.core.batches import NewBatch
from app.core.budget import Budget
from app.core.deliveries import Delivery
from app.core.rows import LoggedRows
from app.core.states import State
from app.delivery.deliver import Delivering
from app.delivery.kept import KEPT_FOR
from app.delivery.work import DeliverySettings
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.cancel import Cancelling
from tests.support.relay import LEASE, MESSAGE_WAIT, Relay, replaced


@pytest.fixture
def relay(ledger: Ledger) -> Relay:
    return Relay(ledger)


class Worker:
    """Keeps what it polls, as far as it has memory for it."""

    def __init__(self, relay: Relay, budget: Budget | None = None) -> None:
        self.relay, self.budget = relay, budget or Budget()
        self.offered: list[LoggedRows | None] = []
        self.loads = 0
        terms = DeliverySettings("w1", LEASE, group_size=50, group_wait=timedelta(milliseconds=20))
        ledger = replaced(relay.ledger, "deliveries", load=self._load)
        self.delivering = Delivering(
            ledger, relay.partner, terms, now=relay.clock, budget=self.budget
        )

    async def _load(self, *args: Any) -> list[Delivery]:
        self.loads += 1
        return await self.relay.ledger.deliveries.load(*args)

    async def polled(self, rows: int) -> list[NewBatch]:
        """The batches of so many new rows."""
        polling = Polling(
            self.relay.source,
            self.relay.ledger,
            self.relay.queue,
            message_wait=MESSAGE_WAIT,
            now=self.relay.clock,
            take=self._take,
        )
        self.relay.source.add(rows)
        self.batches: list[NewBatch] = []
        await polling.poll(self.relay.feed)
        return self.batches

    def _take(self, batch: NewBatch, logged: LoggedRows | None) -> bool:
        self.batches.append(batch)
        self.offered.append(logged)
        if logged is not None:
            self.delivering.kept.keep(batch, logged)
        return True

    async def deliver(self, batch: NewBatch) -> object:
        return await self.delivering.deliver(self.relay.feed, batch.id)

    @property
    def has_sent_all(self) -> bool:
        """And gave back all memory."""
        return self.relay.partner.requests == 2 and self.budget.held == 0


async def test_what_is_kept_is_what_the_ledger_has(relay: Relay) -> None:
    """To the millisecond: the same request is made of either."""
    relay.clock.advance(timedelta(microseconds=1234))
    worker = Worker(relay)
    (new,) = await worker.polled(2)
    batch = await relay.ledger.batches.claim(new.id, relay.feed.name, "w1", relay.clock(), LEASE)
    assert batch is not None
    loaded, kept = await relay.ledger.deliveries.load(batch), worker.delivering.kept.take(batch)
    assert kept is not None
    assert sorted(loaded, key=_by_id) == sorted(kept.deliveries(), key=_by_id)


@pytest.mark.parametrize("claimed_as", ["its message says", "due"])
async def test_rows_that_are_kept_are_sent_without_being_read_back(
    relay: Relay, claimed_as: str
) -> None:
    worker = Worker(relay)
    (batch,) = await worker.polled(2)
    assert worker.budget.held
    await relay.ledger.batches.show([batch.id], relay.clock())
    wanted = batch.id if claimed_as == "its message says" else None
    await worker.delivering.deliver(relay.feed, wanted)
    assert worker.loads == 0
    assert worker.has_sent_all
    assert set((await relay.states()).values()) == {State.DELIVERED.value}
    assert await relay.batches() == set(), "settled"


async def test_one_that_is_cancelled_before_its_batch_is_claimed_is_not_sent(relay: Relay) -> None:
    worker = Worker(relay)
    (batch,) = await worker.polled(2)
    off, sent = batch.delivery_ids
    selection = Selection((State.QUEUED,), ids=(off,))
    await Cancelling(relay.ledger, relay.clock).cancel(selection, By("operator"))
    await worker.deliver(batch)
    assert await relay.states() == {off: State.CANCELLED.value, sent: State.DELIVERED.value}
    assert relay.partner.payloads.keys() == {sent}
    assert worker.budget.held == 0


async def test_what_another_worker_held_is_loaded(relay: Relay) -> None:
    worker, now = Worker(relay), relay.clock()
    (batch,) = await worker.polled(2)
    other = await relay.ledger.batches.claim(batch.id, relay.feed.name, "w2", now, LEASE)
    assert other is not None
    assert await worker.deliver(batch) is None
    await relay.ledger.batches.release(other, now, now)
    await worker.deliver(batch)
    assert worker.loads == 1
    assert worker.has_sent_all


async def test_what_nobody_here_claims_is_kept_for_a_while_only(relay: Relay) -> None:
    worker = Worker(relay)
    (first,) = await worker.polled(2)
    held = worker.budget.held
    relay.clock.advance(KEPT_FOR + timedelta(seconds=1))
    (second,) = await worker.polled(2)
    assert worker.budget.held == held, "the first is no longer kept"
    await worker.deliver(first)
    assert worker.loads == 1
    await worker.deliver(second)
    assert worker.loads == 1


async def test_without_memory_nothing_is_kept_and_all_is_loaded(relay: Relay) -> None:
    worker = Worker(relay, Budget(limit=30_000))
    (batch,) = await worker.polled(2)
    assert worker.budget.held == 0
    await worker.deliver(batch)
    assert worker.loads
    assert worker.has_sent_all


async def test_a_batch_with_a_row_that_was_logged_before_is_not_kept(relay: Relay) -> None:
    worker = Worker(relay)
    await worker.polled(1)
    await relay.ledger._database["cursors"].delete_many({})
    await worker.polled(1)
    assert worker.offered[-1] is None, "the ledger has what was logged first"


def _by_id(delivery: Delivery) -> str:
    return delivery.id
