"""Health as progress: whether a worker, beat or a feed makes any, not merely whether a process
exists.

*Live* is false where a restart would help: the process is stuck, its consumer asks for no work, it
takes none of the messages that wait, its event loop is blocked, its tasks get nowhere, or (beat) it
sends nothing. An unreachable server is not the process's fault: that makes it *not ready*, and a
restart would not help.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from app.configuration.configured import Own, said_of_configuration
from app.core.clock import AGREED, said_of_clock, utc_now
from app.core.cursors import POLL_WAIT_LIMIT, Cursor
from app.core.unforeseen import SHOWN_FOR
from app.feeds.feed import Feed
from app.jobs.schedule import JOBS
from app.ledger import Ledger
from app.ledger.heartbeats import KEPT, Heartbeat, Role
from app.ledger.unconfigured import unconfigured

HELD_PATIENCE = timedelta(minutes=2)
"""How long, besides a feed's `lag`, rows may wait beyond the cursor unread before that is reported.
"""
POLLS_MISSED = 3
"""Polls that a feed may miss on top of the bound: workers may be busy with deliveries."""


@dataclass(frozen=True, slots=True)
class Health:
    """What was found out about one process, feed or job."""

    role: str
    """`worker`, `beat`, `watch`, `feed` or `job`."""
    name: str
    problems: tuple[str, ...] = ()
    """Why it is not live."""
    waits_for: tuple[str, ...] = ()
    """Why it is not ready, though live."""

    @property
    def live(self) -> bool:
        """It makes progress, or nothing in its place could."""
        return not self.problems

    @property
    def ready(self) -> bool:
        """It makes progress, or would if there were work."""
        return not self.problems and not self.waits_for


class Allowed(Protocol):
    """The settings that determine the bounds."""

    @property
    def progress_bound(self) -> timedelta: ...

    @property
    def sweep_every(self) -> timedelta: ...

    @property
    def statement_timeout(self) -> timedelta: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long nothing may happen before it counts as no progress."""

    progress: timedelta
    """The setting `progress_bound`."""
    schedule: timedelta
    """The shortest interval of beat's entries: beat may be idle for that long."""
    single: timedelta
    """The longest that a request or statement of any feed may take: a task may be waiting for it.
    """

    @classmethod
    def of(cls, feeds: Collection[Feed], settings: Allowed) -> Bounds:
        """The bounds for this configuration."""
        schedule = min([settings.sweep_every, *(feed.poll_every for feed in feeds)])
        single = max([settings.statement_timeout, *(feed.partner.timeout for feed in feeds)])
        return cls(settings.progress_bound, schedule, single)


def judge_process(
    heartbeat: Heartbeat, bounds: Bounds, now: datetime, own: Own | None = None
) -> Health:
    """Judge a process by its last heartbeat and the heartbeat's age. `own`: the feeds.toml that it
    should run with.
    """
    if heartbeat.role is Role.WATCH:
        return Health(
            heartbeat.role.value, heartbeat.name, waits_for=tuple(failing_tasks(heartbeat, now))
        )
    silent = now - heartbeat.marked_at
    if silent < -AGREED:
        problems = [
            f"its last sign is of {_seconds(-silent)} from now: a clock was wrong, and it has said nothing since"
        ]
    elif silent > bounds.progress:
        problems = [f"stands still: no sign of it for {_seconds(silent)}"]
    elif heartbeat.stopping:
        problems = []
    else:
        problems = list(
            _worker_problems(heartbeat, bounds)
            if heartbeat.role is Role.WORKER
            else _beat_problems(heartbeat, bounds)
        )
    waits = ["it is stopping"] if heartbeat.stopping else []
    if (clock := said_of_clock(heartbeat.clock_seconds)) is not None:
        waits.append(clock)
    waits += [*said_of_configuration(heartbeat, own, now), *failing_tasks(heartbeat, now)]
    if heartbeat.broker_seconds is None:
        waits.append("Redis does not answer it")
    return Health(heartbeat.role.value, heartbeat.name, tuple(problems), tuple(waits))


def failing_tasks(heartbeat: Heartbeat, now: datetime) -> list[str]:
    """Unforeseen failures of the process, and what it lacks. They do not make it unlive: a restart
    mends neither code nor data."""
    failing = [
        f"{trouble.name} has failed {trouble.failures} times in a row: {trouble.error}"
        for trouble in heartbeat.troubles
        if now - trouble.at < SHOWN_FOR
    ]
    return [*failing, heartbeat.short_of] if heartbeat.short_of else failing


def _worker_problems(heartbeat: Heartbeat, bounds: Bounds) -> Iterator[str]:
    unasked = _while_redis_answers(heartbeat, heartbeat.consumer_seconds)
    if unasked > bounds.progress:
        yield f"lost its consumer: has not asked Redis for work for {_seconds(unasked)}"
    waiting = _age(heartbeat.waiting_seconds)
    if waiting > bounds.progress:
        yield f"takes no work: messages have waited in {', '.join(heartbeat.queues)} for {_seconds(waiting)}"
    blocked = _age(heartbeat.loop_seconds)
    if blocked > bounds.progress:
        yield f"its event loop has been blocked for {_seconds(blocked)}"
    still = _age(heartbeat.moved_seconds)
    if heartbeat.running and still > bounds.progress + bounds.single:
        yield f"{heartbeat.running} tasks run, and nothing has come of them for {_seconds(still)}"


