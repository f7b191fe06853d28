"""An endpoint's throttle: from when, how fast and with how many requests at once all workers
together may call it.

Each worker process holds a copy, so that a request costs no question to Redis:

- a **hold** (Retry-After) holds here at once, and in the others as soon as Redis has told them
  (`cooldown.py`);
- the **circuit breaker** is fed with what all see, and opens for all (`breaker.py`);
- the **rate limit** hands out slots, reserved in Redis a few at a time (`rate.py`);
- the **cap on requests in flight** is shared out among the processes that are alive
  (`concurrency.py`).

A beat each second (`throttles.py`) says what this process knows and hears what all know: it repairs
a message that was lost, and a Redis that forgot. While Redis is away each process goes on by
itself, never faster than it was allowed to: holds stay, the share of the cap stays, the rate is the
process's part of it, and its own results open its breaker.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from app.core.attempts import Answer
from app.core.clock import Clock, server_clock, utc_now
from app.feeds.feed import Feed
from app.partner.throttle.breaker import CircuitBreaker
from app.partner.throttle.concurrency import ALIVE_SECONDS, ConcurrencyShare
from app.partner.throttle.cooldown import JITTER_SECONDS, Cooldown
from app.partner.throttle.rate import PATIENCE_SECONDS, RateLimit
from app.partner.throttle.results import BUCKETS, failed, is_well
from app.partner.throttle.store import Said, Shared, ThrottleStore

BACKLOG_SECONDS = 20.0
"""How far the requests that already wait may fill the rate limit before more batches are parked.
Longer than a sweep takes to bring them back, so that the limit is used up; short, so that other
workers get a part of them."""


class EndpointThrottle:
    """One feed's endpoint, as one process sees it. Used on one event loop."""

    def __init__(
        self,
        feed: Feed,
        store: ThrottleStore | None = None,
        *,
        now: Clock = utc_now,
        steady: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        part: float = 1.0,
    ) -> None:
        """Without a `store` the process is alone. `steady`: seconds of a clock that is never set.
        `draw` gives a random number in [0, 1) for the jitter. `part` of the feed's concurrency, and
        at least 1, is what this process can have in flight, however few share it.
        """
        self.feed = feed
        self.store = store
        self.cooldown = Cooldown(now, steady, draw)
        self.share = ConcurrencyShare(feed, part, steady, alone=store is None)
        self.rate = RateLimit(feed, store, self.share)
        self.breaker = CircuitBreaker(
            feed, store, self.cooldown, steady, sync=self.sync, share=self.share
        )
        self.slots = self.share.slots
        """To be held by each request in flight."""
        self._steady = steady
        self._steps_back = server_clock.steps_back
        self._telling: asyncio.Task[None] | None = None
        self._failed_in_a_row = 0
        """Of this process's requests."""

    def take(self, feed: Feed, part: float) -> None:
        """Go by what the feed says now. What is known of the endpoint, as a hold, stays."""
        self.feed = feed
        self.share.take(feed, part)
        self.rate.take(feed)
        self.breaker.take(feed)

    # --- asked by whoever sends

    @property
    def guarded(self) -> bool:
        """Whether `admit` has anything to say: all that a request costs otherwise."""
        return (
            self.cooldown.quiet_until is not None or self.breaker.generation > 0 or self.rate.is_set
        )

    def parked_until(self) -> datetime | None:
        """Until when a batch that nobody has claimed had better wait; `None`: it may be claimed
        now.
        """
        quiet = self.cooldown.seconds()
        if quiet > PATIENCE_SECONDS:
            return self.cooldown.moment_in(quiet)
        backlog = self.rate.backlog_seconds()
        return self.cooldown.moment_in(backlog) if backlog > BACKLOG_SECONDS else None

    def held_for(self) -> float:
        """Seconds until the endpoint may be asked again; 0: now."""
        return self.cooldown.seconds()

    def quiet_because(self) -> str:
        """Why the endpoint may not be asked now, where `admit` says so."""
        if self.breaker.is_open:
            return "its circuit breaker is open"
        return (
            "the partner asked for it"
            if self.cooldown.held_seconds()
            else "its rate limit is used up"
        )

    async def admit(self) -> datetime | None:
        """Wait until a request may start, for at most about `PATIENCE_SECONDS`.

        Returns `None`: send now. Else when to come back.
        """
        give_up = self._steady() + PATIENCE_SECONDS
        while (pause := await self._pause()) > 0:
            if self._steady() + pause > give_up:
                return self.cooldown.moment_in(pause)
            await asyncio.sleep(pause)
        return None

    # --- told by whoever sends

    def hold(self, until: datetime) -> None:
        """The partner wants no request before `until` (Retry-After). Holds here from now on; the
        others are told.
        """
        if self._hold(until) and self.store and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell_hold())

    def answered(self, answer: Answer) -> None:
        """A request was answered, or was not. Where the endpoint had been left alone and is well,
        more go at once; where it fails again and again, only a few until the breaker is told.
        """
        if failed(answer):
            self._failed_in_a_row += 1
            breaker = self.feed.partner.breaker
            if breaker.enabled and self._failed_in_a_row == breaker.min_requests:
                self.share.start_slowly(breaker.probes)
            return
        self._failed_in_a_row = 0
        if not self.share.starts_slowly or self.breaker.is_open or self.cooldown.seconds():
            return
        held_until = self.cooldown.held_until
        if is_well(answer) and (held_until is None or answer.at >= held_until):
            self.share.went_well()

    def ease(self, *, machine: bool) -> None:
        """A local resource is missing. Of this machine: no more requests at once, for a while, than
        half of those that it had room for. Else nothing is sent from here for a moment, longer each
        time."""
        if machine:
            self.share.halve()
        else:
            self.cooldown.ease()

    async def report(self, answers: Sequence[Answer]) -> None:
        """Count a group of answers for the breaker. Asks Redis once for a group with failures, else
        not at all.
        """
        await self.breaker.report(answers)

    def openings(self) -> Sequence[tuple[datetime, timedelta]]:
        """When this process opened the breaker for all, and for how long: each opening is handed
        over once.
        """
        return self.breaker.openings()

    # --- all processes together

    async def sync(self) -> None:
        """One beat: say what is known here, hear what all know. Does nothing without a store."""
        if self.store is not None:
            said = self.say()
            await self.heard(said, await self.store.sync(said))

    def say(self) -> Said:
        """What is known here, to be told to the others. Call `heard` with it."""
        self._mind_the_time()
        settings = self.feed.partner.breaker
        return Said(
            self.feed.name,
            lease=ALIVE_SECONDS,
            hold=self.cooldown.held_seconds(),
            results=self.breaker.hand_over(),
            bucket=settings.window.total_seconds() / BUCKETS,
            buckets=BUCKETS,
            in_a_row=self.breaker.in_a_row,
            unwanted=settings.open_for.total_seconds(),
        )

    async def heard(self, said: Said, shared: Shared | None) -> None:
        """What all know. `None`: Redis is away, and what was said was not told."""
        if shared is None or self.store is None:
            self.share.redis_away()
            self.breaker.take_back(said.results)
            return
        if shared.hold > self.cooldown.held_seconds() + JITTER_SECONDS:
            self._hold(self.cooldown.moment_in(shared.hold))
        self.share.share_out(shared.live, shared.rank)
        await self.breaker.hear(self.store, shared)

    async def hear(self, what: str, remaining: float) -> None:
        """Another process has told something: a hold with the seconds that remain, or that it is
        worth asking.
        """
        if what == "hold":
            self._hold(self.cooldown.moment_in(remaining))
        else:
            await self.sync()

    async def close(self) -> None:
        """Finish telling the others of a hold."""
        if self._telling:
            await self._telling

    # --- inside

    def _hold(self, until: datetime) -> bool:
        """Whether that is news."""
        if not self.cooldown.hold(until):
            return False
        self.share.start_slowly(1)
        return True

    async def _pause(self) -> float:
        """Seconds until it is worth asking again; 0: a request may start now."""
        quiet = self.cooldown.seconds()
        if quiet > 0:
            return quiet
        if self.breaker.is_open and (pause := await self.breaker.probe()):
            return pause
        return await self.rate.take_slot() or (self.cooldown.seconds() if self.rate.is_set else 0.0)

    async def _tell_hold(self) -> None:
        """Tell the others, again where a longer hold came meanwhile: a thousand answers make a few
        messages.
        """
        told = None
        while self.cooldown.held_until is not None and self.cooldown.held_until != told:
            told = self.cooldown.held_until
            await self.sync()

    def _mind_the_time(self) -> None:
        """Forget moments that were noted before the clock went back. Redis keeps them by a clock of
        its own.
        """
        if self._steps_back != server_clock.steps_back:
            self._steps_back = server_clock.steps_back
            self.cooldown.forget()
            self.breaker.forget_time()
