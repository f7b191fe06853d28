"""A worker that has logged rows sends them as it has them in memory, and reads nothing back, unless
somebody has come in between.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.core.batches import Batch, NewBatch
from app.core.budget import Budget
from app.core.deliveries import Delivery
from app.core.rows import LoggedRows
from app.core.states import State
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings, InHand
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.cancel import Cancelling
from tests.support.relay import LEASE, MESSAGE_WAIT, Relay, replaced

Taken = tuple[NewBatch, LoggedRows | None]


@pytest.fixture
def relay(ledger: Ledger) -> Relay:
    return Relay(ledger)


class Worker:
    """Takes up all that it polls."""

    def __init__(self, relay: Relay, budget: Budget | None = None) -> None:
        self.relay, self.budget = relay, budget or Budget()
        self.loads = 0
        terms = DeliverySettings("w1", LEASE, group_size=50, group_wait=timedelta(milliseconds=20))
        ledger = replaced(relay.ledger, "deliveries", load=self._load)
        self.delivering = Delivering(
            ledger, relay.partner, terms, now=relay.clock, budget=self.budget
        )

    async def _load(self, *args: Any) -> list[Delivery]:
        self.loads += 1
        return await self.relay.ledger.deliveries.load(*args)

    async def polled(self, rows: int) -> list[Taken]:
        """What it took up of so many new rows."""
        taken: list[Taken] = []

        def take(batch: NewBatch, logged: LoggedRows | None) -> bool:
            taken.append((batch, logged))
            return True

        polling = Polling(
            self.relay.source,
            self.relay.ledger,
            self.relay.queue,
            message_wait=MESSAGE_WAIT,
            now=self.relay.clock,
            take=take,
        )
        self.relay.source.add(rows)
        await polling.poll(self.relay.feed)
        return taken

    async def in_hand(self, rows: int) -> InHand:
        """One batch of so many new rows."""
        ((batch, logged),) = await self.polled(rows)
        assert logged is not None
        kept = self.delivering.keep(batch, logged)
        assert kept is not None
        return kept

    async def deliver(self, kept: InHand) -> object:
        return await self.delivering.deliver(self.relay.feed, kept.batch.id, in_hand=kept)


async def test_what_is_in_hand_is_what_the_ledger_has(relay: Relay) -> None:
    """To the millisecond: the same request is made of either."""
    relay.clock.advance(timedelta(microseconds=1234))
    kept = await Worker(relay).in_hand(2)
    claimed = await relay.ledger.batches.claim(
        kept.batch.id, relay.feed.name, "w2", relay.clock(), LEASE
    )
    assert claimed is not None
    loaded = await relay.ledger.deliveries.load(claimed)
    assert sorted(loaded, key=_by_id) == sorted(kept.deliveries(), key=_by_id)


async def test_rows_in_hand_are_sent_without_being_read_back(relay: Relay) -> None:
    worker = Worker(relay)
    await worker.deliver(await worker.in_hand(2))
    assert worker.loads == 0
    assert set((await relay.states()).values()) == {State.DELIVERED.value}
    assert await relay.batches() == set(), "settled"
    assert worker.budget.held == 0


async def test_one_that_is_cancelled_before_its_batch_is_claimed_is_not_sent(relay: Relay) -> None:
    worker = Worker(relay)
    kept = await worker.in_hand(2)
    off, sent = kept.batch.delivery_ids
    selection = Selection((State.QUEUED,), ids=(off,))
    await Cancelling(relay.ledger, relay.clock).cancel(selection, By("operator"))
    await worker.deliver(kept)
    assert worker.loads == 1
    assert await relay.states() == {off: State.CANCELLED.value, sent: State.DELIVERED.value}
    assert off not in relay.partner.payloads


@pytest.mark.parametrize("left", ["leased", "given back", "settled"])
async def test_what_another_worker_had_first_is_left_to_it_or_loaded(
    relay: Relay, left: str
) -> None:
    worker = Worker(relay)
    kept = await worker.in_hand(2)
    batches, now = relay.ledger.batches, relay.clock()
    other = await batches.claim(kept.batch.id, relay.feed.name, "w2", now, LEASE)
    assert other is not None
    await _leave(relay, other, left, now)
    await worker.deliver(kept)
    assert worker.loads == (1 if left == "given back" else 0)
    assert relay.partner.requests == (2 if left == "given back" else 0)
    assert worker.budget.held == 0


async def _leave(relay: Relay, batch: Batch, left: str, now: datetime) -> None:
    if left == "given back":
        await relay.ledger.batches.release(batch, now, now)
    if left == "settled":
        await relay.ledger.batches.settle(batch)


async def test_a_paused_feed_keeps_nothing_in_hand(relay: Relay) -> None:
    worker = Worker(relay)
    kept = await worker.in_hand(2)
    await relay.ledger.pauses.pause(relay.feed.name, "by hand", sending=False)
    assert worker.budget.held
    assert await worker.deliver(kept) is None
    assert worker.budget.held == relay.partner.requests == 0


async def test_without_memory_nothing_is_kept_and_all_is_loaded(relay: Relay) -> None:
    worker = Worker(relay, Budget(limit=64 * 1024))
    ((batch, logged),) = await worker.polled(2)
    assert logged is not None
    assert worker.delivering.keep(replace(batch, content_bytes=1_000_000), logged) is None
    assert worker.budget.held == 0
    await worker.delivering.deliver(relay.feed, batch.id)
    assert worker.loads
    assert set((await relay.states()).values()) == {State.DELIVERED.value}


async def test_a_batch_with_a_row_that_was_logged_before_is_not_in_hand(relay: Relay) -> None:
    worker = Worker(relay)
    await worker.polled(1)
    await relay.ledger._database["cursors"].delete_many({})
    taken = await worker.polled(1)
    assert [logged for _, logged in taken] == [None], "the ledger has what was logged first"


def _by_id(delivery: Delivery) -> str:
    return delivery.id
