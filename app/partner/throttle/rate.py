"""A rate limit as a schedule of slots, the moments at which a request may start, which many
processes share.

The generic cell rate algorithm (GCRA), with one number of state: the moment from which the next
permit is due (`tat`, theoretical arrival time). A permit is a *slot*, a moment and not a refusal to
be asked again: whoever reserves some slots sleeps until each, and nobody polls.

Over any stretch of `per_seconds + SLACK` at most `count` slots lie, so a request may start up to
`SLACK` late and the bound still holds. A slot that was missed by more (the process stood still) is
thrown away, never caught up with.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from app.feeds.feed import Feed, Rate
from app.partner.throttle.concurrency import ConcurrencyShare
from app.partner.throttle.store import ThrottleStore

PATIENCE_SECONDS = 2.0
"""What a request waits for in its worker. For more the batch is parked: a waiting batch keeps a
place and a lease, a parked one costs nothing, and comes back up to a second late."""

SLACK_SECONDS = 0.05
"""How much later than its slot a request may start. Costs 5 % of a limit a second, nothing of one
an hour.
"""

CHUNK_SECONDS = 0.1
"""How far ahead one reservation reaches: slots reserved and then not needed are lost to everybody.
"""

_BURSTS_FROM_SECONDS = 60
_BURST_SHARE = 10


@dataclass(frozen=True, slots=True)
class Reserved:
    """Slots reserved for the caller, unless the first is too far away to wait for: then none is."""

    first: float
    """Seconds from now; negative where it lay in the past (a burst saved up)."""
    interval: float
    count: int


Reserve: TypeAlias = Callable[[int], Awaitable[Reserved]]
"""Reserves that many slots, or fewer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How slots follow each other."""

    interval: float
    """Seconds from one slot to the next."""
    burst: int
    """Slots that may lie at one moment after a rest."""

    @classmethod
    def of(cls, rate: Rate) -> Pace:
        """The fastest pace that holds the rate. Limits a minute or longer allow a tenth of it at
        once.
        """
        burst = (
            max(1, rate.count // _BURST_SHARE) if rate.per_seconds >= _BURSTS_FROM_SECONDS else 1
        )
        return cls((rate.per_seconds + SLACK_SECONDS) / (rate.count - burst + 1), burst)

    @property
    def saved(self) -> float:
        """How far back in time slots may lie: what makes the burst, in seconds."""
        return (self.burst - 1) * self.interval

    def chunk(self, wanted: int) -> int:
        """How many slots to reserve when `wanted` requests wait."""
        return max(1, min(wanted, int(CHUNK_SECONDS / self.interval)))

    def shared(self, processes: int) -> Pace:
        """A part of the pace that this many processes can each keep without asking each other."""
        return Pace(self.interval * max(processes, 1), 1)


class LocalPace:
    """Reserves slots for this process alone."""

    def __init__(self) -> None:
        self._due = 0.0

    def reserve(self, pace: Pace, count: int, longest: float) -> Reserved:
        """Reserve slots of this process's own schedule, unless the first is more than `longest`
        seconds away.
        """
        now = time.monotonic()
        due = max(self._due, now)
        first = due - pace.saved - now
        if first <= longest:
            self._due = due + count * pace.interval
        return Reserved(first, pace.interval, count)

    def move_to(self, remaining: float) -> None:
        """The shared schedule's next free slot is `remaining` seconds away."""
        self._due = max(self._due, time.monotonic() + remaining)

    @property
    def remaining(self) -> float:
        """Seconds until the next slot that is free, as far as this process knows."""
        return max(0.0, self._due - time.monotonic())


class Permits:
    """The slots that this process has reserved for one endpoint, handed out one after the other."""

    def __init__(self, pace: Pace, reserve: Reserve, longest: float) -> None:
        """`longest`: seconds; a slot farther away is not waited for."""
        self.pace = pace
        self.waiting = 0
        """Requests that want a slot now."""
        self._reserve = reserve
        self._longest = longest
        self._slots: deque[float] = deque()
        self._one_at_a_time = asyncio.Lock()

    async def take(self) -> float:
        """Wait for a slot and return 0: send now. Else the seconds until it is worth asking again."""
        self.waiting += 1
        try:
            async with self._one_at_a_time:
                return await self._next()
        finally:
            self.waiting -= 1

    async def _next(self) -> float:
        while True:
            if not self._slots:
                first = await self._reserve_chunk()
                if first > self._longest:
                    return first
            slot = self._slots.popleft()
            await _sleep_until(slot)
            if time.monotonic() - slot <= SLACK_SECONDS:
                return 0.0

    async def _reserve_chunk(self) -> float:
        reserved = await self._reserve(self.pace.chunk(self.waiting))
        now = time.monotonic()
        if reserved.first <= self._longest:
            self._slots.extend(
                now + max(0.0, reserved.first + n * reserved.interval)
                for n in range(reserved.count)
            )
        return reserved.first


async def _sleep_until(moment: float) -> None:
    delay = moment - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)


class RateLimit:
    """A feed's `rate_limit`, as one process sees it: slots of the schedule that all workers share."""

    def __init__(self, feed: Feed, store: ThrottleStore | None, share: ConcurrencyShare) -> None:
        """Without a `store` the schedule is this process's own."""
        self._name = feed.name
        self._store = store
        self._share = share
        self._local = LocalPace()
        self._limit = feed.partner.rate_limit
        self._permits = self._new_permits()

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self._permits is not None

    def take(self, feed: Feed) -> None:
        """Go by what the feed says now."""
        if feed.partner.rate_limit != self._limit:
            self._limit = feed.partner.rate_limit
            self._permits = self._new_permits()

    def backlog_seconds(self) -> float:
        """How long the requests that wait for a slot here fill this process's part of the rate."""
        if self._permits is None:
            return 0.0
        return self._permits.waiting * self._permits.pace.shared(self._share.live).interval

    async def take_slot(self) -> float:
        """Wait for a slot and return 0: send now. Else the seconds until it is worth asking again."""
        return await self._permits.take() if self._permits else 0.0

    def _new_permits(self) -> Permits | None:
        if self._limit is None:
            return None
        pace = Pace.of(self._limit)
        return Permits(pace, partial(self._reserve, pace), PATIENCE_SECONDS)

    async def _reserve(self, pace: Pace, count: int) -> Reserved:
        """Slots of all workers' schedule; this process's part of the rate while Redis is away."""
        if self._store is None:
            return self._local.reserve(pace, count, PATIENCE_SECONDS)
        live = self._share.live
        interval = pace.interval * live / min(live, self._share.registered)
        answer = await self._store.reserve(
            self._name,
            interval=interval,
            saved=pace.saved,
            count=count,
            longest=PATIENCE_SECONDS,
            floor=self._local.remaining,
        )
        if answer is None:
            self._share.redis_away()
            return self._local.reserve(pace.shared(live), 1, PATIENCE_SECONDS)
        self._local.move_to(answer[1])
        return Reserved(answer[0], interval, count)
