"""An endpoint's clock: from when, how fast and with how many requests at once all workers together may call it.

Each worker process holds a copy, so that a request costs no question to Redis:

- a **hold** (Retry-After) holds here at once, and in the other processes as soon as Redis has told them;
- the **circuit breaker** is fed with what all see, and opens for all (`breaker.py`);
- the **rate limit** hands out slots, reserved in Redis a few at a time (`rate.py`);
- the **cap on requests in flight** is shared out among the processes that are alive (`slots.py`).

A beat each second says what this process knows and hears what all know: it repairs a message that was lost, and a Redis
that forgot. While Redis is away each process goes on by itself, never faster than it was allowed to: holds stay, the
share of the cap stays, the rate is the process's part of it, and its own results open its breaker.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from app.core.attempts import Answer
from app.core.clock import Clock, server_clock, utc_now
from app.feeds.feed import Feed
from app.partner.slots import Slots, fair_share
from app.partner.throttle import breaker
from app.partner.throttle.rate import LocalPace, Pace, Permits, Reserved
from app.partner.throttle.store import Shared, ThrottleStore

log = structlog.get_logger()

PATIENCE_SECONDS = 2.0
"""What a request waits for in its worker. For more the batch is parked: a waiting batch keeps a place and a lease, a
parked one costs nothing, and comes back up to a second late."""

BACKLOG_SECONDS = 20.0
"""How far the requests that already wait may fill the rate limit before more batches are parked. Longer than a sweep
takes to bring them back, so that the limit is used up; short, so that other workers get a part of them."""

BEAT_SECONDS = 1.0
ALIVE_SECONDS = 5.0
"""How long a process counts as alive after its last beat."""
JITTER_SECONDS = 0.25
"""The processes start again up to this much apart after a hold."""

_ROOM_SECONDS = 60.0
_FIRST_EASE_SECONDS, _LONGEST_EASE_SECONDS = 1.0, 30.0
_PROBE_PAUSE_SECONDS = 0.25
_PROBE_GRACE_SECONDS = 5.0


class EndpointThrottle:
    """One feed's endpoint, as one process sees it. Used on one event loop."""

    def __init__(
        self,
        feed: Feed,
        store: ThrottleStore | None = None,
        *,
        now: Clock = utc_now,
        draw: Callable[[], float] = random.random,
        part: float = 1.0,
    ) -> None:
        """Without a `store` the process is alone. `draw` gives a random number in [0, 1) for the jitter. `part` of the
        feed's concurrency, and at least 1, is what this process can have in flight, however few share it.
        """
        self.feed = feed
        self._most = _most(feed, part)
        self.slots = Slots(self._most if store is None else 1)
        """The requests in flight of this process. 1 until Redis has said how many share the cap."""
        self.guarded = False
        """Whether `admit` has anything to say: the one look that a request costs otherwise."""
        self._store = store
        self._now = now
        self._draw = draw
        self._settings = feed.partner.breaker
        self._live = 1
        """Processes that share the endpoint, as far as known."""
        self._registered = 1
        """Those of them that have told Redis so: after it was away they come back one by one."""
        self._lost_at = -ALIVE_SECONDS
        self._synced = False
        self._quiet_until: datetime | None = None
        self._hold: datetime | None = None
        self._steps_back = server_clock.steps_back
        self._telling: asyncio.Task[None] | None = None
        self._generation = 0
        self._opened_until: datetime | None = None
        self._tripped_alone = False
        self._probes_left = 0
        self._no_probe_until = 0.0
        self._window = breaker.Window(self._settings.window)
        self._untold = breaker.Results()
        self._in_a_row = 0
        """Failures in a row by all, as last heard."""
        self._reopened = 0
        """How often the breaker has opened again in a row."""
        self._openings: list[tuple[datetime, timedelta]] = []
        self._room: int | None = None
        self._room_until = 0.0
        self._ease = 0.0
        self._eased_until = -1.0
        self._pace = LocalPace()
        self._permits = self._new_permits()
        self._guard()

    def take(self, feed: Feed, part: float) -> None:
        """Go by what the feed says now. What is known of the endpoint, as a hold, stays.

        Fewer requests at once from now on; more with the next beat, which shares them out among the processes.
        """
        before, self.feed = self.feed, feed
        self._settings = feed.partner.breaker
        self._most = _most(feed, part)
        self.slots.resize(self._most if self._store is None else min(self.slots.limit, self._most))
        if feed.partner.rate_limit != before.partner.rate_limit:
            self._permits = self._new_permits()
        if self._settings.window != before.partner.breaker.window:
            self._window = breaker.Window(self._settings.window)
        if self._generation and not self._settings.enabled:
            self._follow(0, 0.0, 0)
            self._quiet_until = self._hold
        self._guard()

    def _new_permits(self) -> Permits | None:
        rate = self.feed.partner.rate_limit
        if rate is None:
            return None
        pace = Pace.of(rate)
        return Permits(pace, partial(self._reserve, pace), PATIENCE_SECONDS)

    # --- asked by whoever sends

    def parked_until(self) -> datetime | None:
        """Until when a batch that nobody has claimed had better wait; `None`: it may be claimed now."""
        quiet = self._quiet_for()
        if quiet > PATIENCE_SECONDS:
            return self._in(quiet)
        if self._permits:
            backlog = self._permits.waiting * self._permits.pace.shared(self._live).interval
            if backlog > BACKLOG_SECONDS:
                return self._in(backlog)
        return None

    def held_for(self) -> float:
        """Seconds until the endpoint may be asked again; 0: now."""
        return self._quiet_for()

    def quiet_because(self) -> str:
        """Why the endpoint may not be asked now, where `admit` says so."""
        if self._remaining(self._opened_until) or self._generation:
            return "its circuit breaker is open"
        return "the partner asked for it" if self._remaining(self._hold) else "its rate limit is used up"

    async def admit(self) -> datetime | None:
        """Wait until a request may start, for at most about `PATIENCE_SECONDS`.

        Returns `None`: send now. Else when to come back.
        """
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (pause := await self._pause()) > 0:
            if time.monotonic() + pause > give_up:
                return self._in(pause)
            await asyncio.sleep(pause)
        return None

    # --- told by whoever sends

    def hold(self, until: datetime) -> None:
        """The partner wants no request before `until` (Retry-After). Holds here from now on; the others are told."""
        if self._hold is not None and until <= self._hold:
            return
        self._held_here(until)
        if self._store and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell_hold())

    def ease(self, *, machine: bool) -> None:
        """Something of our own is wanting. Of this machine: no more requests at once, for a while, than half of those
        that it had room for. Else nothing is sent from here for a moment, longer each time."""
        now = time.monotonic()
        if machine:
            self._room = max(1, min(self._room or self.slots.limit, self.slots.taken // 2))
            self._room_until = now + _ROOM_SECONDS
            self.slots.resize(min(self.slots.limit, self._room))
        elif now > self._eased_until:
            again = now < self._eased_until + 2 * self._ease
            self._ease = min(2 * self._ease, _LONGEST_EASE_SECONDS) if again else _FIRST_EASE_SECONDS
            self._eased_until = now + self._ease
            self._be_quiet(self._in(self._ease))

    async def report(self, answers: Sequence[Answer]) -> None:
        """Count a group of answers for the breaker. Asks Redis once for a group with failures, else not at all."""
        if not self._settings.enabled:
            return
        if self._generation:
            await self._judge_probes(answers)
            return
        results = breaker.Results.of(filter(breaker.of_the_endpoint, answers))
        self._window.add(time.monotonic(), results.sent, results.failed)
        self._untold = self._untold.then(results)
        if results.failed:
            await self._sync_and_judge()

    def openings(self) -> Sequence[tuple[datetime, timedelta]]:
        """When this process opened the breaker for all, and for how long: each opening is handed over once."""
        openings, self._openings = self._openings, []
        return openings

    # --- all processes together

    async def sync(self) -> None:
        """One beat: say what is known here, hear what all know. Does nothing without a store."""
        if self._store is None:
            return
        self._mind_the_time()
        shared = await self._exchange(self._store)
        if shared is not None:
            await self._take_over(self._store, shared)

    async def hear(self, what: str, remaining: float) -> None:
        """Another process has told something: a hold with the seconds that remain, or that it is worth asking."""
        if what == "hold":
            self._held_here(self._in(remaining))
        else:
            await self.sync()

    async def close(self) -> None:
        """Finish telling the others of a hold."""
        if self._telling:
            await self._telling

    # --- inside

    async def _pause(self) -> float:
        """Seconds until it is worth asking again; 0: a request may start now."""
        quiet = self._quiet_for()
        if quiet > 0:
            return quiet
        if self._generation and not await self._probe():
            return _PROBE_PAUSE_SECONDS
        if self._permits:
            wait = await self._permits.take()
            return wait or self._quiet_for()
        return 0.0

    def _quiet_for(self) -> float:
        if self._quiet_until is None:
            return 0.0
        remaining = (self._quiet_until - self._now()).total_seconds()
        if remaining > 0:
            return remaining
        self._quiet_until = None
        self._guard()
        return 0.0

    def _guard(self) -> None:
        self.guarded = bool(self._permits or self._quiet_until or self._generation)

    def _in(self, seconds: float) -> datetime:
        return self._now() + timedelta(seconds=seconds)

    def _remaining(self, moment: datetime | None) -> float:
        return 0.0 if moment is None else max(0.0, (moment - self._now()).total_seconds())

    def _held_here(self, until: datetime) -> None:
        if self._hold is None or until > self._hold:
            self._hold = until
            self._be_quiet(until + timedelta(seconds=JITTER_SECONDS * self._draw()))

    def _be_quiet(self, until: datetime) -> None:
        if self._quiet_until is None or until > self._quiet_until:
            self._quiet_until = until
            self.guarded = True

    async def _tell_hold(self) -> None:
        """Tell the others, again where a longer hold came meanwhile: a thousand answers make a few messages."""
        told = None
        while self._hold is not None and self._hold != told:
            told = self._hold
            await self.sync()

    def _cooldown_seconds(self) -> float:
        """The longest that the breaker is open now."""
        return breaker.cooldown(self._settings, self._reopened, self.feed.retry.backoff_cap).total_seconds()

    def _mind_the_time(self) -> None:
        """Forget moments that were noted before the clock went back. Redis keeps them by a clock of its own."""
        if self._steps_back != server_clock.steps_back:
            self._steps_back = server_clock.steps_back
            self._hold = self._quiet_until = self._opened_until = None

    # --- the beat

    async def _exchange(self, store: ThrottleStore) -> Shared | None:
        results, self._untold = self._untold, breaker.Results()
        shared = await store.sync(
            self.feed.name,
            lease=ALIVE_SECONDS,
            hold=self._remaining(self._hold),
            results=results,
            in_a_row=self._in_a_row,
            bucket=self._settings.window.total_seconds() / breaker.BUCKETS,
            buckets=breaker.BUCKETS,
            unwanted=self._settings.open_for.total_seconds(),
        )
        if shared is None:
            self._lost_at = time.monotonic()
            self._untold = results.then(self._untold)
        return shared

    async def _take_over(self, store: ThrottleStore, shared: Shared) -> None:
        if shared.hold > self._remaining(self._hold) + JITTER_SECONDS:
            self._held_here(self._in(shared.hold))
        self._share_out(shared)
        self._in_a_row = shared.in_a_row
        if not self._settings.enabled:
            return
        forgotten = self._generation > shared.generation
        if not shared.tripped and (self._tripped_alone or forgotten):
            await store.trip(self.feed.name, 0, self._remaining(self._opened_until), self._reopened)
            self._tripped_alone = False
        elif shared.tripped != self._generation:
            self._tripped_alone = False
            self._follow(shared.tripped, shared.open, shared.reopened)
        elif not shared.tripped and breaker.should_open(self._settings, shared.sent, shared.failed, shared.in_a_row):
            await self._trip()

    def _share_out(self, shared: Shared) -> None:
        """Take this process's part of the cap.

        A process that comes new to others begins with 1 and takes its part with its second beat: by then they have
        made room. Those known before Redis was away count on until they have had the time to come back.
        """
        self._registered = max(shared.live, 1)
        if self._registered >= self._live or time.monotonic() > self._lost_at + ALIVE_SECONDS:
            self._live = self._registered
        if self._synced or self._live == 1:
            share = fair_share(self.feed.partner.concurrency, self._live, shared.rank)
            if time.monotonic() > self._room_until:
                self._room = None
            self.slots.resize(min(share, self._most, self._room or share))
        self._synced = True

    # --- the breaker

    def _follow(self, generation: int, open_for: float, reopened: int) -> None:
        """The breaker has opened, here or in another process, or closed (generation 0)."""
        self._generation, self._reopened = generation, reopened
        self._window.clear()
        self._untold, self._in_a_row = breaker.Results(), 0
        if generation:
            self._open_here(open_for)
        else:
            self._opened_until = None
            log.info("breaker_closed", feed=self.feed.name)
        self._guard()

    def _open_here(self, open_for: float) -> None:
        open_for = min(open_for, self._cooldown_seconds())
        self._opened_until = self._in(open_for)
        self._no_probe_until = 0.0
        self._probes_left = max(1, self._settings.probes // self._live)
        self._be_quiet(self._opened_until)
        log.warning("breaker_opened", feed=self.feed.name, seconds=round(open_for, 1))

    async def _sync_and_judge(self) -> None:
        if self._store and self._store.up:
            await self.sync()
        alone = self._store is None or not self._store.up
        if alone and not self._generation:
            sent, failures = self._window.totals(time.monotonic())
            if breaker.should_open(self._settings, sent, failures, self._untold.in_a_row(self._in_a_row)):
                await self._trip()

    async def _trip(self) -> None:
        """Open the breaker, or open it again: for all where Redis answers, else here."""
        reopened = self._reopened + 1 if self._generation else 0
        open_for = breaker.cooldown(self._settings, reopened, self.feed.retry.backoff_cap)
        seconds = open_for.total_seconds()
        opened = await self._store.trip(self.feed.name, self._generation, seconds, reopened) if self._store else None
        if opened == 0:
            await self.sync()
        else:
            self._tripped_alone = opened is None
            self._openings.append((self._now(), open_for))
            self._follow(opened or self._generation + 1, seconds, reopened)

    async def _probe(self) -> bool:
        """Whether a request may go as a probe."""
        if time.monotonic() < self._no_probe_until:
            return False
        patience = self.feed.partner.timeout.total_seconds() + _PROBE_GRACE_SECONDS
        granted = (
            await self._store.probe(
                self.feed.name,
                self._generation,
                self._settings.probes,
                patience,
                self._cooldown_seconds(),
            )
            if self._store and not self._tripped_alone
            else None
        )
        if granted is None:
            granted = int(self._probes_left > 0)
            self._probes_left -= granted
        if granted < 0:
            await self.sync()
        if granted < 1:
            self._no_probe_until = time.monotonic() + _PROBE_PAUSE_SECONDS
        return granted > 0

    async def _judge_probes(self, answers: Sequence[Answer]) -> None:
        """Only what was sent after the pause speaks; the rest was in flight when the breaker opened."""
        opened_until = self._opened_until
        probes = [
            answer
            for answer in answers
            if breaker.of_the_endpoint(answer) and (opened_until is None or answer.at >= opened_until)
        ]
        if not probes:
            return
        if any(map(breaker.failed, probes)):
            await self._trip()
            return
        settled = (
            await self._store.settle(self.feed.name, self._generation, len(probes), self._settings.probes)
            if self._store and not self._tripped_alone
            else None
        )
        if settled or (settled is None and self._probes_left <= 0):
            self._follow(0, 0.0, 0)

    # --- the rate

    async def _reserve(self, pace: Pace, count: int) -> Reserved:
        """Slots of all workers' row; this process's part of the rate while Redis is away."""
        if self._store is None:
            return self._pace.reserve(pace, count, PATIENCE_SECONDS)
        interval = pace.interval * self._live / min(self._live, self._registered)
        answer = await self._store.reserve(
            self.feed.name,
            interval=interval,
            saved=pace.saved,
            count=count,
            longest=PATIENCE_SECONDS,
            floor=self._pace.remaining,
        )
        if answer is None:
            self._lost_at = time.monotonic()
            return self._pace.reserve(pace.shared(self._live), 1, PATIENCE_SECONDS)
        self._pace.move_to(answer[1])
        return Reserved(answer[0], interval, count)


def _most(feed: Feed, part: float) -> int:
    """Requests in flight that a process has room for, however few share them."""
    return max(1, int(feed.partner.concurrency * part))


class Throttles:
    """The clocks of every endpoint that this process sends to, and what keeps them together."""

    def __init__(self, store: ThrottleStore | None = None, now: Clock = utc_now, *, part: float = 1.0) -> None:
        """Without a `store` the process is alone, and nothing runs in the background. `part` of each feed's concurrency
        is what this process has room for.
        """
        self._store = store
        self._part = part
        self._now = now
        self._clocks: dict[str, EndpointThrottle] = {}
        self._feeds: Mapping[str, Feed] = {}
        self._running: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to beat and to listen, on the running event loop."""
        if self._store:
            self._running = [asyncio.create_task(self._beat()), asyncio.create_task(self._listen(self._store))]

    async def of(self, feed: Feed) -> EndpointThrottle:
        """The clock of the feed's endpoint. The first time, it first hears what all know."""
        clock = self._clocks.get(feed.name)
        if clock is None:
            feed = self._feeds.get(feed.name, feed)  # what began with a feed as it was goes by its limits as they are
            clock = self._clocks[feed.name] = EndpointThrottle(feed, self._store, now=self._now, part=self._part)
            await clock.sync()
        return clock

    def known(self, feed: Feed) -> EndpointThrottle | None:
        """The same, where it was asked for before."""
        return self._clocks.get(feed.name)

    def take(self, feeds: Mapping[str, Feed], removed: Iterable[str], part: float) -> None:
        """Go by these feeds from now on, and no more by those `removed`."""
        self._feeds, self._part = dict(feeds), part
        for name, clock in self._clocks.items():
            if name in feeds:
                clock.take(feeds[name], part)
        gone = [name for name in removed if self._clocks.pop(name, None)]
        if gone and self._store:
            leaving = asyncio.create_task(self._store.leave(gone))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Stop, tell the others that this process is gone, and close the connections."""
        for task in self._running:
            while not task.done():  # redis-py can swallow a cancelling that meets the end of a time limit
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)
        for clock in self._clocks.values():
            await clock.close()
        await asyncio.gather(*self._leaving)
        if self._store:
            await self._store.leave(list(self._clocks))
            await self._store.close()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._sync_all(self._clocks.values())

    async def _listen(self, store: ThrottleStore) -> None:
        async for message in store.messages():
            if message is None:
                await self._sync_all(self._clocks.values())
            elif (clock := self._clocks.get(message[0])) is not None:
                await clock.hear(message[1], message[2])

    async def _sync_all(self, clocks: Iterable[EndpointThrottle]) -> None:
        """Ask for each; once Redis has not answered, the others can wait for the next beat. Never raises: whoever asks
        goes on for as long as the process runs."""
        try:
            for clock in list(clocks):
                await clock.sync()
                if self._store and not self._store.up:
                    return
        except Exception as error:
            log.exception("endpoint_clock_failed", kind=type(error).__name__)
