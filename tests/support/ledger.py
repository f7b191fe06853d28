"""What tests put into a ledger, and what they read back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from app.core.attempts import Answer, Outcome, Result, Verdict
from app.core.batches import Batch, Lease, NewBatch
from app.core.deliveries import Delivery
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.client import Document
from app.ledger.listing import Order
from app.ledger.selection import Selection

FEED = "orders"
NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
LEASE = timedelta(minutes=1)
LATER = NOW + 2 * LEASE


def source_rows(*ids: int) -> list[SourceRow]:
    return [SourceRow(str(i), i, f'{{"id": {i}}}') for i in ids]


def batch_of(*ids: int, feed: str = FEED) -> NewBatch:
    return new_batch(feed, [f"{feed}:{i}" for i in ids])


async def log_batch(ledger: Ledger, *ids: int, feed: str = FEED, now: datetime = NOW) -> NewBatch:
    """Log rows in one batch, due at once."""
    batch = batch_of(*ids, feed=feed)
    await ledger.batches.insert([batch], now)
    await ledger.deliveries.log([(batch, source_rows(*ids))], now)
    return batch


async def claim(ledger: Ledger, batch: NewBatch, worker: str = "w1", now: datetime = NOW) -> Batch:
    """Claim a batch that is free."""
    claimed = await ledger.batches.claim(batch.id, batch.feed, worker, now, LEASE)
    assert claimed is not None
    return claimed


async def take_over(ledger: Ledger, batch: NewBatch, worker: str = "w2") -> Batch:
    """Claim a batch whose lease has run out, and shut its former holder out."""
    claimed = await claim(ledger, batch, worker, LATER)
    await ledger.deliveries.fence(claimed, LATER)
    return claimed


async def listed(ledger: Ledger, feed: str = FEED, *states: State) -> list[Document]:
    """The feed's first thousand deliveries by id, without their payloads."""
    return await ledger.listing.page(
        Selection(states or tuple(State), feeds=(feed,)), Order.ID, None, 1000
    )


async def loaded(ledger: Ledger, batch: Batch) -> dict[str, Delivery]:
    return {delivery.key: delivery for delivery in await ledger.deliveries.load(batch)}


def accepted(delivery: Delivery, status: int = 200) -> Result:
    return Result(delivery, Answer(NOW, 12, status), Verdict(Outcome.DELIVERED, str(status)))


def failed(delivery: Delivery, retry_at: datetime | None = LATER) -> Result:
    """A failure to be tried again at `retry_at`; with `None` a final one."""
    outcome = Outcome.RETRY if retry_at else Outcome.DEAD
    return Result(
        delivery, Answer(NOW, 30, 500), Verdict(outcome, "500 Internal Server Error", retry_at)
    )


async def succeed(
    ledger: Ledger, *ids: int, status: int = 200, now: datetime = NOW, holder: Batch | None = None
) -> int:
    """Record successes as `holder`; by default as whoever first claimed the batch that they are in."""
    holder = holder or _first_holder((await delivery(ledger, ids[0])).get("batch", "none"))
    return await ledger.deliveries.succeed(holder, {status: [f"{FEED}:{i}" for i in ids]}, now)


def _first_holder(batch_id: str) -> Batch:
    lease = Lease("first", NOW + LEASE, "w1")
    return Batch(batch_id, FEED, (), lease, first=lease, tries=1)


async def delivery(ledger: Ledger, row_id: int) -> Document:
    """The delivery of a row, as stored."""
    found = await ledger.deliveries.get(f"{FEED}:{row_id}")
    assert found is not None
    return found


async def states(ledger: Ledger, ids: Sequence[int]) -> list[str]:
    return [(await delivery(ledger, i))["state"] for i in ids]
