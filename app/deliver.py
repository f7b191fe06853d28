"""Deliver a batch: claim it, send what in it is still queued, and record each result as it comes.

A worker may die, or lose its ledger, between any two of these steps:

1. after the claim: the lease runs out, and the sweep sends the batch to another worker, which takes it over;
2. after a request, before its result is recorded: the take-over records the attempt as `unknown`, and sends again
   under the same key;
3. after the attempt is on record, before the delivery is moved: the take-over finds the success among the attempts,
   and records it without sending again;
4. after the deliveries are moved, before the batch is deleted: the take-over finds nothing queued, and deletes it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from app.clock import Clock, utc_now
from app.errors import LeaseLost, LedgerUnavailable
from app.feed import Feed
from app.ledger import Ledger
from app.models import Batch, Delivery, Lease, Outcome, Result
from app.partner.client import PartnerClient
from app.partner.policy import judge

log = structlog.get_logger()

RECORD_PATIENCE = timedelta(minutes=5)
"""How long a worker keeps results that the ledger does not take, before it leaves them to the next lease."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a worker holds and writes its batches."""

    worker: str
    lease: timedelta
    group_size: int
    group_wait: timedelta


@dataclass(slots=True)
class Work:
    """One claimed batch under way."""

    batch: Batch
    until: datetime
    """When the lease runs out, as last renewed."""
    stopped: str | None = None
    """Why nothing more of the batch is sent by us."""
    results: asyncio.Queue[Result | None] = field(default_factory=asyncio.Queue)
    outcomes: dict[Outcome, int] = field(default_factory=lambda: defaultdict(int))
    recorded: int = 0


