"""Runs periodic jobs: each does its work once for each period, however often and by however many it
is asked to.

Beat only knocks: it sends each job's message every minute, and a worker asks the ledger which
periods are due. So it does not matter whether beat was away, runs twice, or its message is
delivered twice. One pass for a job:

1. plan: insert a tick for each period that has ended since the job's latest tick, and for the
   current one. The tick's id is the period's, so a pass that dies halfway, or runs twice at once,
   inserts each of them once;
2. close what the job's misfire rule leaves out as skipped, with the reason;
3. claim the oldest due tick by a conditional update that gives a lease and a token. The lease is
   renewed while the work goes on; when a worker is killed, another takes over once the lease has
   run out;
4. work, step by step (one a feed). A finished step is recorded in the tick, and a worker that takes
   over skips it;
5. close the tick as done; or release it for another try; or, when its tries are spent, close it as
   failed.

Dying after a step's work and before its record repeats the step, under another token. The work must
allow that, and does: a report compiled again is the same, a purge finds nothing left, a
reconciliation nothing missing.

A job that the ledger has never seen starts with the current period: no history is made up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias
from zoneinfo import ZoneInfo

import structlog

from app.core.clock import Clock, utc_now
from app.core.errors import LeaseLost, SourceRefused
from app.core.period import Period, period_of, periods
from app.core.renewal import kept_renewed
from app.core.unforeseen import is_bug, told
from app.jobs.schedule import HORIZON, JOBS, MAX_TRIES, SETTLE, Job, is_put_off, missed, wait_after
from app.ledger import Ledger
from app.ledger.persistence import persistent
from app.ledger.ticks import StepDone, Tick, Ticks, TickState

log = structlog.get_logger()

LONGEST_RUN = timedelta(days=1)
"""Work that takes longer is stopped and counts as a failed try: nothing holds a lease for ever."""
KEPT = timedelta(days=100)
"""How long a finished tick is kept."""
_ERROR_LIMIT = 500

Result: TypeAlias = Mapping[str, object]
"""What came of a step: small, in BSON's types."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a job's work. Repeating it for a period must do no harm."""

    name: str
    work: Callable[[Period], Awaitable[Result]]


Works: TypeAlias = Mapping[str, Sequence[Step]]
"""Job name → its steps, in order. A failed step does not stop those after it."""


@dataclass(slots=True)
class Work:
    """A claimed tick in progress."""

    tick: Tick
    errors: dict[str, str] = field(default_factory=dict)
    """Step → why it failed this time."""
    finished: int = 0
    """Steps finished under this lease."""


class Periodic:
    """Runs periodic jobs for one worker process."""

    def __init__(
        self,
        ledger: Ledger,
        works: Works,
        *,
        zone: ZoneInfo,
        worker: str,
        lease: timedelta,
        jobs: Sequence[Job] = JOBS,
        now: Clock = utc_now,
    ) -> None:
        self._ticks = ledger.ticks
        self._works = works
        self._zone = zone
        self._worker = worker
        self._lease = lease
        self._jobs = {job.name: job for job in jobs}
        self._now = now
        self._draining = False
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, name: str) -> int:
        """Do the job's work for each period that is due, oldest first. Returns how many were worked
        on.

        Never raises what the work raises: the tick records that. Raises the ledger's errors.
        """
        job = self._jobs[name]
        for planned in [self._jobs[job.after], job] if job.after else [job]:
            await self._plan(planned)
        await self._close_missed(job)
        worked = 0
        while tick := await self._claim_next(job):
            await self._work(tick)
            worked += 1
        return worked

    def take(self, works: Works) -> None:
        """Use these for the periods that begin from now on."""
        self._works = works

    def drain(self, grace: timedelta) -> None:
        """Begin nothing more, and give work in progress `grace` to finish; then release it for
        another worker to continue. Call it on the event loop.
        """
        self._draining = True
        asyncio.get_running_loop().call_later(grace.total_seconds(), self._cut)

    def _cut(self) -> None:
        for working in self._under_way:
            working.cancel()

    # --- which periods there are

    async def _plan(self, job: Job) -> None:
        now = self._now()
        if unplanned := await self._ticks.unplan(job.name, now):
            log.warning("future_periods_unplanned", job=job.name, periods=unplanned)
        latest = await self._ticks.latest(job.name, now)
        if latest and latest.period.end > now:
            return
        planned = [period_of(now, job.kind, self._zone)]
        if latest:
            since = max(latest.period.end, now - HORIZON)
            planned = [*periods(since, now, job.kind, self._zone), *planned]
            if since > latest.period.end:
                log.warning(
                    "periods_not_planned",
                    job=job.name,
                    since=latest.period.end,
                    until=planned[0].start,
                )
        await self._ticks.plan(job.name, [(period, period.end + SETTLE) for period in planned])
        await self._ticks.forget(job.name, now - KEPT)

    async def _close_missed(self, job: Job) -> None:
        now = self._now()
        ended = [
            tick for tick in await self._ticks.open(job.name) if tick.period.end + SETTLE <= now
        ]
        closed = [
            tick for tick, why in missed(job, ended, now) if await self._close_unrun(tick, why, now)
        ]
        if closed:
            first, last = closed[0].period.name, closed[-1].period.name
            log.warning("periods_missed", job=job.name, periods=len(closed), first=first, last=last)

    async def _close_unrun(self, tick: Tick, why: str, now: datetime) -> bool:
        """Close a tick that no worker holds. Returns whether it was closed."""
        if tick.held(now):
            return False
        if tick.tries:
            why = f"{why}; {tick.error or 'its worker stopped'}"
        return await self._ticks.close_missed(
            tick, TickState.FAILED if tick.tries else TickState.SKIPPED, now, why
        )

    async def _claim_next(self, job: Job) -> Tick | None:
        """The job's oldest due tick, under a lease of ours. A job never runs for two periods at
        once.
        """
        if self._draining:
            return None
        now = self._now()
        ticks = await self._hastened(job, now)
        if any(tick.held(now) for tick in ticks):
            return None
        for tick in ticks:
            if tick.due_at <= now and not await waits_for(self._ticks, job, tick, now):
                return await self._ticks.claim(tick, self._worker, now, self._lease)
        return None

    async def _hastened(self, job: Job, now: datetime) -> list[Tick]:
        """The job's open ticks, oldest period first. Those that a wrong clock put off become due
        now.
        """
        ticks = await self._ticks.open(job.name)
        put_off = [tick for tick in ticks if is_put_off(tick, now)]
        for tick in put_off:
            log.warning("tick_hastened", tick=tick.id, due_at=tick.due_at)
            await self._ticks.hasten(tick, now)
        return await self._ticks.open(job.name) if put_off else ticks

    # --- the work for one of them

    async def _work(self, tick: Tick) -> None:
        if tick.previous:
            log.warning("tick_taken_over", tick=tick.id, left_by=tick.previous.worker)
        work = Work(tick)
        try:
            if tick.fruitless > MAX_TRIES:
                work.errors["work"] = f"{MAX_TRIES} workers in a row stopped while working on it"
            elif not await self._attended(work):
                await self._ticks.release(tick)
                return
            await self._close(work)
        except LeaseLost as error:
            log.warning("tick_lost", tick=tick.id, error=str(error))

    async def _attended(self, work: Work) -> bool:
        """Take the steps while the lease is renewed. Returns whether they ended, well or badly."""
        working = asyncio.create_task(self._take_steps(work))
        self._under_way.add(working)
        try:
            async with self._renewing(work.tick, working):
                ended, _ = await asyncio.wait({working}, timeout=LONGEST_RUN.total_seconds())
        finally:
            self._under_way.discard(working)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        if not ended:
            work.errors["work"] = f"not finished after {LONGEST_RUN}"
        elif working.cancelled():
            return False
        else:
            working.result()  # raises what the ledger raised
        return True

    async def _take_steps(self, work: Work) -> None:
        done = {step.name for step in work.tick.steps}
        for step in self._works[work.tick.job]:
            if step.name not in done:
                await self._take(step, work)

    async def _take(self, step: Step, work: Work) -> None:
        started = time.monotonic()
        try:
            with persistent(job=work.tick.job, step=step.name):
                result = await step.work(work.tick.period)
        except SourceRefused as error:  # recorded, and not asked again for this period
            log.warning("step_refused", tick=work.tick.id, step=step.name, error=str(error))
            result = {"refused": str(error)[:_ERROR_LIMIT]}
        except Exception as error:
            work.errors[step.name] = told(error)
            log.warning(
                "step_failed",
                tick=work.tick.id,
                step=step.name,
                error=told(error),
                exc_info=is_bug(error),
            )
            return
        took_ms = round((time.monotonic() - started) * 1000)
        await self._ticks.note_step(work.tick, StepDone(step.name, self._now(), took_ms, result))
        work.finished += 1

    async def _close(self, work: Work) -> None:
        """Close the tick, or release it for another try."""
        tick, now = work.tick, self._now()
        fruitless = 0 if work.finished else tick.fruitless
        error = "; ".join(f"{step}: {text}" for step, text in work.errors.items())[:_ERROR_LIMIT]
        if not error:
            await self._ticks.finish(tick, TickState.DONE, now, None)
            log.info("tick_done", tick=tick.id, tries=tick.tries)
        elif fruitless >= MAX_TRIES:
            await self._ticks.finish(tick, TickState.FAILED, now, error)
            log.error("tick_failed", tick=tick.id, tries=tick.tries, error=error)
        else:
            due_at = now + wait_after(fruitless)
            await self._ticks.retry(tick, due_at, error)
            log.warning("tick_waits", tick=tick.id, tries=tick.tries, due_at=due_at, error=error)

    # --- holding the lease

    def _renewing(
        self, tick: Tick, working: asyncio.Task[None]
    ) -> AbstractAsyncContextManager[None]:
        """Renew the lease for as long as the body runs. Cancels the work once another worker may
        hold the lease.
        """

        async def renew() -> None:
            await self._ticks.renew(tick, self._now() + self._lease)

        def lose(why: LeaseLost) -> None:
            log.warning("tick_lost", tick=tick.id, error=str(why))
            working.cancel()

        return kept_renewed(self._lease, renew, self._now, lose, tick=tick.id)


async def waits_for(ticks: Ticks, job: Job, tick: Tick, now: datetime) -> Tick | None:
    """The tick that the job before has yet to finish: this period's, or a later one that stands for
    it.
    """
    first = await ticks.standing_for(job.after, tick.period.end) if job.after else None
    return first if first and first.state is TickState.OPEN and first.period.end <= now else None
