"""Deliver a batch: claim it, send what in it is still queued, and record each result as it comes.

A worker may die, or lose its ledger, between any two of these steps:

1. after the claim: the lease runs out, and the sweep sends the batch to another worker, which takes it over;
2. after a request, before its result is recorded: the take-over records the attempt as `unknown`, and sends again
   under the same key;
3. after the attempt is on record, before the delivery is moved: the take-over finds the success among the attempts,
   and records it without sending again;
4. after the deliveries are moved, before the batch is deleted: the take-over finds nothing queued, and deletes it.

What the endpoint's throttle (`app/partner/throttle/throttle.py`) holds back for longer than a moment is not waited
for: a batch that nobody has claimed is parked, one that is under way is released with what was not sent. Neither costs
an attempt, and the sweep brings both back when their time has come.

Rows are loaded as the process's memory allows (`app/core/budget.py`): a batch of small rows at once, one of large rows
a portion after the other, and what a row took is given back as soon as its request is over. A batch that waits for
memory keeps its lease; one that is stopped is given back with what was not loaded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from app.broker.queue import Queue
from app.core.attempts import Answer, Outcome, Result, Ruling
from app.core.batches import Batch, Lease, NewBatch
from app.core.budget import Budget, Reservation, cost, text_bytes
from app.core.clock import Clock, utc_now
from app.core.deliveries import Delivery
from app.core.errors import BrokerUnavailable, LeaseLost, RowrelayError
from app.core.parts import in_parts
from app.core.renewal import kept_renewed
from app.core.unforeseen import Troubles
from app.delivery.policy import judge
from app.delivery.refusals import Refusals
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.partner.client import PartnerClient
from app.partner.failures import Failure
from app.partner.throttle.throttle import EndpointThrottle
from app.partner.throttle.throttles import Throttles

log = structlog.get_logger()

PAUSES_KNOWN_SECONDS = 1.0
"""How long a worker goes by its knowledge that a feed is not paused, before it asks the ledger again."""

SENDING = "sending"
"""What a lack of our own is said of."""

STRANGE_WAIT = timedelta(seconds=5)
"""How long a batch waits, of whose feed a worker knows nothing, before another is asked."""

_LONG = 10_000
"""Characters of a payload that is not kept until its result is recorded."""

RECORD_PATIENCE = timedelta(minutes=5)
"""How long a worker keeps results that the ledger does not take, before it leaves them to the next lease."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How a worker holds and writes its batches."""

    worker: str
    lease: timedelta
    group_size: int
    group_wait: timedelta


class Watcher:
    """Whoever wants to know how a batch gets on. This one does not."""

    def claimed(self, batch: Batch, *, waited: bool) -> None:
        """The batch is ours. `waited`: it was due in the ledger, and others of its feed may be."""

    def loaded(self, rows: int) -> None:
        """So many of its rows are still to be sent."""

    def recorded(self, rows: int) -> None:
        """So many of them are done with."""


NOBODY = Watcher()


@dataclass(frozen=True, slots=True)
class LoadGroup:
    """What of a batch is loaded together."""

    ids: Sequence[str]
    cost: int
    """See `app.core.budget.cost`."""


