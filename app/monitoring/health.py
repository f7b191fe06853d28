"""Health that means progress: whether a worker, beat or a feed gets on, not merely whether a process is there.

*Live* is false where ending the process and starting it again would help: it stands still, its consumer asks for no
work, messages wait and it takes none, its event loop is blocked, its tasks come to nothing, or (beat) it sends nothing.
A server that is away is not the process's fault: that makes it *not ready*, and no restart would mend it.
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
from app.feeds.feed import Feed, Strategy
from app.jobs.schedule import JOBS
from app.ledger import Ledger
from app.ledger.heartbeats import KEPT, Heartbeat, Role
from app.ledger.unconfigured import unconfigured

HELD_PATIENCE = timedelta(minutes=2)
"""How long rows may wait beyond the cursor while none may be read, besides a feed's `lag`, before it is said."""
POLLS_MISSED = 3
"""Polls that a feed may miss, besides the bound: workers may be busy with deliveries."""


@dataclass(frozen=True, slots=True)
class Health:
    """What was found about one process or feed."""

    role: str
    """`worker`, `beat`, `watch`, `feed` or `job`."""
    name: str
    problems: tuple[str, ...] = ()
    """Why it is not live: it makes no progress."""
    waits_for: tuple[str, ...] = ()
    """Why it is not ready, although it is live."""

    @property
    def live(self) -> bool:
        """It makes progress, or nobody could in its place."""
        return not self.problems

    @property
    def ready(self) -> bool:
        """It makes progress, or would as soon as there is work."""
        return not self.problems and not self.waits_for


class Allowed(Protocol):
    """The settings that the bounds follow from."""

    @property
    def progress_bound(self) -> timedelta: ...

    @property
    def sweep_every(self) -> timedelta: ...

    @property
    def statement_timeout(self) -> timedelta: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long nothing may happen."""

    progress: timedelta
    """The setting `progress_bound`."""
    schedule: timedelta
    """The shortest interval of beat's entries: without it beat may be idle for as long."""
    single: timedelta
    """The longest that one request or statement may take, of all feeds: a task may wait for it."""

    @classmethod
    def of(cls, feeds: Collection[Feed], settings: Allowed) -> Bounds:
        """The bounds that follow from the configuration."""
        schedule = min([settings.sweep_every, *(feed.poll_every for feed in feeds)])
        single = max([settings.statement_timeout, *(feed.partner.timeout for feed in feeds)])
        return cls(settings.progress_bound, schedule, single)


def judge_mark(mark: Heartbeat, bounds: Bounds, now: datetime, own: Own | None = None) -> Health:
    """What a process's last mark says, and its age. `now` by the clock of a machine that keeps time. `own`: the
    feeds.toml that it should run with."""
    if mark.role is Role.WATCH:
        return Health(mark.role.value, mark.name, waits_for=tuple(failing_tasks(mark, now)))
    silent = now - mark.marked_at
    if silent < -AGREED:
        problems = [
            f"its last sign is of {_seconds(-silent)} from now: a clock was wrong, and it has said nothing since"
        ]
    elif silent > bounds.progress:
        problems = [f"stands still: no sign of it for {_seconds(silent)}"]
    elif mark.stopping:
        problems = []
    else:
        problems = list(_worker_problems(mark, bounds) if mark.role is Role.WORKER else _beat_problems(mark, bounds))
    waits = ["it is stopping"] if mark.stopping else []
    if (clock := said_of_clock(mark.clock_seconds)) is not None:
        waits.append(clock)
    waits += [*said_of_configuration(mark, own, now), *failing_tasks(mark, now)]
    if mark.broker_seconds is None:
        waits.append("Redis does not answer it")
    return Health(mark.role.value, mark.name, tuple(problems), tuple(waits))


def failing_tasks(mark: Heartbeat, now: datetime) -> list[str]:
    """What fails there, and nobody foresaw, or is wanting. No want of progress: a restart mends no fault of the code or
    the data."""
    failing = [
        f"{trouble.name} has failed {trouble.failures} times in a row: {trouble.error}"
        for trouble in mark.troubles
        if now - trouble.at < SHOWN_FOR
    ]
    return [*failing, mark.short_of] if mark.short_of else failing


def _worker_problems(mark: Heartbeat, bounds: Bounds) -> Iterator[str]:
    unasked = _while_redis_answers(mark, mark.consumer_seconds)
    if unasked > bounds.progress:
        yield f"lost its consumer: has not asked Redis for work for {_seconds(unasked)}"
    waiting = _age(mark.waiting_seconds)
    if waiting > bounds.progress:
        yield f"takes no work: messages have waited in {', '.join(mark.queues)} for {_seconds(waiting)}"
    blocked = _age(mark.loop_seconds)
    if blocked > bounds.progress:
        yield f"its event loop has been blocked for {_seconds(blocked)}"
    still = _age(mark.moved_seconds)
    if mark.running and still > bounds.progress + bounds.single:
        yield f"{mark.running} tasks run, and nothing has come of them for {_seconds(still)}"


