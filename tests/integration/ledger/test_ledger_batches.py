"""Batches: one holder at a time, who alone may prolong, give back or settle."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.core.batches import Batch, NewBatch
from app.core.errors import LeaseLost
from app.ledger import Ledger
from tests.support.ledger import FEED, LATER, LEASE, NOW, batch_of, claim, log_batch, succeed

SECOND = timedelta(seconds=1)


async def test_a_claim_is_exclusive_while_its_lease_runs(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    held = await claim(ledger, batch)
    assert (held.lease.until, held.lease.worker, held.tries, held.previous) == (
        NOW + LEASE,
        "w1",
        1,
        None,
    )
    assert await ledger.batches.claim(batch.id, FEED, "w2", NOW + LEASE - SECOND, LEASE) is None


async def test_of_many_claims_at_once_one_wins(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    claims = [ledger.batches.claim(batch.id, FEED, f"w{i}", NOW, LEASE) for i in range(8)]
    assert len([held for held in await asyncio.gather(*claims) if held]) == 1
    claims = [ledger.batches.claim(batch.id, FEED, f"w{i}", LATER, LEASE) for i in range(8)]
    assert len([held for held in await asyncio.gather(*claims) if held]) == 1


async def test_a_batch_whose_lease_ran_out_names_it(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    former = await claim(ledger, batch)
    holder = await claim(ledger, batch, "w2", NOW + LEASE)
    assert holder.previous == former.lease
    assert holder.lease.token != former.lease.token
    assert holder.tries == 2


async def test_a_batch_that_is_settled_or_never_was_cannot_be_claimed(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    await ledger.batches.settle(await claim(ledger, batch))
    assert await ledger.batches.claim(batch.id, FEED, "w2", LATER, LEASE) is None
    assert await ledger.batches.claim("never", FEED, "w2", LATER, LEASE) is None


async def test_a_batch_given_back_is_free_and_has_no_former_lease(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    await ledger.batches.release(await claim(ledger, batch), NOW + SECOND, NOW)
    assert await ledger.batches.due(NOW, 10) == []
    due = await ledger.batches.due(NOW + SECOND, 10)
    assert [(found.id, found.feed, found.rows) for found in due] == [(batch.id, batch.feed, 1)]
    assert (await claim(ledger, batch, "w2")).previous is None


async def test_a_renewed_lease_keeps_others_out(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    held = await claim(ledger, batch)
    await ledger.batches.renew(held, NOW + 2 * LEASE)
    assert await ledger.batches.claim(batch.id, FEED, "w2", NOW + LEASE, LEASE) is None
    assert await ledger.batches.due(NOW + LEASE, 10) == []
    assert await ledger.batches.due(NOW + 2 * LEASE, 10) == [as_due(batch)]


def as_due(batch: NewBatch) -> NewBatch:
    """The batch as `due` tells of it: how many deliveries it holds, without their ids."""
    return NewBatch(batch.id, batch.feed, (), count=len(batch.delivery_ids))


async def _taken_over(ledger: Ledger) -> tuple[Batch, Batch]:
    """The former holder's view of a batch, and the holder's."""
    batch = await log_batch(ledger, 1)
    return await claim(ledger, batch), await claim(ledger, batch, "w2", LATER)


async def test_only_the_holder_renews_or_gives_back(ledger: Ledger) -> None:
    former, holder = await _taken_over(ledger)
    with pytest.raises(LeaseLost, match=former.id):
        await ledger.batches.renew(former, LATER + LEASE)
    with pytest.raises(LeaseLost):
        await ledger.batches.release(former, LATER, LATER)
    await ledger.batches.renew(holder, LATER + LEASE)
    await ledger.batches.release(holder, LATER, LATER)


async def test_only_the_holder_settles(ledger: Ledger) -> None:
    former, holder = await _taken_over(ledger)
    await ledger.batches.settle(former)
    assert await ledger.batches.existing([holder.id]) == {holder.id}
    await ledger.batches.settle(holder)
    assert await ledger.batches.existing([holder.id]) == set()


async def test_due_batches_come_oldest_first_and_no_feed_hides_another(ledger: Ledger) -> None:
    batches = [batch_of(i) for i in range(4)]
    for place, batch in enumerate(reversed(batches)):
        await ledger.batches.insert([batch], NOW - (9 + place) * SECOND)
    other = batch_of(9, feed="other")
    await ledger.batches.insert([other], NOW - SECOND)
    assert await ledger.batches.due(NOW, 3) == [as_due(batch) for batch in (*batches[:3], other)]
    assert await ledger.batches.due(NOW, 9, paused=["other"]) == [
        as_due(batch) for batch in batches
    ]
    assert await ledger.batches.due(NOW - 9 * SECOND, 9, paused=["other"]) == [
        as_due(batch) for batch in batches
    ]
    assert await ledger.batches.due(NOW, 9, paused=[FEED]) == [as_due(other)]


async def test_the_next_batch_is_the_one_of_the_feed_that_has_been_due_the_longest(
    ledger: Ledger,
) -> None:
    younger, older, hidden = batch_of(1), batch_of(2), batch_of(3)
    await ledger.batches.insert([younger, older, hidden], NOW + SECOND)
    await ledger.batches.insert([batch_of(9, feed="other")], NOW - 9 * SECOND)
    await ledger.batches.show([younger.id], NOW)
    await ledger.batches.show([older.id], NOW - SECOND)
    found = [await ledger.batches.claim_next(FEED, f"w{i}", NOW, LEASE) for i in range(3)]
    assert [held.id if held else None for held in found] == [older.id, younger.id, None]
    first = found[0]
    assert first is not None
    assert (first.lease.worker, first.lease.until, first.first, first.previous, first.tries) == (
        "w0", NOW + LEASE, first.lease, None, 1,
    )  # fmt: skip
    assert first.due_since == NOW - SECOND
    assert await ledger.batches.claim(older.id, FEED, "w9", NOW, LEASE) is None
    assert (await claim(ledger, hidden)).due_since is not None


async def test_of_many_that_take_whatever_is_due_each_gets_another(ledger: Ledger) -> None:
    batches = [batch_of(i) for i in range(1, 6)]
    await ledger.batches.insert(batches, NOW)
    claims = [ledger.batches.claim_next(FEED, f"w{i}", NOW, LEASE) for i in range(9)]
    held = [each.id for each in await asyncio.gather(*claims) if each]
    assert sorted(held) == sorted(batch.id for batch in batches)


async def test_a_batch_whose_lease_ran_out_is_taken_over_by_its_id_alone(ledger: Ledger) -> None:
    """Who takes it over has to know what the lease before left unsettled."""
    batch = await log_batch(ledger, 1)
    await claim(ledger, batch)
    assert await ledger.batches.claim_next(FEED, "w2", LATER, LEASE) is None
    assert await ledger.batches.due(LATER, 9) == [as_due(batch)]


async def test_showing_leaves_a_batch_claimed_meanwhile_alone(ledger: Ledger) -> None:
    claimed, waiting = await log_batch(ledger, 1), await log_batch(ledger, 2)
    await ledger.batches.renew(await claim(ledger, claimed), NOW + 3 * LEASE)
    await ledger.batches.show([claimed.id, waiting.id], NOW)
    assert await ledger.batches.due(NOW, 10) == [as_due(waiting)]
    assert await ledger.batches.due(NOW + 3 * LEASE, 10) == [as_due(waiting), as_due(claimed)]


async def test_what_is_owed_is_never_less_than_what_is_queued(ledger: Ledger) -> None:
    await log_batch(ledger, 1, 2, 3)
    await log_batch(ledger, 4)
    await log_batch(ledger, 5, feed="other")
    await succeed(ledger, 1)
    assert await ledger.batches.owed(FEED) == 4
    assert await ledger.batches.owed("unknown") == 0
