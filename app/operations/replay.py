"""Replay: puts dead, cancelled or delivered deliveries back to `queued`.

It goes a chunk at a time: its batches are inserted, its deliveries move into them by conditional
updates, and the messages are sent. It may die between any two of these steps:

1. after the batches: they hold ids of deliveries that do not name them; whoever claims one loads
   nothing, and deletes the batch;
2. after some of the moves: those deliveries are in their batches, and will be sent;
3. after the moves, before the messages: the sweep finds the batches by `visible_at` and sends them.

Then the same command goes on where it stopped: what was moved is no longer in the state that it
selects.

Live rows keep their priority by two bounds: the rate, and that no more of a replay than
`ROOM_SECONDS` of it is unsettled at any moment, so that a partner slower than the rate slows the
replay and not the live rows. A replay also waits while a feed has half of its `max_backlog` open:
it never stops a feed from being polled.

A dead letter whose row could not be read is read from the source again first: see
`app.intake.unreadable`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from app.broker.queue import Queue
from app.core.batches import NewBatch
from app.core.clock import Clock, utc_now
from app.core.errors import BrokerUnavailable, RowrelayError
from app.core.parts import in_parts
from app.core.states import State
from app.feeds.feed import Feed, Rate
from app.intake.unreadable import Rereading
from app.ledger import Ledger
from app.ledger.batches import new_batches
from app.ledger.counted import DONE_STATES
from app.ledger.delivery_documents import MEND_IT
from app.ledger.persistence import persistent
from app.ledger.picking import Counted, Picked
from app.ledger.selection import Selection, narrowed
from app.operations.account import CHANGED, CHUNK_LIMIT, Account, Preview, Tell, account_of, waits
from app.operations.acknowledge import ACKNOWLEDGED
from app.operations.by import By
from app.source.reader import Source

log = structlog.get_logger()

CHUNK_SECONDS = 0.1
"""A chunk is what the rate allows in this time, at most `CHUNK_LIMIT` deliveries."""
PICKED_AT_ONCE = 5000
"""Deliveries that are looked up together: a server may read all that is selected to find the first
few. What changes until its chunk's turn comes stays as it is, since each move repeats the
selection."""
ROOM_SECONDS = 2.0
WAIT_SECONDS = 0.25
"""How long to wait before asking again whether there is room."""
BEING_SENT = "still being sent"
NOT_NOW = FEED_PAUSED, NOT_CONFIGURED = "feed paused", "feed not configured"
"""Why nothing of a feed can be replayed now."""
BACKLOG_EVERY = 1000
"""The feeds' backlogs are asked for once in so many deliveries moved."""


@dataclass(slots=True)
class Room:
    """What of a replay is on its way, kept over several calls that make up one."""

    chunk: int
    """How many deliveries are moved at once, at most."""
    wait: Callable[[float], Awaitable[object]]
    """How it waits, so many seconds; what this raises ends the replay."""
    unsettled: dict[str, int] = field(default_factory=dict)
    """As `Run.unsettled`."""


@dataclass(slots=True)
class Run:
    """One replay under way."""

    selection: Selection
    begun: datetime
    by: By
    rate: float
    """Deliveries a second."""
    account: Account
    tell: Tell
    wait: Callable[[float], Awaitable[object]]
    chunk: int
    """How many deliveries are moved at once."""
    unsettled: dict[str, int]
    """Batches of this run that are not known to be settled: id → how many deliveries."""
    being_sent: set[str] = field(default_factory=set)
    """Passed over, since a worker holds them: no more than workers have in flight."""


def chunk_of(per_second: float, seconds: float) -> int:
    """How many deliveries are moved at once: what the rate allows in that time, within bounds."""
    return min(CHUNK_LIMIT, math.ceil(per_second * seconds))


