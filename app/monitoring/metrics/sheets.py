"""Turns what was read into samples. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.core.certificates import Certificate, DiscrepancyKind
from app.core.cursors import Cursor
from app.core.states import State
from app.feeds.feed import Feed
from app.ledger.counters import Sums
from app.ledger.heartbeats import DURATION_BOUNDS, Heartbeat, Role, TaskTimes
from app.ledger.stats import bucket_bound
from app.ledger.ticks import Tick
from app.ledger.unconfigured import Unconfigured
from app.monitoring.health import Health
from app.monitoring.metrics import families
from app.monitoring.metrics.families import Family, Sheet
from app.partner.throttle.view import BreakerState, EndpointView

_BUCKETS_A_BOUND = 5
"""The ledger's buckets that one of ours holds: 20 a decade become 4, so that their bounds are the
same.
"""
ATTEMPT_BUCKETS = range(_BUCKETS_A_BOUND, 101, _BUCKETS_A_BOUND)
"""1.8 ms to 100 s."""
DELIVERED_BUCKETS = range(20, 161, _BUCKETS_A_BOUND)
"""10 ms to 28 h."""


@dataclass(frozen=True, slots=True)
class FeedView:
    """What the ledger keeps of a feed besides its deliveries."""

    cursor: Cursor
    backlog: int
    oldest_open: datetime | None
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class JobView:
    """How a periodic job last ended, well and badly."""

    done: Tick | None
    failed: Tick | None
    failing: Tick | None = None
    """One that will be tried again, and whose last try failed."""


def add_deliveries(
    sheet: Sheet, feed: str, counts: Mapping[State, int], states: Sequence[State]
) -> None:
    """How many deliveries are in each of these states; 0 where none is known."""
    for state in states:
        sheet.set(families.DELIVERIES, counts.get(state, 0), feed, state.value)


def add_feed(sheet: Sheet, feed: Feed, view: FeedView, now: datetime) -> None:
    """How far a feed has been read, and what is open."""
    cursor, name = view.cursor, feed.name
    oldest_gap = min((gap.since for gap in cursor.gaps), default=None)
    sheet.set(families.BACKLOG, view.backlog, name)
    sheet.set(families.BACKLOG_LIMIT, feed.max_backlog, name)
    sheet.set(families.OLDEST_OPEN, _seconds_since(view.oldest_open, now), name)
    sheet.set(families.GAPS, len(cursor.gaps), name)
    sheet.set(families.OLDEST_GAP, _seconds_since(oldest_gap, now), name)
    sheet.set(families.GAP_TIMEOUT, feed.cursor.gap_age_limit.total_seconds(), name)
    sheet.set(families.LAST_POLL, _timestamp(cursor.last_poll_at), name)
    sheet.set(families.LAST_ROW, _timestamp(cursor.last_row_at), name)
    sheet.set(families.POLL_EVERY, feed.poll_every.total_seconds(), name)
    sheet.set(families.POLL_FAILURES, cursor.failures, name)
    sheet.set(families.HELD, _seconds_since(cursor.held_since, now), name)
    sheet.set(families.FEED_LAG, feed.cursor.settles_in.total_seconds(), name)
    sheet.set(families.PAUSED, cursor.stopped is not None, name)
    if view.certificate:
        sheet.set(families.CERTIFIED, view.certificate.at.timestamp(), name)
        sheet.set(families.CERTIFICATE, view.certificate.complete, name)
        sheet.set(families.MISSING, view.certificate.missing, name)
        found = {one.kind: one.count for one in view.certificate.discrepancies}
        for kind in DiscrepancyKind:
            sheet.set(families.DISCREPANCY, found.get(kind, 0), name, kind.value)


def add_unconfigured(sheet: Sheet, other: Unconfigured, now: datetime) -> None:
    """What is owed of a feed that is not configured."""
    sheet.set(families.UNCONFIGURED, other.open, other.feed)
    sheet.set(families.OLDEST_OPEN, _seconds_since(other.oldest, now), other.feed)


def add_endpoint(sheet: Sheet, feed: str, view: EndpointView) -> None:
    """The throttle of a feed's endpoint."""
    for state in BreakerState:
        sheet.set(families.BREAKER, state is view.breaker, feed, state.value)
    sheet.set(families.HOLD, view.hold_seconds, feed)
    sheet.set(families.SENDERS, view.live, feed)


