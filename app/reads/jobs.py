"""How each periodic job is doing: the period done last, the one due next, and the last error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.jobs.periodic import waits_for
from app.jobs.schedule import JOBS, Job
from app.ledger import Ledger
from app.ledger.ticks import StepDone, Tick, TickState

LATE = timedelta(minutes=15)
"""A period overdue for longer that no worker has taken is reported as late: beat or the workers are
down.
"""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How one job is doing."""

    job: str
    every: str
    misfire: str
    last_done: str | None
    """The latest period that is done; `None` where none is."""
    done_at: datetime | None
    duration_ms: int | None
    """What its steps took."""
    steps: Sequence[StepDone]
    """Of that period."""
    next_period: str | None
    next_due: datetime | None
    now: str
    """`waits`, `runs at <worker>`, `due`, `late`, `waits for <job>` or `not seen yet`."""
    last_error: str | None
    error_period: str | None
    ok: bool
    """Not late; and of the latest period that was tried, nothing was given up, refused by the
    source or incomplete.
    """


async def read_jobs(ledger: Ledger, now: datetime) -> list[JobStatus]:
    """The status of each job, read from its ticks. Raises the ledger's errors."""
    return [await _job_status(ledger, job, now) for job in JOBS]


async def _job_status(ledger: Ledger, job: Job, now: datetime) -> JobStatus:
    waiting = await ledger.ticks.open(job.name)
    done = await ledger.ticks.last(job.name, [TickState.DONE])
    tried = await ledger.ticks.last(job.name, [TickState.DONE, TickState.FAILED])
    refused = _refused(tried) if tried else None
    wrong = next((tick for tick in waiting if tick.error), None) or (
        tried if refused else await ledger.ticks.last(job.name, [TickState.FAILED])
    )
    following = next((tick for tick in waiting if tick.held(now)), waiting[0] if waiting else None)
    stands = await _stands(ledger, job, following, now)
    return JobStatus(
        job=job.name,
        every=job.kind.value,
        misfire=job.misfire.value,
        last_done=done.period.name if done else None,
        done_at=done.finished_at if done else None,
        duration_ms=done.duration_ms if done else None,
        steps=done.steps if done else (),
        next_period=following.period.name if following else None,
        next_due=following.due_at if following else None,
        now=stands,
        last_error=(wrong.error or refused) if wrong else None,
        error_period=wrong.period.name if wrong else None,
        ok=stands != "late" and not refused and (tried is None or tried.state is TickState.DONE),
    )


def _refused(tick: Tick) -> str | None:
    """What the source refused in a period that is done, and what is not complete, by step."""
    found = [
        f"{step.name}: {step.result['refused']}" for step in tick.steps if "refused" in step.result
    ]
    found += [
        f"{step.name}: NOT COMPLETE" for step in tick.steps if step.result.get("complete") is False
    ]
    return "; ".join(found) or None


async def _stands(ledger: Ledger, job: Job, tick: Tick | None, now: datetime) -> str:
    if tick is None:
        return "not seen yet"
    if tick.lease is not None and tick.held(now):
        return f"runs at {tick.lease.worker}"
    if tick.due_at > now:
        return "waits"
    if first := await waits_for(ledger.ticks, job, tick, now):
        return f"waits for {first.job}"
    return "late" if now - tick.due_at > LATE else "due"