class Replaying:
    """Replays for one operator."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        feeds: Mapping[str, Feed],
        *,
        message_wait: timedelta,
        source: Callable[[], Source] | None = None,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`message_wait`: after this long without a claim, the sweep takes a batch's message for
        lost. `source`: gives the open source, where rows that could not be read are read again;
        else they are left alone.
        """
        self._source = source
        self._ledger = ledger
        self._queue = queue
        self._feeds = feeds
        self._message_wait = message_wait
        self._now = now
        self._sleep = sleep

    async def preview(self, selection: Selection) -> Preview:
        """Count what a replay of the selection would move and skip, and move nothing. Raises the
        ledger's errors.
        """
        paused = await self._ledger.pauses.paused()
        counted = await self._ledger.selections.counts(selection)
        account = await account_of(self._ledger, selection, counted)
        for group in counted:
            reason = self._obstacle(group, paused)
            if reason:
                account.skipped[reason] += group.count
        return Preview(account, counted)

    async def replay(
        self,
        selection: Selection,
        rate: Rate,
        by: By,
        tell: Tell = lambda *_: None,
        room: Room | None = None,
    ) -> Account:
        """Put the selected deliveries back to `queued`, at most `rate`, recorded as done by `by`.
        `room`: that of the replay which this is a part of.

        Returns once all have moved, not once they are sent. Raises the ledger's errors; running it
        again goes on.
        """
        with persistent(sleep=self._sleep):
            previewed = await self.preview(selection)
            paused = await self._ledger.pauses.paused()
        account = previewed.account
        open_feeds = [feed for feed in self._feeds if feed not in paused]
        per_second = rate.count / rate.per_seconds
        room = room or Room(chunk_of(per_second, CHUNK_SECONDS), self._sleep)
        run = Run(
            narrowed(selection, open_feeds), self._now(), by, per_second, account, tell,
            room.wait, room.chunk, room.unsettled,
        )  # fmt: skip
        if self._source and any(group.never_read for group in previewed.counted):
            reading = Rereading(self._ledger, self._feeds, self._source, by.at(run.begun))
            with persistent(sleep=self._sleep, tell=waits(account, tell)):
                account.skipped += await reading.reread(run.selection, run.begun)
        movable = account.movable
        with persistent(sleep=self._sleep, tell=waits(account, tell)):
            for state in selection.states:
                await self._replay_state(run, state)
        account.leave(CHANGED, movable - account.moved - account.skipped[BEING_SENT])
        return account

    def _obstacle(self, group: Counted, paused: Sequence[str]) -> str | None:
        """Why deliveries of this kind cannot be replayed; `None` where they can."""
        if group.acknowledged:
            return ACKNOWLEDGED
        if not group.has_payload and not (group.never_read and self._source):
            return "no payload"
        if group.feed not in self._feeds:
            return NOT_CONFIGURED
        return FEED_PAUSED if group.feed in paused else None

    async def _replay_state(self, run: Run, state: State) -> None:
        after: Picked | None = None
        due = time.monotonic()
        to_replay = self._ledger.selections.to_replay
        while picked := await to_replay(
            run.selection, state, run.begun, after, PICKED_AT_ONCE, without=run.being_sent
        ):
            after = picked[-1]
            for chunk in in_parts(picked, run.chunk):
                await self._wait_for_room(run, {one.feed for one in chunk})
                started = time.monotonic()
                moved = await self._replay_chunk(
                    run, state, await self._without_those_being_sent(run, chunk)
                )
                run.account.moved += moved
                run.tell(run.account.moved, "")
                due = max(due, started) + moved / run.rate
                await run.wait(max(0.0, due - time.monotonic()))

    async def _replay_chunk(self, run: Run, state: State, picked: Sequence[Picked]) -> int:
        """Batches, moves, messages: see the module's note on dying in between. Returns how many
        moved.
        """
        batches = list(self._batches(picked))
        now = self._now()
        await self._ledger.batches.insert(batches, now + self._message_wait)
        run.unsettled.update({batch.id: len(batch.delivery_ids) for batch in batches})
        await self._mark(state, picked, now)
        stamp = run.by.at(now)
        moved = [
            await self._ledger.selections.replay(run.selection, state, run.begun, batch, stamp)
            for batch in batches
        ]
        try:
            await self._queue.publish(batches)
        except BrokerUnavailable as error:
            log.warning("publish_failed", batches=len(batches), error=str(error))
        if state is State.DEAD:
            await self._count_revived(zip(batches, moved, strict=True), picked, now)
        return sum(moved)

    async def _mark(self, state: State, picked: Sequence[Picked], now: datetime) -> None:
        """Have the days counted again that these were settled on, where such days are remembered."""
        if state in DONE_STATES:
            for feed in {one.feed for one in picked}:
                await self._ledger.counts.mark(
                    feed, {one.place for one in picked if one.feed == feed}, now
                )

    async def _count_revived(
        self, moved: Iterable[tuple[NewBatch, int]], picked: Sequence[Picked], now: datetime
    ) -> None:
        """For the reports: a dead letter that was put back is not among the dead of when it died.
        Where not all of a batch moved, its first count. Where the ledger is away, the count falls
        short.
        """
        by_id = {one.id: one for one in picked}
        with suppress(RowrelayError):
            for batch, count in moved:
                died = [by_id[known] for known in batch.delivery_ids[:count]]
                reasons = [(one.place, one.reason.removesuffix(MEND_IT)) for one in died]
                await self._ledger.stats.add_revived(batch.feed, reasons, now)

    def _batches(self, picked: Sequence[Picked]) -> Iterator[NewBatch]:
        by_feed: dict[str, list[str]] = defaultdict(list)
        for one in picked:
            by_feed[one.feed].append(one.id)
        for feed, ids in by_feed.items():
            yield from new_batches(feed, ids, self._feeds[feed].batch_size)

    async def _without_those_being_sent(self, run: Run, picked: Sequence[Picked]) -> list[Picked]:
        """Leave out what is in a batch that a worker still holds: an attempt of it may not be on
        record yet.
        """
        held = await self._ledger.batches.held({one.batch for one in picked if one.batch})
        free = [one for one in picked if one.batch not in held]
        run.being_sent |= {one.id for one in picked if one.batch in held}
        run.account.skipped[BEING_SENT] += len(picked) - len(free)
        return free

    async def _wait_for_room(self, run: Run, feeds: set[str]) -> None:
        """Wait while too much of this run is unsettled, or a feed has half of its `max_backlog`
        open.
        """
        ask_backlog = run.account.moved % BACKLOG_EVERY < run.chunk
        while reason := await self._no_room(run, feeds if ask_backlog else set()):
            run.tell(run.account.moved, reason)
            await run.wait(WAIT_SECONDS)

    async def _no_room(self, run: Run, feeds: set[str]) -> str | None:
        existing = await self._ledger.batches.existing(run.unsettled)
        for batch in run.unsettled.keys() - set(existing):
            del run.unsettled[batch]
        unsettled = sum(run.unsettled.values())
        if unsettled > max(run.chunk, run.rate * ROOM_SECONDS):
            return f"{unsettled} of this replay are still to be sent; is a worker running?"
        for name in sorted(feeds):
            limit = self._feeds[name].max_backlog // 2
            retrying = await self._ledger.backlog.retrying(name, limit)
            if retrying + await self._ledger.batches.owed(name) >= limit:
                return f"feed {name} has {limit} deliveries open"
        return None
