"""Reads what the metrics export: from where, how often, and at what cost.

Each reading is repeated at most every few seconds, however often Prometheus scrapes, and takes at
most its share of the time: one that took 2 s with a share of 1 % is not repeated for 200 s.
`rowrelay_reading_age_seconds` says how old each is.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from typing import Any, TypeVar

import config
from app import VERSION
from app.broker.depths import Broker
from app.configuration.loaded import LiveFeeds, Loaded
from app.core.clock import Clock, server_clock, utc_now
from app.core.errors import LedgerUnavailable, Refused, SourceRefused, Unavailable
from app.core.states import State
from app.feeds.feed import Feed
from app.intake.backlog import backlog
from app.jobs.schedule import JOBS
from app.ledger import Ledger
from app.ledger.counters import Sums
from app.ledger.heartbeats import KEPT, Heartbeat
from app.ledger.state_counts import INDEXED
from app.ledger.ticks import TickState
from app.ledger.unconfigured import unconfigured
from app.monitoring.health import Bounds, Health, judge_process
from app.monitoring.metrics import families
from app.monitoring.metrics.families import Sheet
from app.monitoring.metrics.reading import Reading, refresh_all
from app.monitoring.metrics.sheets import (
    FeedView,
    JobView,
    add_counters,
    add_deliveries,
    add_endpoint,
    add_feed,
    add_job,
    add_process,
    add_unconfigured,
    add_values,
)
from app.partner.throttle.view import EndpointView, view_endpoints
from app.source.reader import Source

T = TypeVar("T")

FRESH_SECONDS = 5.0
"""Cheap readings are repeated after this."""
LAG_LIMIT = 100_000
"""Rows waiting in the source are counted up to this."""
_DONE = [state for state in State if state not in INDEXED]
PATIENCE_SECONDS = 8.0
"""How long a scrape waits for what is due. Prometheus gives up after 10 s."""


@dataclass(frozen=True, slots=True)
class RedisView:
    """Queue depths, and the endpoints' throttles."""

    depths: Mapping[str, int]
    endpoints: Mapping[str, EndpointView]


