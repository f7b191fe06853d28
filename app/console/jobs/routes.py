"""`/api/v1/jobs`: periodic jobs, and one run now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.console.dependencies import By, Given
from app.console.jobs.schemas import JobShown, JobsShown, RunAsked, RunShown
from app.jobs.schedule import Job
from app.reads.jobs import JobStatus

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("")
async def list_jobs(by: By, given: Given) -> JobsShown:
    """Each job: the period done last, what is due next, and the last error."""
    found = await given.jobs.list(by)
    return JobsShown(
        timezone=given.jobs.timezone, items=[_shown(status, job) for status, job in found]
    )


@router.post("/{name}/run", status_code=202)
async def run(
    name: Annotated[str, Path(min_length=1, max_length=60)], asked: RunAsked, by: By, given: Given
) -> RunShown:
    """Run one now: what of it waits becomes due; a reconciliation or purge is done once more where
    nothing waits. A worker does it; never two at once."""
    done = await given.jobs.run(by, name, asked.why)
    return RunShown(name=name, outcome=done.outcome, period=done.period)


def _shown(status: JobStatus, job: Job) -> JobShown:
    return JobShown(
        name=status.job,
        every=status.every,
        misfire=status.misfire,
        last_done=status.last_done,
        done_at=status.done_at,
        duration_ms=status.duration_ms,
        next_period=status.next_period,
        next_due=status.next_due,
        now=status.now,
        last_error=status.last_error,
        error_period=status.error_period,
        ok=status.ok,
        any_time=job.any_time,
    )
