"""Deliver a batch: claim it, send what in it is still queued, and record each result as it comes.

A worker may die, or lose its ledger, between any two of these steps:

1. after the claim: the lease runs out, and the sweep sends the batch to another worker, which takes
   it over;
2. after a request, before its result is recorded: the take-over records the attempt as `unknown`,
   and sends again under the same key;
3. after the attempt is on record, before the delivery is moved: the take-over finds the success
   among the attempts, and records it without sending again;
4. after the deliveries are moved, before the batch is deleted: the take-over finds nothing queued,
   and deletes it.

What the endpoint's throttle (`app/partner/throttle/`) holds back for longer than a moment is not
waited for: a batch that nobody has claimed is parked, one that is under way is released with what
was not sent. Neither costs an attempt, and the sweep brings both back when their time has come.

Rows are loaded as the process's memory allows (`app/core/budget.py`): a batch of small rows at
once, one of large rows a portion after the other, and what a row took is given back as soon as its
request is over. A batch that waits for memory keeps its lease; one that is stopped is given back
with what was not loaded. What this process logged a moment ago and still has in memory (`kept.py`)
is not loaded, unless somebody has come in between.

`leases.py` has the batch and its lease, `sending.py` the rows, `recording.py` the results,
`work.py` what they share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from app.broker.queue import Queue
from app.core.attempts import Outcome, Result
from app.core.batches import Batch
from app.core.budget import Budget
from app.core.clock import Clock, utc_now
from app.core.errors import RowrelayError
from app.core.unforeseen import Troubles
from app.delivery.kept import KeptRows
from app.delivery.leases import Leases
from app.delivery.pauses import Pauses
from app.delivery.recording import Recording
from app.delivery.sending import SENDING, Sending
from app.delivery.sink import Sink
from app.delivery.work import NOBODY, DeliverySettings, Watcher, Work
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.partner.throttle.throttle import EndpointThrottle
from app.partner.throttle.throttles import Throttles

log = structlog.get_logger()


class Delivering:
    """Sends batches for one worker process: its collaborators, and the batches under way."""

    def __init__(
        self,
        ledger: Ledger,
        sink: Sink,
        settings: DeliverySettings,
        now: Clock = utc_now,
        *,
        throttles: Throttles | None = None,
        queue: Queue | None = None,
        troubles: Troubles | None = None,
        seen: Callable[[Result], None] | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Without `throttles` the process is alone with its endpoints; without `queue` the sweep
        brings back what is left at shutdown. `troubles`: where it is said that a local resource is
        missing. `seen`: told of each result that was recorded. `budget`: the process's.
        """
        self._batches = ledger.batches
        self._now = now
        self._throttles = throttles or Throttles(now=now)
        self.troubles = troubles or Troubles()
        self._pauses = Pauses(ledger, resumed=sink.forget_token)
        self._leases = Leases(ledger, settings, queue, now)
        budget = budget or Budget()
        self.kept = KeptRows(budget, now)
        """What it logged and may send."""
        self._sending = Sending(ledger, sink, self.troubles, budget, now)
        self._recording = Recording(ledger, settings, self._pauses, now, seen)
        self.draining = False
        """Nothing more is claimed or sent."""
        self._under_way: dict[str, Work] = {}
        """Lease token → its batch."""

    async def deliver(
        self,
        feed: Feed,
        batch_id: str | None,
        watcher: Watcher = NOBODY,
        *,
        only: str | None = None,
    ) -> dict[Outcome, int] | None:
        """Send the batch's open deliveries. `batch_id` `None`: the batch of the feed that has been
        due the longest.

        Returns how many had each outcome; `None` where it was not ours to send. With `only` the
        delivery of that id, where it is one of them, and the others are given back at once. Raises
        `LedgerUnavailable`: the batch then waits for its lease to run out.
        """
        if self.draining:
            if batch_id is not None:
                await self._leases.hand_back(feed.name, batch_id)
            return None
        if await self._pauses.has(feed):
            return None
        throttle = await self._throttles.of(feed)
        await self._recording.count_openings(throttle)
        if until := throttle.parked_until():
            if batch_id is not None:
                await self._batches.park(batch_id, feed.name, until, self._now())
                log.debug("batch_parked", batch=batch_id, feed=feed.name, until=until)
            return None
        batch = await self._claim(feed, batch_id, watcher)
        if batch is None:
            return None
        work = Work(batch, watcher, batch.lease.until, only)
        async with self._leases.renewing(work):
            owed = await self._see_through(feed, throttle, work)
        await self._leases.finish(work, owed, publish=self.draining)
        return dict(work.outcomes)

    async def leave_unconfigured(self, feed: str, batch_id: str) -> None:
        """Leave a batch of a feed that this worker does not know to the sweep of one that does.
        Costs no attempt.

        Where nobody knows it, it waits until the feed is back (see `app.ledger.unconfigured`).
        """
        if not await self._leases.leave_unconfigured(feed, batch_id):
            return
        said = "feeds.toml of this worker does not name it"
        if self.troubles.lacking(SENDING, feed, said):
            log.warning("feed_not_configured", feed=feed, batch=batch_id, found=said)

    def drain(self, grace: timedelta) -> None:
        """Claim nothing more and send nothing more. Requests in flight have `grace` to end; what
        was not sent goes back to the queue as soon as they have. Call it on the event loop.
        """
        self.draining = True
        for work in self._under_way.values():
            work.stop("shutdown")
        asyncio.get_running_loop().call_later(grace.total_seconds(), self._cut)

    def _cut(self) -> None:
        for work in self._under_way.values():
            work.cut()

    async def _claim(self, feed: Feed, batch_id: str | None, watcher: Watcher) -> Batch | None:
        claimed = await self._leases.claim(feed.name, batch_id)
        if claimed is None:
            return None
        batch, waited = claimed
        watcher.claimed(batch, waited=waited)
        if batch.previous:
            await self._leases.take_over(batch, batch.previous)
        return batch

    async def _see_through(self, feed: Feed, throttle: EndpointThrottle, work: Work) -> int:
        """Send the batch's rows while their results are written as they come. Returns how many were
        owed.
        """
        self._under_way[work.batch.lease.token] = work
        if self.draining:
            work.stopped = "shutdown"
        work.kept = self.kept.take(work.batch)
        writing = asyncio.create_task(self._recording.write_in_groups(feed, throttle, work))
        try:
            owed = await self._sending.send_all(feed, throttle, work)
        finally:
            del self._under_way[work.batch.lease.token]
            if work.kept is not None:
                work.kept.reserved.release()
            work.results.end()
            await writing
        if work.failed and not (work.tasks and isinstance(work.failed, RowrelayError)):
            raise work.failed
        return owed