def _beat_problems(mark: Heartbeat, bounds: Bounds) -> Iterator[str]:
    unsent = _while_redis_answers(mark, mark.sent_seconds)
    if unsent > bounds.progress + bounds.schedule:
        yield f"has sent nothing for {_seconds(unsent)}"


def _while_redis_answers(mark: Heartbeat, seconds: float | None) -> timedelta:
    """An age, as far as Redis has answered meanwhile: after an outage everyone needs a moment to come back."""
    return timedelta() if mark.broker_seconds is None else min(_age(seconds), _age(mark.broker_seconds))


def _age(seconds: float | None) -> timedelta:
    return timedelta(seconds=seconds or 0.0)


def judge_feed(feed: Feed, cursor: Cursor, bounds: Bounds, now: datetime) -> Health:
    """Whether the feed is polled. One that is paused need not be; one that backs off not before `retry_at`."""
    stopped = [cursor.stopped] if cursor.stopped else []
    if cursor.paused:
        return Health("feed", feed.name, waits_for=(*stopped,))
    limit = bounds.progress + POLLS_MISSED * feed.poll_every + feed.poll_budget
    if cursor.last_poll_at is None:
        return Health("feed", feed.name, ("was never polled",), (*stopped,))
    retry_at = cursor.retry_at if cursor.retry_at and cursor.retry_at <= now + POLL_WAIT_LIMIT + AGREED else None
    due = max(cursor.last_poll_at, retry_at or cursor.last_poll_at)
    problems: tuple[str, ...] = ()
    if cursor.last_poll_at > now + AGREED:
        problems = ("was last polled at a moment that has yet to come: a clock was wrong, and it was not polled since",)
    elif now - due > limit:
        problems = (f"was last polled {_seconds(now - cursor.last_poll_at)} ago",)
    waits = [*stopped, *([f"its last poll failed: {cursor.last_error}"] if cursor.failures else [])]
    if held := held_back(feed, cursor, now):
        waits.append(held)
    return Health("feed", feed.name, problems, tuple(waits))


def held_back(feed: Feed, cursor: Cursor, now: datetime) -> str | None:
    """Which rows have waited for longer than the feed lets them, while none could be read, and why."""
    if cursor.held is None or cursor.held_since is None:
        return None
    lag = feed.cursor.lag if feed.cursor.strategy is Strategy.TIMESTAMP else timedelta()
    held = now - cursor.held_since
    return f"for {_seconds(held)} now, {cursor.held}" if held > lag + HELD_PATIENCE else None


async def processes(
    ledger: Ledger,
    bounds: Bounds,
    now: datetime,
    role: Role | None = None,
    host: str | None = None,
    *,
    own: Own | None = None,
) -> list[Health]:
    """Every worker and beat that was heard of within `KEPT`, and watchdogs whose checks fail; of one role and host,
    where given. `own`: the feeds.toml that they should run with.
    """
    found = [judge_mark(mark, bounds, now, own) for mark in await ledger.heartbeats.since(now - KEPT, role, host)]
    return [health for health in found if health.role != Role.WATCH or not health.ready]


async def wrong_clocks(ledger: Ledger) -> list[tuple[Heartbeat, str]]:
    """The processes whose machine's clock is not the ledger server's, and what to say of each."""
    await ledger.read_clock()
    marks = await ledger.heartbeats.since(utc_now() - KEPT)
    return [(mark, said) for mark in marks if (said := said_of_clock(mark.clock_seconds)) is not None]


async def jobs(ledger: Ledger) -> list[Health]:
    """The periodic jobs whose last try failed, and that will be tried again."""
    found: list[Health] = []
    for job in JOBS:
        failing = [tick for tick in await ledger.ticks.open(job.name) if tick.error]
        waits = tuple(f"{tick.period.name} has failed {tick.tries} times: {tick.error}" for tick in failing)
        found += [Health("job", job.name, waits_for=waits)] if waits else []
    return found


async def feeds(
    ledger: Ledger, configured: Sequence[Feed], bounds: Bounds, now: datetime, named: Collection[str] | None = None
) -> list[Health]:
    """Every configured feed, and every other that something is owed of. `named`: those that feeds.toml names, where
    that is wrong about some."""
    judged = [judge_feed(feed, await ledger.cursors.get(feed.name), bounds, now) for feed in configured]
    others = await unconfigured(ledger, {feed.name for feed in configured} if named is None else named)
    return judged + [Health("feed", other.feed, waits_for=(other.said(now),)) for other in others]


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
