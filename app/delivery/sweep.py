"""The sweep: puts back on the queue what the ledger says is owed and nobody is working on.

- due retries, gathered into new batches;
- batches that are due: their message was lost, the lease over them ran out, or no worker had room
  for them. Of each feed a few messages are enough (`HINTS_A_FEED`); the worker that takes one takes
  the others too, as it has room;
- and, asked less often, orphans: queued deliveries whose batch is gone.

A feed that this process does not know is passed over: it may be back, or another worker's. That is
said once.

Once a minute it also notes how each feed stands, for the reports: what is open then cannot be told
later.

Each new batch is inserted before a delivery moves into it, and each move is conditional: a sweep
that dies half-way, or runs twice at once, leaves batches with nothing in them, and whoever claims
one deletes it. No other sweep sends a batch before its deliveries are in it: it would be claimed
and deleted while they come, and they would wait as orphans.

What is due is asked of the ledger at each look, and stays due until it is claimed. So which
messages were sent is kept in memory: where it is forgotten, a message more is sent.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.broker.queue import HINTS_A_FEED, SiftedQueue
from app.core.attempts import HOLD_LIMIT
from app.core.batches import NewBatch
from app.core.clock import LONG_AGO, Clock, server_clock, utc_now
from app.core.errors import BrokerUnavailable
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.batches import new_batches
from app.ledger.stats import Gauge
from app.ledger.unconfigured import Unconfigured

log = structlog.get_logger()

HINT_AGAIN = timedelta(seconds=5)
"""How long a message sent for a due batch counts as still on its way."""
HINTS_AGAIN = 2
"""Messages of a feed that are sent again, where nobody has claimed what the last ones were of: no
worker had room, or they were lost. Whoever takes one takes the feed's others, as it has room.
"""

_DEFAULT_BATCH_SIZE = 100
SIFTED_ABOVE = 500
"""This many messages beyond what is ever sent at once can hardly be ours: the queue is then
cleared.
"""
SIFT_REST_SECONDS = 10.0
_REST = 20
"""Sampling takes at most this fraction (one in …) of the time. Where it is slow, some minutes have
no sample.
"""


@dataclass(slots=True)
class _Hinted:
    """What was sent of a feed."""

    batches: set[str]
    """Of those that are due, the ones that have had a message."""
    at: datetime
    """When the last was sent."""


@dataclass(slots=True)
class Swept:
    """What one sweep put back, in deliveries and in messages."""

    retries: int = 0
    messages: int = 0


class Sweeping:
    """Sweeps for one worker process."""

    def __init__(
        self,
        ledger: Ledger,
        queue: SiftedQueue,
        feeds: Mapping[str, Feed],
        *,
        lease: timedelta,
        limit: int,
        now: Clock = utc_now,
        steady: Callable[[], float] = time.monotonic,
        quiet: Callable[[], Sequence[str]] = list,
    ) -> None:
        """`steady`: seconds of a clock that is never set, by which it rests. `quiet`: feeds whose
        endpoint is not to be asked for a while, as far as this process knows.
        """
        self._ledger = ledger
        self._queue = queue
        self._feeds = feeds
        self._lease = lease
        self._limit = limit
        self._now = now
        self._steady = steady
        self._quiet = quiet
        self._sampled: datetime | None = None
        """The last minute that this process sampled."""
        self._rested_at = 0.0
        """When it may sample again, by `steady`."""
        self._sifted_again_at = 0.0
        self._steps_back: int | None = None
        """How often the ledger server's clock had gone back when what it had put off was last
        looked for.
        """
        self._known_unconfigured: set[str] = set()
        """Unconfigured feeds with open deliveries that were already reported."""
        self._hinted: dict[str, _Hinted] = {}
        """Feed → which of its batches were sent messages from here."""

    async def sweep(self) -> Swept:
        """Put back what is due, and note how each feed stands. Raises the ledger's errors."""
        paused = await self._ledger.pauses.paused()
        swept = await self._requeue(paused)
        await self._hasten()
        await self._sample(paused)
        return swept

    async def requeue(self) -> Swept:
        """Put back at most `limit` retries and `limit` messages. Raises the ledger's errors."""
        return await self._requeue(await self._ledger.pauses.paused())

    async def _requeue(self, paused: Sequence[str]) -> Swept:
        """Retries of a feed of which nothing may be sent now stay as they are until it may.
        Batches are offered all the same: they are parked, and not overdue.
        """
        swept = Swept(
            await self._requeue_retries([*paused, *self._quiet()]), await self._republish(paused)
        )
        if swept.retries or swept.messages:
            log.info("swept", retries=swept.retries, messages=swept.messages)
        return swept

    async def _hasten(self) -> None:
        """Make due what a wrong clock has put off. Retries are many: those that might as well wait
        so long are looked through once after the start, and whenever the ledger server's clock went
        back.
        """
        now = self._now()
        batches = await self._ledger.batches.hasten(now)
        longest = max([HOLD_LIMIT, *(feed.retry.backoff_cap for feed in self._feeds.values())])
        retries = await self._ledger.requeueing.hasten(now, longest)
        steps_back = server_clock.steps_back
        if steps_back != self._steps_back:
            retries += await self._ledger.requeueing.hasten_failed_later(now)
            self._steps_back = steps_back
        if batches or retries:
            log.warning("hastened", batches=batches, retries=retries)

    async def adopt_orphans(self) -> int:
        """Give a batch to at most `limit` queued deliveries whose own is gone. Returns how many.

        Reads what has been queued for longer than a lease, which `max_backlog` bounds, so it is
        asked rarely.
        """
        queued = await self._ledger.requeueing.queued_batches(self._now() - self._lease)
        gone = queued - await self._ledger.batches.existing(queued)
        if not gone:
            return 0
        orphans = await self._ledger.requeueing.queued_in(gone, self._limit)
        adopted = await self._gather(
            orphans, lambda batch: self._ledger.requeueing.adopt(batch, gone)
        )
        log.warning("orphans_adopted", deliveries=adopted)
        return adopted

    async def _sample(self, paused: Sequence[str]) -> None:
        """Note once a minute how many deliveries each feed has open, since when, and whether it is
        paused.
        """
        now, begun = self._now(), self._steady()
        minute = now.replace(second=0, microsecond=0)
        if minute == self._sampled or begun < self._rested_at:
            return
        found = await self._ledger.backlog.open_by_feed()
        feeds = self._feeds.keys() | found.keys()
        gauges: dict[str, Gauge] = {}
        for feed in sorted(feeds):
            count, oldest = found.get(feed, (0, None))
            gauges[feed] = Gauge(count, oldest, feed in paused, configured=feed in self._feeds)
        await self._ledger.stats.sample(gauges, now)
        await self._look_after_unconfigured(found, now)
        ended = self._steady()
        self._sampled, self._rested_at = minute, ended + (_REST - 1) * (ended - begun)

    async def _sift(self, depth: int) -> None:
        """Clear the queue, where it holds far more messages than are ever sent: they would keep new
        rows waiting.

        One that is still as long after that is let alone for a while.
        """
        now = self._steady()
        if now < self._sifted_again_at or depth - SIFTED_ABOVE <= HINTS_A_FEED * len(self._feeds):
            return
        self._sifted_again_at = now + SIFT_REST_SECONDS
        await self._queue.sift(self._ledger.batches.existing)

    async def _look_after_unconfigured(
        self, owed: Mapping[str, tuple[int, datetime]], now: datetime
    ) -> None:
        """Say which feeds nobody sends; of one that owes nothing any more, delete what is left of
        its batches.
        """
        unknown = [
            Unconfigured(feed, *found) for feed, found in owed.items() if feed not in self._feeds
        ]
        for one in unknown:
            if one.feed not in self._known_unconfigured:
                log.warning(
                    "feed_not_configured",
                    feed=one.feed,
                    open=one.open,
                    oldest=one.oldest,
                    do=one.said(now),
                )
        self._known_unconfigured = {one.feed for one in unknown}
        for feed in set(await self._ledger.batches.feeds()) - owed.keys() - self._feeds.keys():
            await self._ledger.batches.drop_due(feed, now - self._lease)

    async def _requeue_retries(self, left: Sequence[str]) -> int:
        now = self._now()
        due = await self._ledger.requeueing.due_retries(now, self._limit, left, among=self._feeds)
        return await self._gather(
            due, lambda batch: self._ledger.requeueing.requeue_due(batch, now)
        )

    async def _gather(
        self, found: Iterable[tuple[str, str]], move: Callable[[NewBatch], Awaitable[int]]
    ) -> int:
        """Insert batches for (feed, delivery id) pairs, move the deliveries into them, then let the
        batches be seen.

        Where this dies, they are seen after a lease.
        """
        batches = list(self._batches(found))
        if not batches:
            return 0
        await self._ledger.batches.insert(batches, self._now() + self._lease)
        moved = sum([await move(batch) for batch in batches])
        await self._ledger.batches.show([batch.id for batch in batches], self._now())
        return moved

    def _batches(self, found: Iterable[tuple[str, str]]) -> Iterator[NewBatch]:
        by_feed: dict[str, list[str]] = defaultdict(list)
        for feed, delivery_id in found:
            by_feed[feed].append(delivery_id)
        for feed, ids in by_feed.items():
            size = self._feeds[feed].batch_size if feed in self._feeds else _DEFAULT_BATCH_SIZE
            yield from new_batches(feed, ids, size)

    async def _republish(self, paused: Sequence[str]) -> int:
        """Send messages for batches that are due: a few of each feed, as many as keep the queue
        within `limit`.
        """
        try:
            depth = await self._queue.depth()
            if depth > SIFTED_ABOVE:
                await self._sift(depth)
            room = self._limit - depth
            if room <= 0:
                return 0
            now = self._now()
            due = await self._ledger.batches.due(now, HINTS_A_FEED, paused, among=self._feeds)
            hints = self._wanted(due, now)[:room]
            if hints:
                await self._queue.publish(hints)
            self._note_hinted(due, hints, now)
        except BrokerUnavailable as error:
            log.warning("publish_failed", error=str(error))
            return 0
        return len(hints)

    def _wanted(self, due: Sequence[NewBatch], now: datetime) -> Sequence[NewBatch]:
        """The batches that are to get a message now: those that have had none, and a few of a feed
        of which there are no others, and that got its last message a while ago.
        """
        found = [batch for batch in due if batch.id not in self._of(batch.feed).batches]
        feeds, again = {batch.feed for batch in found}, Counter[str]()
        for batch in due:
            if (
                batch.feed not in feeds
                and again[batch.feed] < HINTS_AGAIN
                and abs(now - self._of(batch.feed).at) >= HINT_AGAIN
            ):
                again[batch.feed] += 1
                found.append(batch)
        return found

    def _note_hinted(
        self, due: Sequence[NewBatch], hints: Sequence[NewBatch], now: datetime
    ) -> None:
        """These were sent. What is not due any more is forgotten."""
        sent = {batch.id for batch in hints}
        hinted: dict[str, _Hinted] = {}
        for batch in due:
            last = self._of(batch.feed)
            known = hinted.setdefault(batch.feed, _Hinted(set(), last.at))
            if batch.id in sent:
                known.at = now
            if batch.id in sent or batch.id in last.batches:
                known.batches.add(batch.id)
        self._hinted = hinted

    def _of(self, feed: str) -> _Hinted:
        return self._hinted.get(feed) or _Hinted(set(), LONG_AGO)
