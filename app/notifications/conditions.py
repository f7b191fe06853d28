"""Finds which events are on, from the ledger and Redis. What is said of them holds no value of a
row and no secret.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.broker.depths import Broker
from app.core.certificates import Certificate
from app.core.clock import rough
from app.core.cursors import Cursor
from app.core.errors import BrokerUnavailable
from app.core.events import Event, Found
from app.feeds.feed import Feed
from app.jobs.schedule import RECONCILE
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.heartbeats import KEPT, Heartbeat, Role
from app.ledger.reasons import normal
from app.ledger.ticks import Tick, TickState
from app.monitoring.health import Bounds, judge_feed, judge_process
from app.partner.throttle.view import BreakerState, view_endpoints

SAMPLED_WITHIN = timedelta(minutes=15)
"""The sweep samples each feed once a minute, less often where that takes long. Older samples are
ignored.
"""
OPENED_WITHIN = timedelta(minutes=2)
"""A breaker that opened within this time counts as open, though it may have closed since."""
CERTIFIED_WITHIN = timedelta(hours=6)
"""How long after a day's end its certificate may take."""
DEAD_COUNTED = 1000
"""Dead letters of a feed are counted up to this, or up to one more than allowed, whichever is more.
"""

_OF_A_DELIVERY = re.compile(r" \(delivery .*\)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too much."""

    dead: int
    """Dead letters of a feed that nobody has acknowledged."""
    oldest: timedelta
    """How long a delivery may be open."""
    dead_setting: str = "NOTIFY_DEAD"
    """What a message calls the first."""
    oldest_setting: str = "NOTIFY_OLDEST"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found, and which events could not be checked."""

    found: tuple[Found, ...]
    unknown: frozenset[Event] = frozenset()


Breakers = Callable[[], Awaitable[Mapping[str, bool]]]
"""Feed → whether its breaker is open. Raises `BrokerUnavailable`."""


def breakers_of(broker: Broker, feeds: Collection[str]) -> Breakers:
    """The breakers' state over all workers."""

    async def ask() -> Mapping[str, bool]:
        views = await broker.ask(lambda redis: view_endpoints(redis, tuple(feeds)))
        return {feed: view.breaker is not BreakerState.CLOSED for feed, view in views.items()}

    return ask


class Conditions:
    """Checks one installation."""

    def __init__(
        self,
        ledger: Ledger,
        feeds: Mapping[str, Feed],
        limits: Limits,
        bounds: Callable[[], Bounds],
        breakers: Breakers,
    ) -> None:
        """`feeds` and `bounds` are read at each check."""
        self._ledger = ledger
        self._feeds = feeds
        self._limits = limits
        self._bounds = bounds
        self._breakers = breakers

    async def read(self, now: datetime) -> Seen:
        """The events that are on. Raises the ledger's errors."""
        unknown: frozenset[Event] = frozenset()
        bounds = self._bounds()
        found = list(_of_processes(await self._ledger.heartbeats.since(now - KEPT), bounds, now))
        try:
            tripped = await self._breakers()
        except BrokerUnavailable as error:  # openings that workers have counted are still seen
            tripped = {}
            unknown = frozenset({Event.BREAKER_OPEN})
            found.append(Found(Event.REDIS_AWAY, "redis", of_a_kind(str(error))))
        due = await self._certified_by(now)
        for name, feed in self._feeds.items():
            cursor = await self._ledger.cursors.get(name)
            found += _of_cursor(feed, cursor, bounds, now)
            found += await self._of_dead(name, self._limits)
            if feed.cursor.unreconciled is None:
                found += await self._of_certificate(name, due)
        for name in {*self._feeds, *await self._ledger.stats.feeds()}:
            minutes = await self._minutes(name, now)
            found += _of_breaker(name, minutes, now, tripped=tripped.get(name, False))
            found += await self._of_oldest(name, minutes, self._limits, now)
        return Seen(tuple(found), unknown)

    async def above(self, limits: Limits, now: datetime) -> tuple[Found, ...]:
        """The events that depend on limits, by these. Raises the ledger's errors."""
        found = list[Found]()
        for name in self._feeds:
            found += await self._of_dead(name, limits)
        for name in {*self._feeds, *await self._ledger.stats.feeds()}:
            found += await self._of_oldest(name, await self._minutes(name, now), limits, now)
        return tuple(found)

    async def _minutes(self, feed: str, now: datetime) -> list[Document]:
        return await self._ledger.stats.between(
            feed, now - SAMPLED_WITHIN, now + timedelta(minutes=1)
        )

    async def _of_dead(self, feed: str, limits: Limits) -> list[Found]:
        most = max(limits.dead + 1, DEAD_COUNTED)
        count = await self._ledger.state_counts.unacknowledged(feed, limits.dead, most)
        if count <= limits.dead:
            return []
        more = " or more" if count == most else ""
        said = f"{count}{more} are not acknowledged; {limits.dead_setting} allows {limits.dead}"
        return [Found(Event.DEAD_LETTERS, feed, said)]

    async def _of_oldest(
        self, feed: str, minutes: Collection[Document], limits: Limits, now: datetime
    ) -> list[Found]:
        """By the last sample; where the sweep takes none, by what is open itself."""
        gauges = [minute["gauge"] for minute in minutes if "gauge" in minute]
        since = (
            gauges[-1]["oldest_open_at"] if gauges else await self._ledger.backlog.oldest_open(feed)
        )
        if since is None or now - since <= limits.oldest:
            return []
        allowed = f"{limits.oldest_setting} is {rough(limits.oldest)}"
        said = f"some are open, the oldest for {rough(now - since)}; {allowed}"
        if gauges:
            said = f"{gauges[-1]['open']} are open, the oldest for {rough(now - since)}; {allowed}"
        return [Found(Event.OLDEST_OPEN, feed, said)]

    # --- certificates

    async def _certified_by(self, now: datetime) -> Tick | None:
        """The reconciliation of the latest day that should have certificates by now."""
        ended = [
            tick
            for tick in await self._ledger.ticks.open(RECONCILE.name)
            if tick.period.end + CERTIFIED_WITHIN <= now
        ]
        closed = await self._ledger.ticks.last(RECONCILE.name, [TickState.DONE, TickState.FAILED])
        return max(
            [*ended, *([closed] if closed else [])], key=lambda tick: tick.period.end, default=None
        )

    async def _of_certificate(self, feed: str, due: Tick | None) -> list[Found]:
        certificates, found = self._ledger.certificates, list[Found]()
        latest = await certificates.latest(feed)
        if latest and not latest.complete:
            found.append(Found(Event.CERTIFICATE_DIFFERS, feed, _of_differing(latest)))
        if due is None or (
            due.state is TickState.DONE and feed not in {step.name for step in due.steps}
        ):
            return found  # no day has ended yet, or the feed was not there then
        if await certificates.first_begun_since(feed, due.period.end) is None:
            why = (
                normal(due.error)
                if due.error
                else "python -m app jobs says what the reconciliation came to"
            )
            found.append(
                Found(Event.CERTIFICATE_MISSING, feed, f"none for {due.period.name}: {why}")
            )
        return found


def _of_processes(
    heartbeats: Collection[Heartbeat], bounds: Bounds, now: datetime
) -> Iterator[Found]:
    for heartbeat in heartbeats:
        if heartbeat.role is not Role.WATCH and (
            problems := judge_process(heartbeat, bounds, now).problems
        ):
            yield Found(Event.NO_PROGRESS, heartbeat.name, "; ".join(problems))
    for role in (Role.WORKER, Role.BEAT):
        if role not in {heartbeat.role for heartbeat in heartbeats}:
            yield Found(
                Event.NONE_RUNS,
                role.value,
                f"each was stopped, or has said nothing for {rough(KEPT)}",
            )


def _of_cursor(feed: Feed, cursor: Cursor, bounds: Bounds, now: datetime) -> Iterator[Found]:
    if cursor.stopped:
        reason = cursor.paused_reason or cursor.sending_paused or "no reason is on record"
        yield Found(Event.FEED_PAUSED, feed.name, of_a_kind(reason))
    if cursor.paused:
        return
    if cursor.failures:
        said = (
            f"{cursor.failures} polls in a row failed: {of_a_kind(cursor.last_error or 'unknown')}"
        )
        yield Found(Event.FEED_NOT_READ, feed.name, said)
    elif problems := judge_feed(feed, cursor, bounds, now).problems:
        yield Found(Event.FEED_NOT_READ, feed.name, "; ".join(problems))


def _of_breaker(
    feed: str, minutes: Collection[Document], now: datetime, *, tripped: bool
) -> Iterator[Found]:
    """What the last minutes of statistics show of it. `minutes`: oldest first."""
    opened = sum(
        minute.get("breaker", {}).get("opened", 0)
        for minute in minutes
        if minute["minute"] > now - OPENED_WITHIN
    )
    if tripped or opened:
        yield Found(
            Event.BREAKER_OPEN,
            feed,
            "too many of its partner's last answers were failures, or none came",
        )


def _of_differing(certificate: Certificate) -> str:
    """Its counts alone: the ids it names hold keys of rows."""
    counts = [f"{certificate.missing} missing"] if certificate.missing else []
    counts += [
        f"{found.kind.value.replace('_', ' ')}: {found.count}"
        for found in certificate.discrepancies
    ]
    return f"as of {certificate.at:%Y-%m-%d %H:%M} UTC: {', '.join(counts) or 'its sum does not balance'}"


def of_a_kind(reason: str) -> str:
    """A reason without anything that a row, a partner or a source may have put into it, or a
    delivery's key.
    """
    return normal(_OF_A_DELIVERY.sub("", reason))
