"""An endpoint's circuit breaker: fed with what all processes see, and open for all.

Closed, requests go as they come. Where too many of the last ones failed it opens, and nothing is
sent for a while. Then it is half-open: a few probes go, and it closes when all of them succeed, or
opens again, for longer, with the first that fails. Where a feed sends too little for its last
requests to say anything, failures in a row count, however slowly they come.
https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import structlog

from app.core.attempts import Answer
from app.core.backoff import doubled
from app.feeds.feed import Breaker, Feed
from app.partner.throttle.concurrency import ConcurrencyShare
from app.partner.throttle.cooldown import Cooldown
from app.partner.throttle.results import Results, Window, failed, of_the_endpoint
from app.partner.throttle.store import Shared, ThrottleStore

log = structlog.get_logger()

_PROBE_PAUSE_SECONDS = 0.25
_PROBE_GRACE_SECONDS = 5.0


class CircuitBreaker:
    """One endpoint's, as one process sees it."""

    def __init__(
        self,
        feed: Feed,
        store: ThrottleStore | None,
        cooldown: Cooldown,
        steady: Callable[[], float],
        *,
        sync: Callable[[], Awaitable[None]],
        share: ConcurrencyShare,
    ) -> None:
        """`sync` tells and hears what all know; `share`: this process's requests in flight."""
        self._feed = feed
        self._settings = feed.partner.breaker
        self._store = store
        self._cooldown = cooldown
        self._steady = steady
        self._sync = sync
        self._share = share
        self.generation = 0
        """Which opening it is open, or half-open, with; 0: closed."""
        self.reopened = 0
        """How often it has opened again in a row."""
        self.in_a_row = 0
        """Failures in a row by all, as last heard."""
        self.open_until: datetime | None = None
        self._tripped_alone = False
        self._probes_left = 0
        self._probed_at = 0.0
        """When this process last let a probe go by its own word, by `steady`."""
        self._no_probe_until = 0.0
        self._asking = asyncio.Lock()
        self._window = Window(self._settings.window)
        self._untold = Results()
        self._openings: list[tuple[datetime, timedelta]] = []

    @property
    def is_open(self) -> bool:
        """Whether nothing is sent, or probes only."""
        return bool(self.generation)

    def take(self, feed: Feed) -> None:
        """Go by what the feed says now."""
        before, self._feed, self._settings = self._settings, feed, feed.partner.breaker
        if self._settings.window != before.window:
            self._window = Window(self._settings.window)
        if self.generation and not self._settings.enabled:
            self._follow(0, 0.0, 0)
            self._cooldown.only_hold()

    # --- results

    async def report(self, answers: Sequence[Answer]) -> None:
        """Count a group of answers. Asks Redis once for a group with failures, else not at all."""
        if not self._settings.enabled:
            return
        if self.generation:
            await self._judge_probes(answers)
            return
        results = Results.of(filter(of_the_endpoint, answers))
        self._window.add(self._steady(), results.sent, results.failed)
        self._untold = self._untold.then(results)
        if results.failed:
            await self._sync_and_judge()

    def hand_over(self) -> Results:
        """What was counted since the last time, to be told to the others."""
        results, self._untold = self._untold, Results()
        return results

    def take_back(self, results: Results) -> None:
        """They could not be told."""
        self._untold = results.then(self._untold)

    def openings(self) -> Sequence[tuple[datetime, timedelta]]:
        """When this process opened the breaker for all, and for how long: each opening is handed
        over once.
        """
        openings, self._openings = self._openings, []
        return openings

    async def hear(self, store: ThrottleStore, shared: Shared) -> None:
        """What all know: follow it, or open, or tell a Redis that forgot."""
        self.in_a_row = shared.in_a_row
        if not self._settings.enabled:
            return
        forgotten = self.generation > shared.generation
        if not shared.tripped and (self._tripped_alone or forgotten):
            await store.trip(
                self._feed.name, 0, self._cooldown.left(self.open_until), self.reopened
            )
            self._tripped_alone = False
        elif shared.tripped != self.generation:
            self._tripped_alone = False
            self._follow(shared.tripped, shared.open, shared.reopened)
        elif not shared.tripped and should_open(
            self._settings, shared.sent, shared.failed, shared.in_a_row
        ):
            await self._trip()

    def forget_time(self) -> None:
        """Forget a moment that was noted before the clock went back."""
        self.open_until = None

    async def _sync_and_judge(self) -> None:
        if self._store and self._store.up:
            await self._sync()
        alone = self._store is None or not self._store.up
        if alone and not self.generation:
            sent, failures = self._window.totals(self._steady())
            if should_open(self._settings, sent, failures, self._untold.in_a_row(self.in_a_row)):
                await self._trip()

    # --- opening and closing

    def _follow(self, generation: int, open_for: float, reopened: int) -> None:
        """The breaker has opened, here or in another process, or closed (generation 0)."""
        self.generation, self.reopened = generation, reopened
        self._window.clear()
        self._untold, self.in_a_row = Results(), 0
        if generation:
            self._open_here(open_for)
        else:
            self.open_until = None
            log.info("breaker_closed", feed=self._feed.name)

    def _open_here(self, open_for: float) -> None:
        open_for = min(open_for, self._longest_open())
        self.open_until = self._cooldown.moment_in(open_for)
        self._no_probe_until = 0.0
        self._probes_left = max(1, self._settings.probes // self._share.live)
        self._share.start_slowly(self._probes_left)
        self._cooldown.be_quiet(self.open_until)
        log.warning("breaker_opened", feed=self._feed.name, seconds=round(open_for, 1))

    async def _trip(self) -> None:
        """Open the breaker, or open it again: for all where Redis answers, else here."""
        reopened = self.reopened + 1 if self.generation else 0
        open_for = opens_for(self._settings, reopened, self._feed.retry.backoff_cap)
        seconds = open_for.total_seconds()
        opened = (
            await self._store.trip(self._feed.name, self.generation, seconds, reopened)
            if self._store
            else None
        )
        if opened == 0:
            await self._sync()
        else:
            self._tripped_alone = opened is None
            self._openings.append((self._cooldown.moment_in(0), open_for))
            self._follow(opened or self.generation + 1, seconds, reopened)

    def _longest_open(self) -> float:
        """Seconds that the breaker is open now at most."""
        return opens_for(
            self._settings, self.reopened, self._feed.retry.backoff_cap
        ).total_seconds()

    # --- probes

    async def probe(self) -> float:
        """Ask whether a request may go as a probe. 0: it may; else the seconds until it is worth
        asking again.

        All requests that wait wake at the same moment, as many as the feed's `concurrency`: one
        asks at a time, and a refusal is the answer to all.
        """
        async with self._asking:
            if not self.generation:
                return 0.0  # it was closed while others asked
            if quiet := self._cooldown.seconds():
                return quiet  # it has opened again
            if self._steady() < self._no_probe_until:
                return _PROBE_PAUSE_SECONDS
            granted = await self._grant()
            if granted is None:
                granted = self._grant_alone()
            if granted < 0:
                await self._sync()
            if granted < 1:
                self._no_probe_until = self._steady() + _PROBE_PAUSE_SECONDS
            return 0.0 if granted > 0 else _PROBE_PAUSE_SECONDS

    async def _grant(self) -> int | None:
        """Redis' word on a probe (see `ThrottleStore.probe`); `None`: it has no say."""
        if self._store is None or self._tripped_alone:
            return None
        probes, longest = self._settings.probes, self._longest_open()
        return await self._store.probe(
            self._feed.name, self.generation, probes, self._patience(), longest
        )

    def _grant_alone(self) -> int:
        """Whether a probe may go where Redis has no say. As there, those that nothing is heard of
        are taken for lost after a while.
        """
        now = self._steady()
        if self._probes_left <= 0 and now - self._probed_at > self._patience():
            self._probes_left = 1
        if self._probes_left <= 0:
            return 0
        self._probes_left, self._probed_at = self._probes_left - 1, now
        return 1

    def _patience(self) -> float:
        """Seconds after which a probe is taken for lost."""
        return self._feed.partner.timeout.total_seconds() + _PROBE_GRACE_SECONDS

    async def _judge_probes(self, answers: Sequence[Answer]) -> None:
        """Only what was sent after the pause speaks; the rest was in flight when the breaker
        opened.
        """
        since = self.open_until
        probes = [
            answer
            for answer in answers
            if of_the_endpoint(answer) and (since is None or answer.at >= since)
        ]
        if not probes:
            return
        if any(map(failed, probes)):
            await self._trip()
            return
        settled = None
        if self._store and not self._tripped_alone:
            settled = await self._store.settle(
                self._feed.name, self.generation, len(probes), self._settings.probes
            )
        if settled or (settled is None and self._probes_left <= 0):
            self._follow(0, 0.0, 0)


def should_open(breaker: Breaker, sent: int, failures: int, in_a_row: int) -> bool:
    """Whether `failures` of `sent` requests in the window are too many, or, where that is too few
    to say, the failures `in_a_row`, of whatever age."""
    if not breaker.enabled:
        return False
    if sent >= breaker.min_requests:
        return failures >= breaker.failure_ratio * sent
    return 0 < breaker.consecutive_failures <= in_a_row


def opens_for(breaker: Breaker, reopened: int, longest_retry: timedelta) -> timedelta:
    """How long nothing is sent once it has opened again `reopened` times in a row: twice as long
    each time, but no longer than `open_for_cap`, nor than a row waits for its retry."""
    cap = max(min(breaker.open_for_cap, longest_retry), breaker.open_for)
    return doubled(breaker.open_for, reopened, cap)