class Exporter:
    """Reads one installation, and fills a sheet."""

    def __init__(
        self,
        loaded: config.Config | Loaded,
        ledger: Ledger,
        broker: Broker,
        source: Source,
        *,
        queues: Sequence[str],
        now: Clock = utc_now,
    ) -> None:
        """Connects to nothing yet."""
        self._feeds = LiveFeeds(loaded)
        self._settings = loaded.settings
        self._ledger = ledger
        self._broker = broker
        self._source = source
        self._queues = queues
        self._now = now
        self.up = _cheap("ledger", self._read_version)
        self.open = _cheap("open", self._ledger.state_counts.indexed)
        self.done = Reading("done", self._read_done, every=FRESH_SECONDS, share=0.01)
        self.feeds = _cheap("feeds", self._read_feeds)
        self.others = _cheap("others", lambda: unconfigured(self._ledger, self._feeds))
        self.overdue = _cheap("overdue", self._read_overdue)
        self.totals = _cheap("totals", self._read_totals)
        self.jobs = _cheap("jobs", self._read_jobs)
        self.processes = _cheap("processes", self._read_processes)
        self.redis = _cheap("redis", self._read_redis)
        self.lag = Reading("source", self._read_lag, every=3 * FRESH_SECONDS, share=0.05)
        of_ledger = (
            self.up,
            self.open,
            self.done,
            self.feeds,
            self.others,
            self.overdue,
            self.totals,
            self.jobs,
        )
        self.readings: tuple[Reading[Any], ...] = (*of_ledger, self.processes, self.redis, self.lag)

    async def collect(self, patience: float = PATIENCE_SECONDS) -> Sheet:
        """Read what is due, for `patience` seconds at most, and return everything known."""
        await refresh_all(self.readings, patience)
        sheet, now = Sheet(), self._now()
        add_build(sheet)
        self._add_deliveries(sheet)
        for name, view in (self.feeds.value or {}).items():
            if feed := self._feeds.get(name):
                add_feed(sheet, feed, view, now)
        for other in self.others.value or ():
            add_unconfigured(sheet, other, now)
        for name, sums in (self.totals.value or {}).items():
            add_counters(sheet, name, sums)
        for name, job in (self.jobs.value or {}).items():
            add_job(sheet, name, job)
        for heartbeat, health in self.processes.value or ():
            add_process(sheet, heartbeat, health)
        self._add_redis(sheet)
        sheet.set(families.OVERDUE, self.overdue.value)
        add_values(sheet, families.LAG, self.lag.value or {})
        self._add_readings(sheet)
        return sheet

    async def close(self) -> None:
        """Stop reading. The clients are the caller's."""
        for reading in self.readings:
            await reading.close()

    # --- writing down

    def _add_deliveries(self, sheet: Sheet) -> None:
        """Each reading's states, of every feed that is configured or has deliveries."""
        opened, done = self.open.value, self.done.value
        for feed in sorted({*self._feeds, *(opened or ()), *(done or ())}):
            if opened is not None:
                add_deliveries(sheet, feed, opened.get(feed, {}), list(INDEXED))
            if done is not None:
                add_deliveries(sheet, feed, done.get(feed, {}), _DONE)

    def _add_redis(self, sheet: Sheet) -> None:
        if self.redis.value is not None:
            add_values(sheet, families.QUEUE_DEPTH, self.redis.value.depths)
            for feed, view in self.redis.value.endpoints.items():
                add_endpoint(sheet, feed, view)

    def _add_readings(self, sheet: Sheet) -> None:
        """Which servers answered, how long that took, and how old it is. A source that was not
        asked is neither up nor down.
        """
        for server, reading in (("ledger", self.up), ("redis", self.redis), ("source", self.lag)):
            if reading.value is not None or isinstance(reading.failed, Unavailable | Refused):
                down = reading.failed is not None
                if server != "source" or not isinstance(reading.failed, LedgerUnavailable):
                    sheet.set(families.UP, not down, server)
        for reading in self.readings:
            sheet.set(families.READING_AGE, reading.age, reading.name)
            sheet.set(families.READING_SECONDS, reading.took, reading.name)
            sheet.set(families.READING_FAILED, reading.failed is not None, reading.name)

    # --- reading

    async def _read_version(self) -> str:
        await self._ledger.read_clock()
        return await self._ledger.version()

    async def _moment(self) -> datetime:
        """The current time. The first readings are made together, and none may use the machine's
        clock.
        """
        if server_clock.machine_ahead is None:
            await self._ledger.read_clock()
        return self._now()

    async def _read_overdue(self) -> int:
        return await self._ledger.batches.overdue(await self._moment(), self._feeds)

    async def _read_done(self) -> Mapping[str, Mapping[State, int]]:
        """Feed → state → how many, as `status` has them: exact, or about, where there are very
        many.
        """
        counts = await self._ledger.state_counts.by_feed(await self._moment())
        return {feed: counted.states for feed, counted in counts.items()}

    async def _read_feeds(self) -> Mapping[str, FeedView]:
        return {name: await self._read_feed(feed) for name, feed in self._feeds.items()}

    async def _read_feed(self, feed: Feed) -> FeedView:
        return FeedView(
            cursor=await self._ledger.cursors.get(feed.name),
            backlog=await backlog(feed, self._ledger),
            oldest_open=await self._ledger.backlog.oldest_open(feed.name),
            certificate=await self._ledger.certificates.latest(feed.name),
        )

    async def _read_totals(self) -> Mapping[str, Sums]:
        known = {*self._feeds, *await self._ledger.stats.feeds()}
        now = await self._moment()
        return {feed: await self._ledger.counters.of(feed, now) for feed in sorted(known)}

    async def _read_jobs(self) -> Mapping[str, JobView]:
        ticks = self._ledger.ticks
        jobs: dict[str, JobView] = {}
        for job in JOBS:
            done, failed = [
                await ticks.last(job.name, [state]) for state in (TickState.DONE, TickState.FAILED)
            ]
            failing = next((tick for tick in await ticks.open(job.name) if tick.error), None)
            jobs[job.name] = JobView(done, failed, failing)
        return jobs

    async def _read_processes(self) -> Sequence[tuple[Heartbeat, Health]]:
        now, settings = await self._moment(), self._settings
        bounds = Bounds.of(self._feeds.values(), settings)
        return [
            (heartbeat, judge_process(heartbeat, bounds, now))
            for heartbeat in await self._ledger.heartbeats.since(now - KEPT)
        ]

    async def _read_redis(self) -> RedisView:
        return RedisView(
            depths=await self._broker.depths(self._queues),
            endpoints=await self._broker.ask(
                lambda redis: view_endpoints(redis, list(self._feeds))
            ),
        )

    async def _read_lag(self) -> Mapping[str, int | None]:
        """Feed → rows beyond its cursor; `None` where the source refuses that one. Raises
        `SourceUnavailable`.
        """
        lags: dict[str, int | None] = {}
        for name, feed in self._feeds.items():
            cursor = await self._ledger.cursors.get(name)
            lags[name] = None
            with suppress(SourceRefused):
                lags[name] = await self._source.waiting(feed, cursor, LAG_LIMIT)
        return lags


def add_build(sheet: Sheet) -> None:
    """What runs."""
    sheet.set(families.BUILD, 1, VERSION, platform.python_version(), metadata.version("celery"))


def _cheap(name: str, read: Callable[[], Awaitable[T]]) -> Reading[T]:
    return Reading(name, read, every=FRESH_SECONDS, share=0.1)