def _beat_problems(heartbeat: Heartbeat, bounds: Bounds) -> Iterator[str]:
    unsent = _while_redis_answers(heartbeat, heartbeat.sent_seconds)
    if unsent > bounds.progress + bounds.schedule:
        yield f"has sent nothing for {_seconds(unsent)}"


def _while_redis_answers(heartbeat: Heartbeat, seconds: float | None) -> timedelta:
    """An age, counted from when Redis answered again: after an outage, processes need a moment to
    recover.
    """
    return (
        timedelta()
        if heartbeat.broker_seconds is None
        else min(_age(seconds), _age(heartbeat.broker_seconds))
    )


def _age(seconds: float | None) -> timedelta:
    return timedelta(seconds=seconds or 0.0)


def judge_feed(feed: Feed, cursor: Cursor, bounds: Bounds, now: datetime) -> Health:
    """Judge whether the feed is polled. A paused one need not be; one that backs off, not before
    `retry_at`.
    """
    stopped = [cursor.stopped] if cursor.stopped else []
    if cursor.paused:
        return Health("feed", feed.name, waits_for=(*stopped,))
    limit = bounds.progress + POLLS_MISSED * feed.poll_every + feed.poll_budget
    if cursor.last_poll_at is None:
        return Health("feed", feed.name, ("was never polled",), (*stopped,))
    retry_at = (
        cursor.retry_at
        if cursor.retry_at and cursor.retry_at <= now + POLL_WAIT_LIMIT + AGREED
        else None
    )
    due = max(cursor.last_poll_at, retry_at or cursor.last_poll_at)
    problems: tuple[str, ...] = ()
    if cursor.last_poll_at > now + AGREED:
        problems = (
            "was last polled at a moment that has yet to come: a clock was wrong, and it was not polled since",
        )
    elif now - due > limit:
        problems = (f"was last polled {_seconds(now - cursor.last_poll_at)} ago",)
    waits = [*stopped, *([f"its last poll failed: {cursor.last_error}"] if cursor.failures else [])]
    if held := held_back(feed, cursor, now):
        waits.append(held)
    return Health("feed", feed.name, problems, tuple(waits))


def held_back(feed: Feed, cursor: Cursor, now: datetime) -> str | None:
    """Which rows have waited unread for longer than the feed allows, and why; `None`: none."""
    if cursor.held is None or cursor.held_since is None:
        return None
    held = now - cursor.held_since
    return (
        f"for {_seconds(held)} now, {cursor.held}"
        if held > feed.cursor.settles_in + HELD_PATIENCE
        else None
    )


async def processes(
    ledger: Ledger,
    bounds: Bounds,
    now: datetime,
    role: Role | None = None,
    host: str | None = None,
    *,
    own: Own | None = None,
) -> list[Health]:
    """Judge every worker and beat heard from within `KEPT`, and watchdogs whose checks fail; of one
    role and host, where given. `own`: the feeds.toml that they should run with.
    """
    found = [
        judge_process(heartbeat, bounds, now, own)
        for heartbeat in await ledger.heartbeats.since(now - KEPT, role, host)
    ]
    return [health for health in found if health.role != Role.WATCH or not health.ready]


async def wrong_clocks(ledger: Ledger) -> list[tuple[Heartbeat, str]]:
    """The processes whose machine's clock differs from the ledger server's, and what to say about
    each.
    """
    await ledger.read_clock()
    heartbeats = await ledger.heartbeats.since(utc_now() - KEPT)
    return [
        (heartbeat, said)
        for heartbeat in heartbeats
        if (said := said_of_clock(heartbeat.clock_seconds)) is not None
    ]


async def jobs(ledger: Ledger) -> list[Health]:
    """Periodic jobs whose last try failed and that will be tried again."""
    found: list[Health] = []
    for job in JOBS:
        failing = [tick for tick in await ledger.ticks.open(job.name) if tick.error]
        waits = tuple(
            f"{tick.period.name} has failed {tick.tries} times: {tick.error}" for tick in failing
        )
        found += [Health("job", job.name, waits_for=waits)] if waits else []
    return found


async def feeds(
    ledger: Ledger,
    configured: Sequence[Feed],
    bounds: Bounds,
    now: datetime,
    named: Collection[str] | None = None,
) -> list[Health]:
    """Judge every configured feed, and every other with open deliveries. `named`: the feeds that
    feeds.toml names, where some of them are wrong."""
    judged = [
        judge_feed(feed, await ledger.cursors.get(feed.name), bounds, now) for feed in configured
    ]
    others = await unconfigured(
        ledger, {feed.name for feed in configured} if named is None else named
    )
    return judged + [Health("feed", other.feed, waits_for=(other.said(now),)) for other in others]


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