@dataclass(slots=True)
class Work:
    """One claimed batch under way."""

    batch: Batch
    watcher: Watcher
    until: datetime
    """When the lease runs out, as last renewed."""
    only: str | None = None
    """The delivery that is sent alone; `None`: all are."""
    stopped: str | None = None
    """Why nothing more of the batch is sent by us."""
    back_at: datetime | None = None
    """When the endpoint's throttle lets the rest go on."""
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Delivery id → its sending."""
    in_flight: set[str] = field(default_factory=set)
    """Ids of deliveries whose request is with the partner now."""
    waiting: asyncio.Task[None] | None = None
    """For memory to load the next portion into."""
    failed: Exception | None = None
    """Why a portion could not be loaded."""
    cut_off: bool = False
    """Requests in flight are not waited for any more."""
    results: asyncio.Queue[Result | None] = field(default_factory=asyncio.Queue)
    outcomes: dict[Outcome, int] = field(default_factory=lambda: defaultdict(int))
    recorded: int = 0

    def stop(self, reason: str) -> None:
        """Send nothing more; requests in flight go on."""
        self.stopped = reason
        if self.waiting:
            self.waiting.cancel()
        for delivery_id in self.tasks.keys() - self.in_flight:
            self.tasks[delivery_id].cancel()

    def cut(self) -> None:
        """Wait no longer for requests in flight: their outcome is unknown."""
        self.cut_off = True
        for delivery_id in self.in_flight:
            self.tasks[delivery_id].cancel()


class Delivering:
    """Sends batches for one worker process: its collaborators, and the batches under way."""

    def __init__(
        self,
        ledger: Ledger,
        partner: PartnerClient,
        terms: DeliverySettings,
        now: Clock = utc_now,
        *,
        throttles: Throttles | None = None,
        queue: Queue | None = None,
        troubles: Troubles | None = None,
        seen: Callable[[Result], None] | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Without `throttles` the process is alone with its endpoints; without `queue` the sweep brings back what is
        left at shutdown. `troubles`: where it is said that something of our own is wanting. `seen`: told of each result
        that was recorded. `budget`: the process's.
        """
        self._ledger = ledger
        self._partner = partner
        self._terms = terms
        self._now = now
        self._throttles = throttles or Throttles(now=now)
        self._queue = queue
        self.troubles = troubles or Troubles()
        self._refusals = Refusals(ledger)
        self._seen = seen or _say_attempt
        self.draining = False
        """Nothing more is claimed or sent."""
        self._budget = budget or Budget()
        self._under_way: dict[str, Work] = {}
        self._paused: Sequence[str] = ()
        self._resumes: Mapping[str, int] | None = None
        self._pauses_asked_at = 0.0
        self._pause_written_at = 0.0

    async def deliver(
        self, feed: Feed, batch_id: str | None, watcher: Watcher = NOBODY, *, only: str | None = None
    ) -> dict[Outcome, int] | None:
        """Send the batch's open deliveries. `batch_id` `None`: the batch of the feed that has been due the longest.

        Returns how many had each outcome; `None` where it was not ours to send. With `only` the delivery of that id,
        where it is one of them, and the others are given back at once. Raises `LedgerUnavailable`: the batch then waits
        for its lease to run out.
        """
        if self.draining:
            if batch_id is not None:
                await self._hand_back(feed, batch_id)
            return None
        if await self._is_paused(feed):
            return None
        throttle = await self._throttles.of(feed)
        await self._count_openings(throttle)
        if until := throttle.parked_until():
            if batch_id is not None:
                await self._ledger.batches.park(batch_id, feed.name, until, self._now())
                log.debug("batch_parked", batch=batch_id, feed=feed.name, until=until)
            return None
        batch = await self._claim(feed, batch_id, watcher)
        if batch is None:
            return None
        if batch.previous:
            await self._take_over(batch, batch.previous)
        work = Work(batch, watcher, batch.lease.until, only)
        async with self._renewing(work):
            owed = await self._send_all(feed, throttle, work)
        await self._finish(work, owed)
        return dict(work.outcomes)

    async def pass_over(self, feed: str, batch_id: str) -> None:
        """Leave a batch of a feed that this worker does not know to the sweep of one that does. Costs no attempt.

        Where nobody knows it, it waits until the feed is back (see `app.ledger.unconfigured`).
        """
        now = self._now()
        if await self._ledger.batches.park(batch_id, feed, now + STRANGE_WAIT, now) is None:
            return
        said = "feeds.toml of this worker does not name it"
        if self.troubles.lacking(SENDING, feed, said):
            log.warning("feed_not_configured", feed=feed, batch=batch_id, found=said)

    async def _claim(self, feed: Feed, batch_id: str | None, watcher: Watcher) -> Batch | None:
        now, batches, terms = self._now(), self._ledger.batches, self._terms
        if batch_id is None:
            batch = await batches.claim_next(feed.name, terms.worker, now, terms.lease)
        else:
            batch = await batches.claim(batch_id, feed.name, terms.worker, now, terms.lease)
        if batch:
            watcher.claimed(batch, waited=batch.due_since is not None and batch.due_since <= now)
        return batch

    async def _is_paused(self, feed: Feed) -> bool:
        """Whether the feed is paused. That it is not may be known from up to `PAUSES_KNOWN_SECONDS` ago: one question
        for all batches of a second. That it is, is always asked, so a feed that was resumed goes on at once.
        """
        now = time.monotonic()
        known_since = max(now - PAUSES_KNOWN_SECONDS, self._pause_written_at)
        if feed.name in self._paused or self._pauses_asked_at <= known_since:
            self._paused, resumes = await self._ledger.cursors.standing()
            self._pauses_asked_at = now
            self._begin_anew(resumes)
        return feed.name in self._paused

    def _begin_anew(self, resumes: Mapping[str, int]) -> None:
        """What made a feed pause must not outlive the pause: one that was resumed starts with a new access token."""
        if self._resumes is not None:
            for name in {name for name, count in resumes.items() if self._resumes.get(name, 0) != count}:
                self._partner.forget_token(name)
        self._resumes = resumes

    def drain(self, grace: timedelta) -> None:
        """Claim nothing more and send nothing more. Requests in flight have `grace` to end; what was not sent goes back
        to the queue as soon as they have. Call it on the event loop.
        """
        self.draining = True
        for work in self._under_way.values():
            work.stop("shutdown")
        asyncio.get_running_loop().call_later(grace.total_seconds(), self._cut)

    def _cut(self) -> None:
        for work in self._under_way.values():
            work.cut()

    async def _hand_back(self, feed: Feed, batch_id: str) -> None:
        """Give another worker a batch whose message came when we were leaving."""
        now = self._now()
        batch = await self._ledger.batches.park(batch_id, feed.name, now, now)
        if batch:
            await self._publish(batch)

    async def _publish(self, batch: NewBatch) -> None:
        """Send the batch's message again; where that fails the sweep does."""
        if self._queue is None:
            return
        try:
            await self._queue.publish([batch])
        except BrokerUnavailable as error:
            log.warning("publish_failed", error=str(error))

    async def _take_over(self, batch: Batch, previous: Lease) -> None:
        """Settle what the lease before ours left: successes on record count, everything else is `unknown`.

        In this order, since the former holder may be alive: each attempt is on record as what it came to or as unknown,
        whoever wrote first, before it is asked which of them succeeded.
        """
        left = await self._ledger.deliveries.unsettled(batch)
        told = await self._ledger.attempts.record_unknown(batch, left, previous)
        unknown = left.keys() - told
        delivered = await self._ledger.attempts.delivered_under({known: left[known] for known in told})
        await self._ledger.deliveries.succeed_before(batch, _by_status(delivered.items()), self._now())
        await self._ledger.deliveries.fence(batch, self._now())
        await self._ledger.stats.add_outcomes(batch.feed, Outcome.UNKNOWN, len(unknown), self._now())
        log.warning("batch_taken_over", batch=batch.id, feed=batch.feed, left_by=previous.worker, unknown=len(unknown))

    # --- sending

    async def _send_all(self, feed: Feed, throttle: EndpointThrottle, work: Work) -> int:
        """Send what memory has room for, as the endpoint's throttle allows, while results are written as they come.

        Returns how many deliveries of the batch were to be sent, or may have been: those that were not loaded count.
        """
        self._under_way[work.batch.lease.token] = work
        if self.draining:
            work.stopped = "shutdown"
        writing = asyncio.create_task(self._write_in_groups(feed, throttle, work))
        try:
            portions = await self._portions(work.batch)
            owed = sum(len(portion.ids) for portion in portions)
            work.watcher.loaded(owed)
            async with asyncio.TaskGroup() as sending:
                for portion in portions:
                    if work.only is not None and work.only not in portion.ids:
                        continue
                    loaded = await self._send_portion(feed, throttle, work, sending, portion)
                    if loaded is None:
                        break
                    settled = len(portion.ids) - loaded
                    work.watcher.recorded(settled)
                    owed -= settled
        finally:
            del self._under_way[work.batch.lease.token]
            work.results.put_nowait(None)
            await writing
        if work.failed and not (work.tasks and isinstance(work.failed, RowrelayError)):
            raise work.failed
        return owed

    async def _portions(self, batch: Batch) -> list[LoadGroup]:
        """What of the batch is loaded together: all of it, unless its rows are large, or nobody knows how large."""
        known, most = batch.content_bytes, self._budget.portion
        if known is not None and cost(known, len(batch.delivery_ids)) <= most:
            return [LoadGroup(batch.delivery_ids, cost(known, len(batch.delivery_ids)))]
        sizes = await self._ledger.deliveries.sizes(batch)
        costs = {known_id: cost(size) for known_id, size in sizes.items()}
        parts = in_parts(costs, len(costs), (costs.__getitem__, most))
        return [LoadGroup(part, sum(costs[known_id] for known_id in part)) for part in parts]

    async def _send_portion(
        self, feed: Feed, throttle: EndpointThrottle, work: Work, sending: asyncio.TaskGroup, portion: LoadGroup
    ) -> int | None:
        """Load these once there is room for them, and begin to send each. Returns how many were still to be sent;
        `None`: nothing more of the batch is.
        """
        hold = self._budget.sending(feed.name, portion.cost)
        if not await self._waited(work, hold, portion.cost):
            hold.release()
            return None
        try:
            loaded = await self._ledger.deliveries.load(work.batch, portion.ids)
        except Exception as error:  # noqa: BLE001 - it is raised, once what was loaded before is sent
            hold.release()
            work.failed = error
            return None
        for delivery, its_cost in _shared_out(loaded, hold):
            if work.only not in (None, delivery.id):
                hold.release(its_cost)
                continue
            task = sending.create_task(self._send(feed, throttle, delivery, work))
            task.add_done_callback(partial(_give_back, hold, its_cost))
            work.tasks[delivery.id] = task
        return len(loaded)

    async def _waited(self, work: Work, hold: Reservation, size: int) -> bool:
        """Wait for room. `False`: the batch was stopped before."""
        if not work.stopped and not hold.take(size):
            work.waiting = asyncio.create_task(hold.wait(size))
            try:
                await work.waiting
            except asyncio.CancelledError:
                if not work.stopped:
                    work.waiting.cancel()
                    raise
            finally:
                work.waiting = None
        return not work.stopped

    async def _send(self, feed: Feed, throttle: EndpointThrottle, delivery: Delivery, work: Work) -> None:
        async with throttle.slots:
            if throttle.guarded and not work.stopped:
                await self._wait_for_turn(throttle, work)
            if work.stopped or self._now() >= work.until:
                return
            answer = await self._request(feed, delivery, work)
        if answer.ruling is Ruling.OURS:
            self._lacking(throttle, answer)
        elif self.troubles.current():
            self.troubles.passed(SENDING, feed.name)
        verdict = judge(
            answer,
            attempt=delivery.attempts + 1,
            created_at=delivery.owed_since,
            policy=feed.retry,
            now=self._now(),
            draw=random.random,
            in_doubt=delivery.in_doubt,
        )
        if verdict.hold_until:
            throttle.hold(verdict.hold_until)
        if verdict.pause_reason and answer.status != 403:  # whose fault a 403 is, the group tells
            work.stopped = verdict.pause_reason
        if len(delivery.payload) > _LONG:
            delivery = replace(delivery, payload="")
        work.results.put_nowait(Result(delivery, answer, verdict))

    def _lacking(self, throttle: EndpointThrottle, answer: Answer) -> None:
        """Say what of our own is wanting, and ask for less of it."""
        said = answer.error or "no answer"
        if self.troubles.lacking(SENDING, throttle.feed.name, said):
            log.warning("nothing_to_send_with", feed=throttle.feed.name, error=said)
        throttle.ease(machine=said.startswith(Failure.LOCAL_ERROR))

    async def _wait_for_turn(self, throttle: EndpointThrottle, work: Work) -> None:
        """Wait until the endpoint may be called; where that is too far away, stop the batch until then."""
        until = await throttle.admit()
        if until and not work.stopped:
            work.stopped = "endpoint's throttle"
            work.back_at = until

    async def _request(self, feed: Feed, delivery: Delivery, work: Work) -> Answer:
        at, started = self._now(), time.monotonic()
        work.in_flight.add(delivery.id)
        try:
            return await self._partner.send(feed, delivery)
        except asyncio.CancelledError:
            if not work.cut_off:
                raise
            text = "Shutdown: no answer by the time the worker had to end (SHUTDOWN_GRACE)"
            return Answer(at, round((time.monotonic() - started) * 1000), error=text, ruling=Ruling.LOST)
        except Exception as error:  # of one row: the others of its batch must not be cancelled for it
            log.exception("send_failed", delivery=delivery.id, kind=type(error).__name__)
            text = f"{type(error).__name__}: not foreseen; see send_failed in the worker's log"
            return Answer(at, round((time.monotonic() - started) * 1000), error=text, ruling=Ruling.LOST)
        finally:
            work.in_flight.discard(delivery.id)

    # --- recording

    async def _write_in_groups(self, feed: Feed, throttle: EndpointThrottle, work: Work) -> None:
        """Write results in groups of up to `group_size`, none kept longer than `group_wait`."""
        ended = False
        while not ended:
            group, ended = await _next_group(work.results, self._terms)
            if group:
                await _report(throttle, group)
                await self._record_patiently(feed, work, group)
                await self._count_openings(throttle)

    async def _record_patiently(self, feed: Feed, work: Work, group: Sequence[Result]) -> None:
        """Record a group, again and again while the ledger is away: a success not recorded is a duplicate later.

        Where it cannot be recorded nothing more of the batch is sent.
        """
        give_up = self._now() + RECORD_PATIENCE
        delay, reconsidered = 0.1, False
        while True:
            try:
                if not reconsidered:
                    group, reconsidered = await self._refusals.reconsider(feed, group, self._now()), True
                await self._pause_if_asked(feed, work, group)
                return await self._record(work, group)
            except RowrelayError as error:
                if not error.retryable or self._now() >= give_up:
                    work.stopped = str(error)
                    raise
                log.warning("record_waits", batch=work.batch.id, results=len(group), error=str(error))
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _record(self, work: Work, group: Sequence[Result]) -> None:
        """Attempts first, then the deliveries, then the counts: see the module's note on dying in between."""
        now = self._now()
        made = [result for result in group if result.answer.made]
        dead_unsent = [r for r in group if not r.answer.made and r.verdict.outcome is Outcome.DEAD]
        await self._ledger.attempts.record(work.batch, made)
        delivered = [result for result in group if result.verdict.outcome is Outcome.DELIVERED]
        failed = [result for result in group if result.verdict.outcome is not Outcome.DELIVERED]
        if delivered:
            statuses = ((result.delivery.id, result.answer.status or 0) for result in delivered)
            await self._ledger.deliveries.succeed(work.batch, _by_status(statuses), now)
        await self._ledger.deliveries.fail(work.batch, failed, now)
        if made or dead_unsent:
            await self._ledger.stats.add_results(work.batch.feed, [*made, *dead_unsent], now)
        work.recorded += len(group)
        work.watcher.recorded(len(group))
        for result in group:
            work.outcomes[result.verdict.outcome] += 1
            self._seen(result)

    async def _count_openings(self, throttle: EndpointThrottle) -> None:
        """Count that we opened the endpoint's breaker. Where the ledger is away, the count falls short."""
        with suppress(RowrelayError):
            for at, open_for in throttle.openings():
                await self._ledger.stats.add_opening(throttle.feed.name, at, open_for)

    async def _pause_if_asked(self, feed: Feed, work: Work, group: Sequence[Result]) -> None:
        result = next((result for result in group if result.verdict.pause_reason), None)
        if result:
            reason = f"{result.verdict.pause_reason} (delivery {result.delivery.id})"
            work.stopped = reason
            await self._ledger.cursors.pause(feed.name, reason)
            self._pause_written_at = time.monotonic()
            log.error("feed_paused", feed=feed.name, reason=reason)

    async def _finish(self, work: Work, loaded: int) -> None:
        """Delete the batch when all of it was settled; else give back what was not sent."""
        if work.recorded == loaded:
            await self._ledger.batches.settle(work.batch)
            return
        now = self._now()
        with suppress(LeaseLost):
            await self._ledger.batches.release(work.batch, work.back_at or now, now)
        if self.draining:
            await self._publish(NewBatch(work.batch.id, work.batch.feed, work.batch.delivery_ids))
        log.warning(
            "batch_released",
            batch=work.batch.id,
            unsent=loaded - work.recorded,
            reason=work.stopped or str(work.failed or "lease"),
        )

    # --- holding the lease

    def _renewing(self, work: Work) -> AbstractAsyncContextManager[None]:
        """Renew the lease for as long as the body runs."""

        async def renew() -> None:
            until = self._now() + self._terms.lease
            await self._ledger.batches.renew(work.batch, until)
            work.until = until

        def lose(why: LeaseLost) -> None:
            work.stopped = str(why)

        return kept_renewed(self._terms.lease, renew, self._now, lose, batch=work.batch.id)


