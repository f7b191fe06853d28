"""Run a periodic job now: what of it waits becomes due, or its work is done once more between two
periods. A worker does it, as ever under the lease of a tick: never two at once.

A job whose work depends on its period, as a report does, is not run before the period is over.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

import structlog

from app.broker.queue import KnockingQueue
from app.core.errors import BrokerUnavailable
from app.core.period import Period, period_of
from app.jobs.schedule import SETTLE, Job
from app.ledger import Ledger
from app.ledger.ticks import Tick
from app.operations.by import By

log = structlog.get_logger()


class Outcome(StrEnum):
    """What came of asking."""

    HASTENED = "hastened"
    """A period that waited, to be tried again or for its turn, is due now."""
    ADDED = "added"
    """The work is done once more, beside that of the periods."""
    RUNS = "runs"
    """Nothing was done: a worker is at it."""
    DUE = "due"
    """Nothing was done: it is due already, and waits for a worker."""
    NOTHING = "nothing"
    """Nothing was done: no period of it is over and waits."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking for a job."""

    outcome: Outcome
    period: str | None
    """Which one is meant; `None`: none is known."""
    worker: str | None = None
    """`RUNS`: who is at it."""

    @property
    def will_run(self) -> bool:
        """Something was done so that it runs."""
        return self.outcome in (Outcome.HASTENED, Outcome.ADDED)


async def run_job(
    ledger: Ledger, queue: KnockingQueue, job: Job, by: By, *, now: datetime, zone: ZoneInfo
) -> Asked:
    """Have the job run now. Raises the ledger's errors. While Redis is away beat's next knock, or
    that of a minute later, has it run."""
    asked = await _ask(ledger, job, now, zone)
    if asked.will_run or asked.outcome is Outcome.DUE:
        with suppress(BrokerUnavailable):
            await queue.knock(job.task)
    log.info(
        "job_asked_for",
        job=job.name,
        outcome=asked.outcome.value,
        period=asked.period,
        by=by.who,
        why=by.why,
    )
    return asked


async def _ask(ledger: Ledger, job: Job, now: datetime, zone: ZoneInfo) -> Asked:
    ticks = await ledger.ticks.open(job.name)
    if held := next((tick for tick in ticks if tick.lease and tick.held(now)), None):
        assert held.lease is not None  # noqa: S101 - by what was looked for
        return Asked(Outcome.RUNS, held.period.name, held.lease.worker)
    if due := next((tick for tick in ticks if tick.due_at <= now), None):
        return Asked(Outcome.DUE, due.period.name)
    if waiting := _over(ticks, now):
        for tick in waiting:
            await ledger.ticks.hasten(tick, now)
        return Asked(Outcome.HASTENED, waiting[0].period.name)
    if not job.any_time:
        return Asked(Outcome.NOTHING, ticks[0].period.name if ticks else None)
    return await _add(ledger, job, now, zone)


def _over(ticks: list[Tick], now: datetime) -> list[Tick]:
    """Those whose period is over, and that wait to be tried again."""
    return [tick for tick in ticks if tick.period.end + SETTLE <= now]


async def _add(ledger: Ledger, job: Job, now: datetime, zone: ZoneInfo) -> Asked:
    """A tick for what has passed of the present period; one a minute, whoever asks."""
    present = period_of(now, job.kind, zone)
    name = now.astimezone(zone).isoformat(timespec="minutes")
    extra = Period(job.kind, present.start, now, name)
    added = await ledger.ticks.plan(job.name, [(extra, now)])
    return Asked(Outcome.ADDED if added else Outcome.DUE, name)
