"""When a periodic job is due: its periods, what is done about missed ones, and how failures are
retried. Pure rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from app.core.backoff import doubled
from app.core.clock import AGREED
from app.core.period import Kind

if TYPE_CHECKING:  # beat and the messages need the names alone, and no ledger
    from app.ledger.ticks import Tick

SETTLE = timedelta(minutes=1)
"""How long a period is left alone after its end: groups of results are counted late, but never by
as much as this.
"""
HORIZON = timedelta(days=7)
"""Periods that ended longer ago are not made up for, whatever the rule."""
MAX_TRIES = 8
"""Tries in a row that finish no step before a period is given up: about two hours, with the waits
between them.
"""
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)


class Misfire(StrEnum):
    """What happens to periods that ended while no worker was running."""

    SKIP = "skip"
    """Only the one that just ended is worked on, and only within the job's `grace`."""
    ONCE = "once"
    """One run stands for all of them."""
    ALL = "all"
    """Each is made up for, oldest first, as far back as `HORIZON`."""


@dataclass(frozen=True, slots=True)
class Job:
    """When a job is due."""

    name: str
    """As operators write it; ticks and metrics carry it."""
    kind: Kind
    misfire: Misfire
    after: str | None = None
    """Waits until this job has finished the same period, well or badly."""
    any_time: bool = False
    """Its work is the same whatever the period: an operator may have it done between two."""
    grace: timedelta = timedelta(minutes=15)
    """`skip`: how late it may still start."""

    @property
    def task(self) -> str:
        """The name of its Celery task: a Python name."""
        return self.name.replace("-", "_")


REPORT_HOUR = Job("report-hour", Kind.HOUR, Misfire.ALL)
RECONCILE = Job("reconcile", Kind.DAY, Misfire.ONCE, any_time=True)
REPORT_DAY = Job("report-day", Kind.DAY, Misfire.ALL, after=RECONCILE.name)
PURGE = Job("purge", Kind.HOUR, Misfire.ONCE, any_time=True)
JOBS = (REPORT_HOUR, RECONCILE, REPORT_DAY, PURGE)


def missed(job: Job, ended: Sequence[Tick], now: datetime) -> list[tuple[Tick, str]]:
    """Which of a job's open ticks, whose periods have ended (oldest first), are no longer worked
    on, and why.
    """
    if not ended:
        return []
    if job.misfire is Misfire.ALL:
        return [
            (tick, f"older than {HORIZON.days} days")
            for tick in ended
            if tick.period.end < now - HORIZON
        ]
    newest = ended[-1]
    if job.misfire is Misfire.ONCE:
        return [(tick, f"{newest.period.name} stands for it") for tick in ended[:-1]]
    in_time = now <= newest.period.end + SETTLE + job.grace
    return [(tick, "missed") for tick in (ended[:-1] if in_time else ended)]


def is_put_off(tick: Tick, now: datetime) -> bool:
    """Whether a tick is due later than its period and its tries allow: a wrong clock wrote that."""
    latest = max(tick.period.end + SETTLE, now + wait_after(tick.fruitless))
    return tick.due_at > latest + AGREED


def wait_after(tries: int) -> timedelta:
    """How long a period waits after that many tries in a row (0 or more) that finished no step."""
    return doubled(FIRST_WAIT, tries - 1, LONGEST_WAIT)