def add_counters(sheet: Sheet, feed: str, sums: Sums) -> None:
    """Everything counted of a feed, ever."""
    counts = sums.counts
    sheet.set(families.ROWS_READ, counts["read"], feed)
    sheet.set(families.ROWS_LOGGED, counts["logged"], feed)
    sheet.set(families.BREAKER_OPENED, counts["breaker/opened"], feed)
    for (outcome, status), count in _attempts(sums).items():
        sheet.set(families.ATTEMPTS, count, feed, outcome, status)
    for family, name, edges in (
        (families.ATTEMPT_SECONDS, "attempt_ms", ATTEMPT_BUCKETS),
        (families.DELIVERED_SECONDS, "delivered_ms", DELIVERED_BUCKETS),
    ):
        sheet.histogram(
            family, _cumulated(sums.under(name), edges), counts[f"{name}_sum"] / 1000, feed
        )


def add_job(sheet: Sheet, job: str, view: JobView) -> None:
    """When a periodic job was last done, or given up."""
    if view.done:
        sheet.set(families.JOB_DONE, _timestamp(view.done.finished_at), job)
        sheet.set(families.JOB_SECONDS, view.done.duration_ms / 1000, job)
    if view.failed:
        sheet.set(families.JOB_FAILED, _timestamp(view.failed.finished_at), job)
    sheet.set(families.JOB_FAILING, view.failing.tries if view.failing else 0, job)


def add_process(sheet: Sheet, heartbeat: Heartbeat, health: Health) -> None:
    """The progress of a worker or beat, or why a watchdog's checks fail."""
    role, name = heartbeat.role.value, heartbeat.name
    for trouble in heartbeat.troubles:
        sheet.set(families.TASK_FAILING, trouble.failures, name, trouble.task, trouble.feed or "")
    if heartbeat.role is Role.WATCH:
        return
    sheet.set(families.LIVE, health.live, role, name)
    sheet.set(families.READY, health.ready, role, name)
    sheet.set(families.HEARTBEAT, heartbeat.marked_at.timestamp(), role, name)
    sheet.set(families.STARTED, heartbeat.started_at.timestamp(), role, name)
    sheet.set(families.CLOCK, heartbeat.clock_seconds, role, name)
    if heartbeat.role is Role.BEAT:
        if heartbeat.sent_seconds is not None:
            sheet.set(families.SENT, heartbeat.marked_at.timestamp() - heartbeat.sent_seconds, name)
        return
    sheet.set(families.RUNNING, heartbeat.running, name)
    sheet.set(families.TAKEN, heartbeat.taken, name)
    for reason, count in sorted(heartbeat.dropped.items()):
        sheet.set(families.DROPPED, count, name, reason)
    for task, times in sorted(heartbeat.tasks.items()):
        _add_task(sheet, name, task, times)
    for held in heartbeat.holds:
        sheet.set(families.BATCHES_HELD, held.batches, name, held.feed)
        sheet.set(families.ROWS_HELD, held.rows, name, held.feed)


def _add_task(sheet: Sheet, process: str, task: str, times: TaskTimes) -> None:
    buckets: list[tuple[float, int]] = []
    below = 0
    for bound, count in zip((*DURATION_BOUNDS, float("inf")), times.buckets, strict=True):
        below += count
        buckets.append((bound, below))
    sheet.histogram(families.TASK_SECONDS, buckets, times.seconds, process, task)
    sheet.set(families.TASK_FAILURES, times.failed, process, task)


def _attempts(sums: Sums) -> dict[tuple[str, str], int]:
    """(outcome, status) → attempts. What had an outcome and no status is `none`."""
    answers = sums.under("answers")
    attempts = {
        (outcome, status): n
        for name, n in answers.items()
        for outcome, _, status in [name.rpartition("_")]
    }
    for outcome, count in sums.under("outcomes").items():
        unanswered = count - sum(n for (told, _), n in attempts.items() if told == outcome)
        attempts[outcome, "none"] = max(0, unanswered)
    return {named: n for named, n in sorted(attempts.items()) if n}


def _cumulated(buckets: Mapping[str, int], edges: Sequence[int]) -> list[tuple[float, int]]:
    """The ledger's buckets as a histogram's: (upper bound in seconds, how many are at or below it)."""
    counted = {int(bucket): count for bucket, count in buckets.items()}
    below = [
        (bucket_bound(edge) / 1000, sum(n for bucket, n in counted.items() if bucket <= edge))
        for edge in edges
    ]
    return [*below, (float("inf"), sum(counted.values()))]


def _seconds_since(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def add_values(sheet: Sheet, family: Family, values: Mapping[str, float | None]) -> None:
    """A family with one label: its value → the sample."""
    for label, value in values.items():
        sheet.set(family, value, label)
