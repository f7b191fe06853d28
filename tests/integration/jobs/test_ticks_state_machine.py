"""The promises of periodic jobs, held at random: workers that die, freeze past their lease, or lose
the ledger between any two of their steps, while the clock goes on and others take over.

`ROWRELAY_EXAMPLES=2000` makes it a long run, with new examples each time; a failure is then reduced
to a short one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from app.core.batches import Lease
from app.core.errors import LedgerUnavailable
from app.core.period import Kind, Period
from app.jobs.periodic import Periodic, Result, Step
from app.jobs.schedule import MAX_TRIES, SETTLE, Job, Misfire
from app.ledger import Ledger
from app.ledger.ticks import Tick, TickState
from tests.support.doubles import VirtualClock
from tests.support.periodic import LEASE, all_ticks
from tests.support.stateful import LONG, run_at_random
from tests.support.steps import Crashed, Fate, Steps, stepped_ledger
from tests.support.steps import Kind as Struck

EXAMPLES = 6
STEPS = 30
HOUR = timedelta(hours=1)
ALL, ONCE = Job("all", Kind.HOUR, Misfire.ALL), Job("once", Kind.HOUR, Misfire.ONCE)
JOBS = (ALL, ONCE)
PARTS = ("orders", "bills")
BERLIN = ZoneInfo("Europe/Berlin")

fates = st.one_of(
    st.just(Fate()),
    *(
        st.builds(Fate, st.just(kind), st.integers(1, 14), st.booleans())
        for kind in (Struck.CRASH, Struck.FREEZE, Struck.OUTAGE)
    ),
)
waits = st.sampled_from([timedelta(0), SETTLE, LEASE, HOUR / 2, HOUR, 6 * HOUR])


class Clockwork(RuleBasedStateMachine):
    """Rules are what can happen; invariants are what is promised all the same."""

    def __init__(self, runner: asyncio.Runner, ledger: Ledger) -> None:
        super().__init__()
        self.runner, self.ledger = runner, ledger
        self.clock = VirtualClock()
        self.frozen: list[tuple[Steps, asyncio.Future[Any]]] = []
        self.claims: Counter[str] = Counter()
        """Tick → how often it was claimed."""
        self.begun: Counter[tuple[str, str]] = Counter()
        """(tick, step) → how often its work was begun."""
        self.closings: Counter[str] = Counter()
        """Tick → how often it was closed."""
        self.closed: dict[str, Tick] = {}
        self.leases: dict[str, Lease] = {}
        """Tick → who holds it."""
        self.shared: list[str] = []
        """Ticks that were claimed while another's lease ran."""
        self.early: list[str] = []
        """Periods whose work was begun before they had ended and settled."""
        self.broken = False

    @initialize()
    def begin(self) -> None:
        self.runner.run(_emptied(self.ledger))
        self.knock(Fate(), ALL, timedelta(0))
        self.knock(Fate(), ONCE, timedelta(0))

    @rule(fate=fates, job=st.sampled_from(JOBS), after=waits)
    def knock(self, fate: Fate, job: Job, after: timedelta) -> None:
        self.clock.advance(after)
        self.runner.run(self._run(Steps(fate), job))

    @rule(
        fate=fates,
        job=st.sampled_from(JOBS),
        step=st.integers(3, 10),
        after=st.booleans(),
        dead=st.booleans(),
    )
    def a_slow_worker_is_overtaken(
        self, fate: Fate, job: Job, step: int, after: bool, dead: bool
    ) -> None:
        """It stands still for longer than its lease; another takes over; it goes on, or was dead
        all the time.
        """
        others = len(self.frozen)
        self.knock(Fate(Struck.FREEZE, step, after), job, HOUR)
        self.knock(fate, job, LEASE)
        if len(self.frozen) > others:
            self._thaw(others, dead=dead)

    @precondition(lambda self: self.frozen)
    @rule(pick=st.integers(0, 9), dead=st.booleans())
    def thaw(self, pick: int, dead: bool) -> None:
        self._thaw(pick % len(self.frozen), dead=dead)

    # --- what is promised

    @invariant()
    def promises_hold(self) -> None:
        ticks = {job: self.runner.run(all_ticks(self.ledger, job.name)) for job in JOBS}
        try:
            assert not self.early
            assert not self.shared
            for found in ticks.values():
                self._periods_are_without_gaps(found)
                for tick in found:
                    self._work_is_begun_once_a_claim(tick)
                    self._what_is_closed_stays_as_it_is(tick)
        except AssertionError:
            self.broken = True
            raise

    def _periods_are_without_gaps(self, ticks: list[Tick]) -> None:
        assert all(earlier.period.end == later.period.start for earlier, later in pairwise(ticks))

    def _work_is_begun_once_a_claim(self, tick: Tick) -> None:
        assert all(self.begun[tick.id, part] <= self.claims[tick.id] for part in PARTS)
        recorded = [step.name for step in tick.steps]
        assert len(recorded) == len(set(recorded)), "a step is recorded once, whoever did it again"

    def _what_is_closed_stays_as_it_is(self, tick: Tick) -> None:
        assert (
            self.closed.setdefault(tick.id, tick) == tick
            if tick.state is not TickState.OPEN
            else True
        )
        assert self.closings[tick.id] <= 1

    # --- at the end, nothing was left out

    def teardown(self) -> None:
        try:
            if not self.broken:
                while self.frozen:
                    self._thaw(0, dead=len(self.frozen) % 2 == 0)
                self._run_until_quiet()
                self._all_is_made_up_for()
        finally:
            while self.frozen:
                self._thaw(0, dead=True)

    def _run_until_quiet(self) -> None:
        for _ in range(4):
            for job in JOBS:
                self.knock(Fate(), job, HOUR / 2)
            self.promises_hold()

    def _all_is_made_up_for(self) -> None:
        for job in JOBS:
            ticks = self.runner.run(all_ticks(self.ledger, job.name))
            ended = [tick for tick in ticks if tick.period.end + 3 * HOUR <= self.clock.time]
            for tick in ended:
                assert tick.state is not TickState.OPEN, "a state without an exit"
                assert tick.state is not TickState.DONE or {
                    step.name for step in tick.steps
                } == set(PARTS)
                assert tick.state is not TickState.FAILED or tick.error
            if job is ALL:
                assert all(
                    tick.state is TickState.DONE
                    for tick in ended
                    if self.claims[tick.id] <= MAX_TRIES
                )
            elif ended and self.claims[ended[-1].id] <= MAX_TRIES:
                assert ended[-1].state is TickState.DONE

    # --- running one process

    async def _run(self, steps: Steps, job: Job) -> None:
        steps.seen = self._saw
        ledger = stepped_ledger(self.ledger, steps)
        works = {
            job.name: [Step(part, self._work(job, part, steps)) for part in PARTS] for job in JOBS
        }
        worker = Periodic(
            ledger, works, zone=BERLIN, worker="w", lease=LEASE, jobs=JOBS, now=self.clock
        )
        await self._until_it_stops(steps, asyncio.ensure_future(worker.run(job.name)))

    def _work(self, job: Job, part: str, steps: Steps) -> Any:
        async def begun(period: Period) -> Result:
            if self.clock.time < period.end + SETTLE:
                self.early.append(period.name)
            self.begun[f"{job.name}|{period.name}", part] += 1
            return {}

        async def work(period: Period) -> Result:
            return await steps.take("work", begun, (period,), LedgerUnavailable)  # type: ignore[no-any-return]

        return work

    def _saw(self, step: str, args: tuple[Any, ...], result: Any) -> None:
        if step == "claim" and result:
            self.claims[result.id] += 1
            if result.id in self.leases and self.leases[result.id].until > self.clock.time:
                self.shared.append(result.id)
            self.leases[result.id] = result.lease
        if step in ("finish", "retry", "release"):
            self.leases.pop(args[0].id)
        if step == "finish" or (step == "close_missed" and result):
            self.closings[args[0].id] += 1

    def _thaw(self, place: int, *, dead: bool) -> None:
        steps, task = self.frozen.pop(place)
        steps.thaw(dead=dead)
        self.runner.run(self._until_it_stops(steps, task))

    async def _until_it_stops(self, steps: Steps, task: asyncio.Future[Any]) -> None:
        """Run a process until it has ended, died or frozen. What else it raises is a fault in the
        code under test.
        """
        frozen = asyncio.create_task(steps.frozen.wait())
        done, _ = await asyncio.wait(
            {task, frozen}, return_when=asyncio.FIRST_COMPLETED, timeout=10
        )
        frozen.cancel()
        assert done, f"neither ended nor frozen: {task}"
        if not task.done():
            steps.frozen.clear()
            self.frozen.append((steps, task))
        elif (error := task.exception()) and not isinstance(error, Crashed | LedgerUnavailable):
            self.broken = True
            raise error


async def _emptied(ledger: Ledger) -> None:
    await ledger._database["ticks"].delete_many({})


@pytest.mark.timeout(0 if LONG else 600)
def test_no_interruption_skips_or_doubles_a_period(
    runner: asyncio.Runner, runner_ledger: Ledger
) -> None:
    run_at_random(lambda: Clockwork(runner, runner_ledger), EXAMPLES, STEPS)
