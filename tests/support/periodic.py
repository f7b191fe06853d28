"""Periodic jobs for tests: work that notes what it was asked for, in a zone, by a clock that is
moved by hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from app.core.period import Period
from app.jobs.periodic import Periodic, Result, Step
from app.jobs.schedule import JOBS, SETTLE, Job
from app.ledger import Ledger
from app.ledger.client import query
from app.ledger.ticks import Tick, TickState, _tick
from tests.support.doubles import VirtualClock
from tests.support.steps import Steps, stepped_ledger

LEASE = timedelta(minutes=1)
UTC_ZONE = ZoneInfo("UTC")


class Office:
    """Where the work is done: what was done, for which period, and what goes wrong with it."""

    def __init__(self, ledger: Ledger, zone: str = "UTC", jobs: Sequence[Job] = JOBS) -> None:
        self.ledger = ledger
        self.zone = ZoneInfo(zone)
        self.jobs = jobs
        self.clock = VirtualClock()
        self.done: dict[str, list[str]] = defaultdict(list)
        """Job, or job and step where it has several → the periods it was done for, in order."""
        self.periods: dict[str, Period] = {}
        self.failing: dict[str, Exception] = {}
        """Step → what it raises."""

    def worker(
        self, name: str = "w1", *, stepped: Steps | None = None, **named: Sequence[str]
    ) -> Periodic:
        """A worker process. `named`: job → the names of its steps; one called `all` where none are
        given.
        """
        works = {
            job.name: [self.step(job.name, step) for step in named.get(job.name, ("all",))]
            for job in self.jobs
        }
        ledger = stepped_ledger(self.ledger, stepped) if stepped else self.ledger
        return Periodic(
            ledger, works, zone=self.zone, worker=name, lease=LEASE, jobs=self.jobs, now=self.clock
        )

    def step(self, job: str, name: str) -> Step:
        async def work(period: Period) -> Result:
            if name in self.failing:
                raise self.failing[name]
            self.done[job if name == "all" else f"{job} {name}"].append(period.name)
            self.periods[period.name] = period
            return {"rows": 7}

        return Step(name, work)

    def at(self, text: str) -> None:
        """Move the clock to a local time."""
        self.clock.time = datetime.fromisoformat(text).replace(tzinfo=self.zone).astimezone(UTC)

    def local(self, after: timedelta) -> str:
        """The local time after that long."""
        return f"{(self.clock.time + after).astimezone(self.zone):%Y-%m-%dT%H:%M}"

    async def beat(
        self, worker: Periodic, until: str, every: timedelta = timedelta(minutes=30)
    ) -> None:
        """Knock for each job, over and over, until a local time."""
        end = datetime.fromisoformat(until).replace(tzinfo=self.zone).astimezone(UTC)
        while self.clock.time <= end:
            for job in self.jobs:
                await worker.run(job.name)
            self.clock.advance(every)

    async def states(self, job: str) -> Mapping[str, TickState]:
        """The job's ticks by period, but for those that have not ended."""
        ticks = await all_ticks(self.ledger, job)
        return {t.period.name: t.state for t in ticks if t.period.end + SETTLE <= self.clock.time}


@query
async def all_ticks(ledger: Ledger, job: str) -> list[Tick]:
    """Every tick of a job, the oldest period first."""
    found = await ledger._database["ticks"].find({"job": job}).to_list()
    return sorted(map(_tick, found), key=lambda tick: tick.period.end)


async def tick_of(office: Office, job: str, period: str) -> Tick:
    """A job's tick for the period of that name."""
    return next(tick for tick in await all_ticks(office.ledger, job) if tick.period.name == period)