async def _report(throttle: EndpointThrottle, group: Sequence[Result]) -> None:
    """Tell the endpoint's throttle, which never keeps results from being recorded."""
    try:
        answers = [result.answer for result in group if result.answer.ruling is not Ruling.OURS]
        if answers:
            await throttle.report(answers)
    except Exception as error:
        log.exception("endpoint_clock_failed", kind=type(error).__name__)


def _say_attempt(result: Result) -> None:
    log.debug(
        "attempted",
        delivery=result.delivery.id,
        attempt=result.delivery.attempts + 1,
        outcome=result.verdict.outcome.value,
        status=result.answer.status,
        duration_ms=result.answer.duration_ms,
    )


async def _next_group(results: asyncio.Queue[Result | None], terms: DeliverySettings) -> tuple[list[Result], bool]:
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


def _give_back(hold: Reservation, size: int, _: asyncio.Task[None]) -> None:
    hold.release(size)


def _shared_out(loaded: Sequence[Delivery], hold: Reservation) -> Iterator[tuple[Delivery, int]]:
    """Each with its part of what is held for all. What is held for others, which need not be sent, is given back."""
    costs = [cost(text_bytes(delivery.payload)) for delivery in loaded]
    hold.release(max(hold.size - sum(costs), 0))
    return zip(loaded, costs, strict=True)


def _by_status(statuses: Iterable[tuple[str, int]]) -> dict[int, list[str]]:
    """Group (delivery id, HTTP status) pairs by status."""
    grouped: dict[int, list[str]] = defaultdict(list)
    for delivery_id, status in statuses:
        grouped[status].append(delivery_id)
    return grouped
