"""Periodic jobs: how each is doing, and one run now."""

from __future__ import annotations

from collections.abc import Sequence

from app.configuration.loaded import Loaded
from app.console.audit.service import Audit
from app.console.errors import Conflict, NotFound
from app.console.security.roles import Permission, Principal
from app.core.clock import Clock, utc_now
from app.jobs.schedule import JOBS, Job
from app.operations.by import By
from app.operations.run_job import Asked, Outcome, run_job
from app.reads.jobs import JobStatus, read_jobs
from app.runtime.operator import Operator

_REFUSED = {
    Outcome.RUNS: "{job}: {worker} is at {period}: wait until it has ended",
    Outcome.DUE: "{job}: {period} is due, and waits for a worker: look whether one is up",
    Outcome.NOTHING: "{job}: no period of it is over and waits; it runs by itself once one is",
}


class Jobs:
    """Reads and runs them."""

    def __init__(
        self, loaded: Loaded, operator: Operator, audit: Audit, now: Clock = utc_now
    ) -> None:
        self._loaded = loaded
        self._operator = operator
        self._audit = audit
        self._now = now

    @property
    def timezone(self) -> str:
        """Whose hours and days they go by."""
        return self._loaded.settings.timezone

    async def list(self, actor: Principal) -> Sequence[tuple[JobStatus, Job]]:
        """Each job. Raises `Forbidden`, and the ledger's errors."""
        actor.require(Permission.LOOK)
        found = await read_jobs(self._operator.ledger, self._now())
        return [*zip(found, JOBS, strict=True)]

    async def run(self, actor: Principal, name: str, why: str) -> Asked:
        """Have one run now. Raises `Forbidden`, `NotFound`; `Conflict` where it runs, is due, or
        nothing of it can be done; the ledger's errors."""
        actor.require(Permission.RUN_JOBS)
        job = next((job for job in JOBS if job.name == name), None)
        if job is None:
            known = ", ".join(job.name for job in JOBS)
            raise NotFound(f"no job {name[:40]!r}; there are {known}")
        await self._audit.note(actor, "job.run_asked", name, why=why)
        operator = self._operator
        asked = await run_job(
            operator.ledger,
            operator.queue,
            job,
            By(actor.name, why),
            now=self._now(),
            zone=self._loaded.settings.zone,
        )
        told = {"outcome": asked.outcome.value, "period": asked.period}
        await self._audit.note(
            actor, "job.run" if asked.will_run else "job.not_run", name, why=why, after=told
        )
        if not asked.will_run:
            said = _REFUSED[asked.outcome]
            raise Conflict(said.format(job=name, worker=asked.worker, period=asked.period))
        return asked
