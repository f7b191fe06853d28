"""Sending what a claimed batch owes: loaded as memory allows, each row as the endpoint's throttle
lets it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog

from app.core.attempts import Answer, Result, Ruling
from app.core.batches import Batch
from app.core.budget import Budget, Reservation, cost, text_bytes
from app.core.clock import Clock
from app.core.deliveries import Delivery
from app.core.parts import in_parts
from app.core.unforeseen import Troubles
from app.delivery.policy import accepted, judge
from app.delivery.sink import Sink
from app.delivery.work import Work
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.partner.failures import Failure
from app.partner.throttle.throttle import EndpointThrottle

log = structlog.get_logger()

SENDING = "sending"
"""What a lack of our own is said of."""

_LONG = 10_000
"""Characters of a payload that is not kept until its result is recorded."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What of a batch is loaded together."""

    ids: Sequence[str]
    cost: int
    """See `app.core.budget.cost`."""


class Sending:
    """Sends the batches of one worker process."""

    def __init__(
        self, ledger: Ledger, sink: Sink, troubles: Troubles, budget: Budget, now: Clock
    ) -> None:
        """`troubles`: where it is said that a local resource is missing. `budget`: the process's."""
        self._ledger = ledger
        self._sink = sink
        self._troubles = troubles
        self._budget = budget
        self._now = now

    async def send_all(self, feed: Feed, throttle: EndpointThrottle, work: Work) -> int:
        """Send what memory has room for, as the endpoint's throttle allows; each result goes to
        `work.results`.

        Returns how many deliveries of the batch were to be sent, or may have been: those that were
        not loaded count.
        """
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
                work.watcher.settled(settled)
                owed -= settled
        return owed

    # --- loading

    async def _portions(self, batch: Batch) -> list[Portion]:
        """What of the batch is loaded together: all of it, unless its rows are large, or nobody
        knows how large.
        """
        known, most = batch.content_bytes, self._budget.portion
        if known is not None and cost(known, len(batch.delivery_ids)) <= most:
            return [Portion(batch.delivery_ids, cost(known, len(batch.delivery_ids)))]
        sizes = await self._ledger.deliveries.sizes(batch)
        costs = {known_id: cost(size) for known_id, size in sizes.items()}
        parts = in_parts(costs, len(costs), (costs.__getitem__, most))
        return [Portion(part, sum(costs[known_id] for known_id in part)) for part in parts]

    async def _send_portion(
        self,
        feed: Feed,
        throttle: EndpointThrottle,
        work: Work,
        sending: asyncio.TaskGroup,
        portion: Portion,
    ) -> int | None:
        """Load these once there is room for them, and begin to send each. Returns how many were
        still to be sent; `None`: nothing more of the batch is.
        """
        reserved = self._budget.sending(feed.name, portion.cost)
        if not await self._has_room(work, reserved, portion.cost):
            reserved.release()
            return None
        try:
            loaded = (
                work.kept.deliveries()
                if work.kept
                else await self._ledger.deliveries.load(work.batch, portion.ids)
            )
        except BaseException as error:
            reserved.release()
            if not isinstance(error, Exception):
                raise
            work.failed = error  # it is raised, once what was loaded before is sent
            return None
        for delivery, its_cost in _shared_out(loaded, reserved):
            if work.only not in (None, delivery.id):
                reserved.release(its_cost)
                continue
            task = sending.create_task(self._send(feed, throttle, delivery, work))
            task.add_done_callback(partial(_give_back, reserved, its_cost))
            work.tasks[delivery.id] = task
        return len(loaded)

    async def _has_room(self, work: Work, reserved: Reservation, size: int) -> bool:
        """Wait for room. `False`: the batch was stopped before."""
        if not work.stopped and not reserved.take(size):
            work.waiting = asyncio.create_task(reserved.wait(size))
            try:
                await work.waiting
            except asyncio.CancelledError:
                if not work.stopped:
                    work.waiting.cancel()
                    raise
            finally:
                work.waiting = None
        return not work.stopped

    # --- one row

    async def _send(
        self, feed: Feed, throttle: EndpointThrottle, delivery: Delivery, work: Work
    ) -> None:
        slots = throttle.slots
        if not slots.take():
            await slots.wait()
        try:
            if throttle.guarded and not work.stopped:
                await self._wait_for_turn(throttle, work)
            if work.stopped or self._now() >= work.until:
                return
            answer = await self._request(feed, delivery, work)
            throttle.answered(answer)
        finally:
            slots.leave()
        if answer.ruling is Ruling.OURS:
            self._lacking(throttle, answer)
        elif self._troubles.current():
            self._troubles.passed(SENDING, feed.name)
        verdict = accepted(answer) or judge(
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
        work.results.put(Result(delivery, answer, verdict))
        work.watcher.answered()

    async def _wait_for_turn(self, throttle: EndpointThrottle, work: Work) -> None:
        """Wait until the endpoint may be called; where that is too far away, stop the batch until
        then.
        """
        until = await throttle.admit()
        if until and not work.stopped:
            work.stopped = "endpoint's throttle"
            work.back_at = until

    async def _request(self, feed: Feed, delivery: Delivery, work: Work) -> Answer:
        started = time.monotonic()
        work.in_flight.add(delivery.id)
        try:
            return await self._sink.send(feed, delivery)
        except asyncio.CancelledError:
            if not work.cut_off:
                raise
            text = "Shutdown: no answer by the time the worker had to end (SHUTDOWN_GRACE)"
        except (
            Exception
        ) as error:  # of one row: the others of its batch must not be cancelled for it
            log.exception("send_failed", delivery=delivery.id, kind=type(error).__name__)
            text = f"{type(error).__name__}: not foreseen; see send_failed in the worker's log"
        finally:
            work.in_flight.discard(delivery.id)
        seconds = time.monotonic() - started
        at = self._now() - timedelta(seconds=seconds)
        return Answer(at, round(seconds * 1000), error=text, ruling=Ruling.LOST)

    def _lacking(self, throttle: EndpointThrottle, answer: Answer) -> None:
        """Report which local resource is missing, and use less of it."""
        said = answer.error or "no answer"
        if self._troubles.lacking(SENDING, throttle.feed.name, said):
            log.warning("nothing_to_send_with", feed=throttle.feed.name, error=said)
        throttle.ease(machine=said.startswith(Failure.LOCAL_ERROR))


def _give_back(reserved: Reservation, size: int, _: asyncio.Task[None]) -> None:
    reserved.release(size)


def _shared_out(
    loaded: Sequence[Delivery], reserved: Reservation
) -> Iterator[tuple[Delivery, int]]:
    """Pairs each delivery with its part of the reservation, and gives back what was reserved for
    others.
    """
    costs = [cost(text_bytes(delivery.payload)) for delivery in loaded]
    reserved.release(max(reserved.size - sum(costs), 0))
    return zip(loaded, costs, strict=True)
