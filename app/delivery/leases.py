"""A worker's leases on batches: claimed, taken over from one that ran out, renewed, and given up at
the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta

import structlog

from app.broker.queue import Queue
from app.core.attempts import Outcome
from app.core.batches import Batch, Lease, NewBatch
from app.core.clock import Clock
from app.core.errors import BrokerUnavailable, LeaseLost
from app.core.renewal import kept_renewed
from app.delivery.work import DeliverySettings, Work
from app.ledger import Ledger

log = structlog.get_logger()

STRANGE_WAIT = timedelta(seconds=5)
"""How long a batch of a feed that this worker does not know waits until it is offered again."""


class Leases:
    """Those of one worker process."""

    def __init__(
        self, ledger: Ledger, settings: DeliverySettings, queue: Queue | None, now: Clock
    ) -> None:
        """Without `queue` the sweep brings back what is given back."""
        self._ledger = ledger
        self._settings = settings
        self._queue = queue
        self._now = now

    async def claim(self, feed: str, batch_id: str | None) -> tuple[Batch, bool] | None:
        """Claim the batch; with `None`, the one of the feed that has been due the longest. Returns
        it, and whether it had been due in the ledger by then; `None`: it is not ours.
        """
        now, batches, settings = self._now(), self._ledger.batches, self._settings
        if batch_id is None:
            batch = await batches.claim_next(feed, settings.worker, now, settings.lease)
        else:
            batch = await batches.claim(batch_id, feed, settings.worker, now, settings.lease)
        return (batch, batch.due_since is not None and batch.due_since <= now) if batch else None

    async def take_over(self, batch: Batch, previous: Lease) -> None:
        """Settle what the lease before ours left: successes on record count, everything else is
        `unknown`.

        In this order, since the former holder may be alive: each attempt is on record as what it
        came to or as unknown, whoever wrote first, before it is asked which of them succeeded.
        """
        left = await self._ledger.deliveries.unsettled(batch)
        told = await self._ledger.attempts.record_unknown(batch, left, previous)
        unknown = left.keys() - told
        delivered = await self._ledger.attempts.delivered_under(
            {known: left[known] for known in told}
        )
        await self._ledger.deliveries.succeed_before(
            batch, by_status(delivered.items()), self._now()
        )
        await self._ledger.deliveries.fence(batch, self._now())
        await self._ledger.stats.add_outcomes(
            batch.feed, Outcome.UNKNOWN, len(unknown), self._now()
        )
        log.warning(
            "batch_taken_over",
            batch=batch.id,
            feed=batch.feed,
            left_by=previous.worker,
            unknown=len(unknown),
        )

    def renewing(self, work: Work) -> AbstractAsyncContextManager[None]:
        """Renew the lease for as long as the body runs; where it is lost, nothing more of the batch
        is sent.
        """

        async def renew() -> None:
            until = self._now() + self._settings.lease
            await self._ledger.batches.renew(work.batch, until)
            work.until = until

        def lose(why: LeaseLost) -> None:
            work.stopped = str(why)

        return kept_renewed(self._settings.lease, renew, self._now, lose, batch=work.batch.id)

    async def finish(self, work: Work, owed: int, *, publish: bool) -> None:
        """Delete the batch when all that was `owed` of it is settled; else give back what was not
        sent. `publish`: to the queue too, for another worker to take at once.
        """
        if work.recorded == owed:
            await self._ledger.batches.settle(work.batch)
            return
        now = self._now()
        with suppress(LeaseLost):
            await self._ledger.batches.release(work.batch, work.back_at or now, now)
        if publish:
            await self._publish(NewBatch(work.batch.id, work.batch.feed, work.batch.delivery_ids))
        log.warning(
            "batch_released",
            batch=work.batch.id,
            unsent=owed - work.recorded,
            reason=work.stopped or str(work.failed or "lease"),
        )

    async def hand_back(self, feed: str, batch_id: str) -> None:
        """Give another worker a batch that nobody has claimed."""
        now = self._now()
        batch = await self._ledger.batches.park(batch_id, feed, now, now)
        if batch:
            await self._publish(batch)

    async def leave_unconfigured(self, feed: str, batch_id: str) -> bool:
        """Leave a batch, of a feed that this worker does not know, to one that does. Whether there
        is such a batch.
        """
        now = self._now()
        return await self._ledger.batches.park(batch_id, feed, now + STRANGE_WAIT, now) is not None

    async def _publish(self, batch: NewBatch) -> None:
        """Send the batch's message again; where that fails the sweep does."""
        if self._queue is None:
            return
        try:
            await self._queue.publish([batch])
        except BrokerUnavailable as error:
            log.warning("publish_failed", error=str(error))


def by_status(statuses: Iterable[tuple[str, int]]) -> dict[int, list[str]]:
    """Group (delivery id, HTTP status) pairs by status."""
    grouped: dict[int, list[str]] = defaultdict(list)
    for delivery_id, status in statuses:
        grouped[status].append(delivery_id)
    return grouped
