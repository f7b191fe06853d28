"""Health that means progress: whether a worker, beat or a feed gets on, not merely whether a process is there.

*Live* is false where ending the process and starting it again would help: it stands still, its consumer asks for no
work, messages wait and it takes none, its event loop is blocked, its tasks come to nothing, or (beat) it sends nothing.
A server that is away is not the process's fault: that makes it *not ready*, and no restart would mend it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.feed import Feed
from app.ledger import Ledger
from app.ledger.progress import KEPT, Mark, Role
from app.models import Cursor

POLLS_MISSED = 3
"""Polls that a feed may miss, besides the bound: workers may be busy with deliveries."""


@dataclass(frozen=True, slots=True)
class Health:
    """What was found about one process or feed."""

    role: str
    """`worker`, `beat` or `feed`."""
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
    def of(cls, feeds: Sequence[Feed], progress: timedelta, sweep_every: timedelta, statement: timedelta) -> Bounds:
        """The bounds that follow from the settings."""
        schedule = min([sweep_every, *(feed.poll_every for feed in feeds)])
        single = max([statement, *(feed.partner.timeout for feed in feeds)])
        return cls(progress, schedule, single)


def judge_mark(mark: Mark, bounds: Bounds, now: datetime) -> Health:
    """What a process's last mark says, and its age. `now` by the clock of a machine that keeps time."""
    silent = now - mark.marked_at
    if silent > bounds.progress:
        problems = [f"stands still: no sign of it for {_seconds(silent)}"]
    elif mark.stopping:
        problems = []
    else:
        problems = list(_worker_problems(mark, bounds) if mark.role is Role.WORKER else _beat_problems(mark, bounds))
    waits = ["it is stopping"] if mark.stopping else []
    if mark.broker_seconds is None:
        waits.append("Redis does not answer it")
    return Health(mark.role.value, mark.name, tuple(problems), tuple(waits))


def _worker_problems(mark: Mark, bounds: Bounds) -> Iterator[str]:
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


def _beat_problems(mark: Mark, bounds: Bounds) -> Iterator[str]:
    unsent = _while_redis_answers(mark, mark.sent_seconds)
    if unsent > bounds.progress + bounds.schedule:
        yield f"has sent nothing for {_seconds(unsent)}"


def _while_redis_answers(mark: Mark, seconds: float | None) -> timedelta:
    """An age, as far as Redis has answered meanwhile: after an outage everyone needs a moment to come back."""
    return timedelta() if mark.broker_seconds is None else min(_age(seconds), _age(mark.broker_seconds))


def _age(seconds: float | None) -> timedelta:
    return timedelta(seconds=seconds or 0.0)


def judge_feed(feed: Feed, cursor: Cursor, bounds: Bounds, now: datetime) -> Health:
    """Whether the feed is polled. One that is paused need not be; one that backs off not before `retry_at`."""
    if cursor.paused:
        return Health("feed", feed.name, waits_for=(f"paused: {cursor.paused_reason}",))
    limit = bounds.progress + POLLS_MISSED * feed.poll_every + feed.poll_budget
    if cursor.last_poll_at is None:
        return Health("feed", feed.name, ("was never polled",))
    due = max(cursor.last_poll_at, cursor.retry_at or cursor.last_poll_at)
    problems = (f"was last polled {_seconds(now - cursor.last_poll_at)} ago",) if now - due > limit else ()
    waits = (f"its last poll failed: {cursor.last_error}",) if cursor.failures else ()
    return Health("feed", feed.name, problems, waits)


async def processes(
    ledger: Ledger, bounds: Bounds, now: datetime, role: Role | None = None, host: str | None = None
) -> list[Health]:
    """Every worker and beat that was heard of within `KEPT`; of one role and host, where given."""
    return [judge_mark(mark, bounds, now) for mark in await ledger.progress.since(now - KEPT, role, host)]


async def feeds(ledger: Ledger, configured: Sequence[Feed], bounds: Bounds, now: datetime) -> list[Health]:
    """Every configured feed."""
    return [judge_feed(feed, await ledger.cursors.get(feed.name), bounds, now) for feed in configured]


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