class Delivering:
    """Sends batches for one worker process: its collaborators, and the feeds' limits on requests in flight."""

    def __init__(self, ledger: Ledger, partner: PartnerClient, terms: Terms, now: Clock = utc_now) -> None:
        self._ledger = ledger
        self._partner = partner
        self._terms = terms
        self._now = now
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def deliver(self, feed: Feed, batch_id: str) -> dict[Outcome, int] | None:
        """Send the batch's open deliveries. Returns how many had each outcome; `None` where it was not ours to send.

        Raises `LedgerUnavailable`: the batch then waits for its lease to run out.
        """
        if feed.name in await self._ledger.cursors.paused():
            return None
        batch = await self._ledger.batches.claim(batch_id, self._terms.worker, self._now(), self._terms.lease)
        if batch is None:
            return None
        if batch.previous:
            await self._take_over(batch, batch.previous)
        deliveries = await self._ledger.deliveries.load(batch)
        work = Work(batch, batch.lease.until)
        async with self._renewing(work):
            await self._send_all(feed, deliveries, work)
        await self._finish(work, len(deliveries))
        return dict(work.outcomes)

    async def _take_over(self, batch: Batch, previous: Lease) -> None:
        """Settle what the lease before ours left: successes on record count, everything else is `unknown`."""
        left = await self._ledger.deliveries.unsettled(batch)
        delivered = await self._ledger.attempts.delivered_under(left)
        await self._ledger.deliveries.succeed(_by_status(delivered.items()), self._now())
        unknown = {delivery_id: token for delivery_id, token in left.items() if delivery_id not in delivered}
        await self._ledger.attempts.record_unknown(batch, unknown, previous)
        await self._ledger.deliveries.fence(batch, self._now())
        await self._ledger.stats.add_outcomes(batch.feed, Outcome.UNKNOWN, len(unknown), self._now())
        log.warning("batch_taken_over", batch=batch.id, feed=batch.feed, left_by=previous.worker, unknown=len(unknown))

    # --- sending

    async def _send_all(self, feed: Feed, deliveries: Sequence[Delivery], work: Work) -> None:
        """Send all at once, under the feed's limit, while results are written as they come."""
        slots = self._slots.setdefault(feed.name, asyncio.Semaphore(feed.partner.concurrency))
        writing = asyncio.create_task(self._write_in_groups(feed, work))
        try:
            async with asyncio.TaskGroup() as sending:
                for delivery in deliveries:
                    sending.create_task(self._send(feed, delivery, work, slots))
        finally:
            work.results.put_nowait(None)
            await writing

    async def _send(self, feed: Feed, delivery: Delivery, work: Work, slots: asyncio.Semaphore) -> None:
        async with slots:
            if work.stopped or self._now() >= work.until:
                return
            answer = await self._partner.send(feed, delivery)
        verdict = judge(
            answer,
            attempt=delivery.attempts + 1,
            created_at=delivery.owed_since,
            policy=feed.retry,
            now=self._now(),
            draw=random.random,
        )
        if verdict.pause_reason:
            work.stopped = verdict.pause_reason
        work.results.put_nowait(Result(delivery, answer, verdict))

    # --- recording

    async def _write_in_groups(self, feed: Feed, work: Work) -> None:
        """Write results in groups of up to `group_size`, none kept longer than `group_wait`."""
        ended = False
        while not ended:
            group, ended = await _next_group(work.results, self._terms)
            if group:
                await self._record_patiently(work, group)
                await self._pause_if_asked(feed, group)

    async def _record_patiently(self, work: Work, group: Sequence[Result]) -> None:
        """Record a group, again and again while the ledger is away: a success not recorded is a duplicate later."""
        give_up = self._now() + RECORD_PATIENCE
        delay = 0.1
        while True:
            try:
                return await self._record(work, group)
            except LedgerUnavailable as error:
                if self._now() >= give_up:
                    work.stopped = str(error)
                    raise
                log.warning("record_waits", batch=work.batch.id, results=len(group), error=str(error))
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _record(self, work: Work, group: Sequence[Result]) -> None:
        """Attempts first, then the deliveries, then the counts: see the module's note on dying in between."""
        now = self._now()
        await self._ledger.attempts.record(work.batch, group)
        delivered = [result for result in group if result.verdict.outcome is Outcome.DELIVERED]
        failed = [result for result in group if result.verdict.outcome is not Outcome.DELIVERED]
        if delivered:
            statuses = ((result.delivery.id, result.answer.status or 0) for result in delivered)
            await self._ledger.deliveries.succeed(_by_status(statuses), now)
        await self._ledger.deliveries.fail(work.batch, failed, now)
        await self._ledger.stats.add_results(work.batch.feed, group, now)
        work.recorded += len(group)
        for result in group:
            work.outcomes[result.verdict.outcome] += 1

    async def _pause_if_asked(self, feed: Feed, group: Sequence[Result]) -> None:
        reason = next((result.verdict.pause_reason for result in group if result.verdict.pause_reason), None)
        if reason:
            await self._ledger.cursors.pause(feed.name, reason)
            log.error("feed_paused", feed=feed.name, reason=reason)

    async def _finish(self, work: Work, loaded: int) -> None:
        """Delete the batch when all of it was settled; else give back what was not sent."""
        if work.recorded == loaded:
            await self._ledger.batches.settle(work.batch)
            return
        if work.batch.fence:
            await self._ledger.deliveries.unfence(work.batch)
        with suppress(LeaseLost):
            await self._ledger.batches.release(work.batch, self._now())
        log.warning(
            "batch_released", batch=work.batch.id, unsent=loaded - work.recorded, reason=work.stopped or "lease"
        )

    # --- holding the lease

    @asynccontextmanager
    async def _renewing(self, work: Work) -> AsyncIterator[None]:
        """Renew the lease for as long as the body runs."""
        renewal = asyncio.create_task(self._renew(work))
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(asyncio.CancelledError):
                await renewal

    async def _renew(self, work: Work) -> None:
        while True:
            await asyncio.sleep(self._terms.lease.total_seconds() / 3)
            until = self._now() + self._terms.lease
            try:
                await self._ledger.batches.renew(work.batch, until)
                work.until = until
            except LeaseLost as error:
                work.stopped = str(error)
                return
            except LedgerUnavailable as error:
                log.warning("renew_failed", batch=work.batch.id, error=str(error))


async def _next_group(results: asyncio.Queue[Result | None], terms: Terms) -> tuple[list[Result], bool]:
    """Wait for a result, then for more until the group is full or has waited long enough. True: there are no more."""
    group: list[Result] = []
    item = await results.get()
    try:
        async with asyncio.timeout(terms.group_wait.total_seconds()):
            while item is not None:
                group.append(item)
                if len(group) >= terms.group_size:
                    return group, False
                item = await results.get()
    except TimeoutError:
        return group, False
    return group, True


def _by_status(statuses: Iterable[tuple[str, int]]) -> dict[int, list[str]]:
    """Group (delivery id, HTTP status) pairs by status."""
    grouped: dict[int, list[str]] = defaultdict(list)
    for delivery_id, status in statuses:
        grouped[status].append(delivery_id)
    return grouped
