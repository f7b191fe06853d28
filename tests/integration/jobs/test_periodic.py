"""Each period is worked at once, in order, whoever knocks and whoever was away. The clock is moved
by hand.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest

from app.core.batches import Lease
from app.core.errors import LedgerUnavailable, SourceRefused, SourceUnavailable
from app.core.period import Kind, Period
from app.jobs.periodic import KEPT, Periodic, Result, Step
from app.jobs.schedule import (
    HORIZON,
    JOBS,
    MAX_TRIES,
    PURGE,
    RECONCILE,
    REPORT_DAY,
    REPORT_HOUR,
    SETTLE,
    Job,
    Misfire,
)
from app.ledger import Ledger
from app.ledger.ticks import TickState
from tests.support.periodic import LEASE, Office, all_ticks, tick_of
from tests.support.steps import Crashed, Fate, Steps
from tests.support.steps import Kind as Struck
from tests.support.wait import until

HOURLY = {rule: Job(f"hourly-{rule}", Kind.HOUR, rule) for rule in Misfire}
ALL, ONCE, SKIP = (HOURLY[rule].name for rule in (Misfire.ALL, Misfire.ONCE, Misfire.SKIP))


@pytest.fixture
def office(ledger: Ledger) -> Office:
    """The four jobs, in UTC, on an evening in January."""
    found = Office(ledger)
    found.at("2026-01-01T20:10")
    return found


@pytest.fixture
def hourly(ledger: Ledger) -> Office:
    """A job for each misfire rule, seen for the first time at 10:10."""
    found = Office(ledger, jobs=tuple(HOURLY.values()))
    found.at("2026-01-01T10:10")
    return found


def hours(*names: int) -> list[str]:
    return [f"2026-01-01T{hour:02}+00:00" for hour in names]


async def knock(office: Office, worker: Periodic, at: str) -> None:
    """Knock for each job, at a local time."""
    office.at(at)
    for job in office.jobs:
        await worker.run(job.name)


async def make_due(office: Office) -> None:
    """See the jobs an hour before their periods end, and come back when they have ended."""
    await knock(office, office.worker(), "2026-01-01T20:10")
    await knock(office, office.worker(), "2026-01-01T21:00:30")
    office.at("2026-01-01T21:01")


# --- when


async def test_a_new_installation_starts_with_the_period_that_runs(office: Office) -> None:
    await office.beat(office.worker(), "2026-01-02T01:00")
    assert office.done[REPORT_HOUR.name] == [*hours(20, 21, 22, 23)]
    assert office.done[REPORT_DAY.name] == office.done[RECONCILE.name] == ["2026-01-01"]


async def test_nothing_is_done_before_the_period_ended_and_settled(office: Office) -> None:
    worker = office.worker()
    await knock(office, worker, "2026-01-01T20:10")
    await knock(office, worker, "2026-01-01T21:00:59")
    assert not office.done
    await knock(office, worker, "2026-01-01T21:01:00")
    assert office.done[REPORT_HOUR.name] == hours(20)


async def test_two_beats_two_workers_and_messages_twice_do_no_period_twice(office: Office) -> None:
    workers = [office.worker(f"w{n}") for n in range(3)]
    for time in ("20:10", "21:05", "22:05", "23:59"):
        office.at(f"2026-01-01T{time}")
        await asyncio.gather(*(worker.run(job.name) for job in JOBS for worker in workers * 2))
    assert office.done[REPORT_HOUR.name] == office.done[PURGE.name] == hours(20, 21, 22)


async def test_a_beat_away_for_six_hours_is_made_up_for_as_each_rule_says(hourly: Office) -> None:
    worker = hourly.worker()
    await knock(hourly, worker, "2026-01-01T10:10")
    await knock(hourly, worker, "2026-01-01T16:05")
    assert hourly.done[ALL] == hours(10, 11, 12, 13, 14, 15)
    assert hourly.done[ONCE] == hourly.done[SKIP] == hours(15)
    left_out = dict.fromkeys(hours(10, 11, 12, 13, 14), TickState.SKIPPED)
    assert (
        await hourly.states(ONCE)
        == await hourly.states(SKIP)
        == left_out | {hours(15)[0]: TickState.DONE}
    )
    assert {tick.error for tick in await all_ticks(hourly.ledger, ONCE) if tick.error} == {
        "2026-01-01T15+00:00 stands for it"
    }


async def test_skip_does_not_start_later_than_its_grace(hourly: Office) -> None:
    worker = hourly.worker()
    await knock(hourly, worker, "2026-01-01T10:10")
    await knock(hourly, worker, "2026-01-01T16:17")
    assert not hourly.done[SKIP]
    assert set((await hourly.states(SKIP)).values()) == {TickState.SKIPPED}
    await knock(hourly, worker, "2026-01-01T17:01")
    assert hourly.done[SKIP] == hours(16)


async def test_what_is_older_than_the_horizon_is_not_made_up_for(office: Office) -> None:
    worker = office.worker()
    await worker.run(REPORT_DAY.name)
    office.at("2026-02-01T10:10")
    await worker.run(RECONCILE.name)
    await worker.run(REPORT_DAY.name)
    made_up = office.done[REPORT_DAY.name]
    assert (made_up[0], made_up[-1], len(made_up)) == ("2026-01-25", "2026-01-31", HORIZON.days)
    assert (await office.states(REPORT_DAY.name))["2026-01-01"] is TickState.SKIPPED
    assert office.done[RECONCILE.name] == ["2026-01-31"]


async def test_a_clock_set_back_does_nothing_twice(hourly: Office) -> None:
    worker = hourly.worker()
    await hourly.beat(worker, "2026-01-01T13:10")
    await knock(hourly, worker, "2026-01-01T12:59:30")
    await hourly.beat(worker, "2026-01-01T14:30")
    assert hourly.done[ALL] == hours(10, 11, 12, 13)


async def test_what_was_done_under_a_clock_that_was_ahead_silences_no_job_and_counts_for_no_period(
    hourly: Office,
) -> None:
    worker = hourly.worker()
    await hourly.beat(worker, "2026-01-01T12:10")
    await knock(hourly, worker, "2026-01-01T18:30")
    await knock(hourly, worker, "2026-01-01T12:40")
    await knock(hourly, worker, "2026-01-01T13:10")
    assert hourly.done[ALL].count(hours(12)[0]) == 2, "once too early, and once when it was over"
    assert hourly.done[ONCE].count(hours(12)[0]) == 1, "the knock in the future was for 17 o'clock"
    await knock(hourly, worker, "2026-01-01T18:10")
    assert hourly.done[ALL].count(hours(17)[0]) == hourly.done[ONCE].count(hours(17)[0]) == 2


# --- the clocks on the wall


@pytest.mark.parametrize(
    ("zone", "day", "length", "offsets"),
    [
        ("Europe/Berlin", "2026-03-29", 23, ["+01:00", "+02:00"]),
        ("Europe/Berlin", "2026-10-25", 25, ["+01:00", "+02:00"]),
        ("Asia/Kolkata", "2026-03-29", 24, ["+05:30"]),
    ],
)
async def test_each_hour_of_a_day_is_reported_once_and_the_day_is_whole(
    ledger: Ledger, zone: str, day: str, length: int, offsets: list[str]
) -> None:
    office = Office(ledger, zone)
    office.at(f"{day}T00:00")
    await office.beat(office.worker(), f"{day}T23:59")
    await office.beat(office.worker(), office.local(timedelta(hours=1)))
    reported = [name for name in office.done[REPORT_HOUR.name] if name.startswith(day)]
    assert (len(reported), len(set(reported))) == (length, length)
    assert sorted({name[13:] for name in reported}) == offsets
    assert office.done[REPORT_DAY.name] == office.done[RECONCILE.name] == [day]
    whole = office.periods[day]
    assert whole.end - whole.start == timedelta(hours=length)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "Europe/Berlin"])
async def test_a_zone_that_is_changed_leaves_no_hour_out(ledger: Ledger, zone: str) -> None:
    before, after = Office(ledger), Office(ledger, zone)
    before.at("2026-01-01T10:10")
    await before.beat(before.worker(), "2026-01-01T15:10")
    after.clock.time = before.clock.time
    await after.beat(after.worker(), after.local(timedelta(hours=5)))
    reported = [
        office.periods[name] for office in (before, after) for name in office.done[REPORT_HOUR.name]
    ]
    assert all(later.start <= earlier.end for earlier, later in pairwise(reported))


# --- workers that stop


async def test_who_is_killed_is_taken_over_and_finished_steps_are_not_done_again(
    office: Office,
) -> None:
    await make_due(office)
    steps = ("orders", "bills", "users")
    killed = office.worker(
        "killed", stepped=Steps(Fate(Struck.CRASH, step=6, after=True)), purge=steps
    )
    with pytest.raises(Crashed):
        await killed.run(PURGE.name)
    assert dict(office.done) == {"purge orders": hours(20)}
    other = office.worker("other", purge=steps)
    assert await other.run(PURGE.name) == 0, "its lease runs"
    office.clock.advance(LEASE)
    assert await other.run(PURGE.name) == 1
    assert dict(office.done) == {f"purge {step}": hours(20) for step in steps}


async def test_a_period_that_kills_its_workers_is_given_up(office: Office) -> None:
    await make_due(office)
    for _ in range(MAX_TRIES):
        with pytest.raises(Crashed):
            await office.worker(stepped=Steps(Fate(Struck.CRASH, step=6))).run(PURGE.name)
        office.clock.advance(LEASE)
    assert len(office.done.pop(PURGE.name)) == MAX_TRIES
    await office.worker().run(PURGE.name)
    given_up = await tick_of(office, PURGE.name, hours(20)[0])
    assert given_up.state is TickState.FAILED
    assert given_up.error == f"work: {MAX_TRIES} workers in a row stopped while working on it"
    assert not office.done


class Slow:
    """A purge that is under way until it is told to go on."""

    def __init__(self, office: Office, lease: timedelta) -> None:
        self.office, self.lease = office, lease
        self.started, self.go_on = asyncio.Event(), asyncio.Event()
        self.times = 0
        self.stopped = False

    def worker(self, name: str) -> Periodic:
        works = {PURGE.name: [self.office.step(PURGE.name, "orders"), Step("slow", self._work)]}
        clock = self.office.clock
        return Periodic(
            self.office.ledger,
            works,
            zone=self.office.zone,
            worker=name,
            lease=self.lease,
            now=clock,
        )

    async def held(self) -> Lease:
        return next(
            tick.lease for tick in await self.office.ledger.ticks.open(PURGE.name) if tick.lease
        )

    async def _work(self, period: Period) -> Result:
        del period
        self.times += 1
        self.started.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        return {}


async def test_long_work_keeps_its_lease(office: Office) -> None:
    await make_due(office)
    slow = Slow(office, lease=timedelta(milliseconds=300))
    working = asyncio.create_task(slow.worker("w1").run(PURGE.name))
    await slow.started.wait()
    for _ in range(5):
        office.clock.advance(slow.lease * 0.9)
        await until(partial(_renewed, slow), message="the lease to be renewed")
        assert await slow.worker("w2").run(PURGE.name) == 0
    slow.go_on.set()
    assert (await working, slow.times) == (1, 1)


async def _renewed(slow: Slow) -> bool:
    return (await slow.held()).until == slow.office.clock.time + slow.lease


async def test_work_stops_when_its_lease_is_lost(office: Office) -> None:
    await make_due(office)
    slow = Slow(office, lease=timedelta(milliseconds=300))
    working = asyncio.create_task(slow.worker("w1").run(PURGE.name))
    await slow.started.wait()
    later = office.clock.time + timedelta(minutes=2)
    tick = await tick_of(office, PURGE.name, hours(20)[0])
    taken = await until(lambda: office.ledger.ticks.claim(tick, "w2", later, LEASE))
    await asyncio.wait_for(working, 10)
    assert slow.stopped
    assert await slow.held() == taken.lease, "what the other holds is left alone"


async def test_a_worker_told_to_stop_gives_back_what_it_is_at(office: Office) -> None:
    await make_due(office)
    slow = Slow(office, LEASE)
    leaving = slow.worker("leaving")
    working = asyncio.create_task(leaving.run(PURGE.name))
    await slow.started.wait()
    leaving.drain(timedelta(milliseconds=10))
    await asyncio.wait_for(working, 10)
    assert slow.stopped
    assert await leaving.run(PURGE.name) == 0, "it begins nothing more"
    slow.go_on.set()
    assert await slow.worker("other").run(PURGE.name) == 1, "at once, not after a lease"
    assert office.done["purge orders"] == hours(20), "what was finished is not done again"
    done = await tick_of(office, PURGE.name, hours(20)[0])
    assert (done.state, done.tries) == (TickState.DONE, 1)


# --- work that fails


async def test_a_failing_step_stops_no_other_and_alone_is_tried_again(office: Office) -> None:
    worker = office.worker(purge=("orders", "bills", "users"))
    await knock(office, worker, "2026-01-01T20:10")
    office.failing["bills"] = SourceUnavailable("source: no route to host")
    await knock(office, worker, "2026-01-01T21:01")
    (waiting,) = [tick for tick in await office.ledger.ticks.open(PURGE.name) if tick.tries]
    assert (waiting.error, waiting.lease) == ("bills: source: no route to host", None)
    office.failing.clear()
    await knock(office, worker, "2026-01-01T21:01:59")
    assert not office.done["purge bills"], "not before its wait is over"
    await knock(office, worker, "2026-01-01T21:02")
    assert {
        name: office.done[f"purge {name}"] for name in ("orders", "bills", "users")
    } == dict.fromkeys(("orders", "bills", "users"), hours(20))


async def test_a_source_that_refuses_is_told_and_not_asked_again(office: Office) -> None:
    worker = office.worker(reconcile=("orders", "bills"))
    await knock(office, worker, "2026-01-01T20:10")
    office.failing["orders"] = SourceRefused("source: no such table dbo.orders")
    await knock(office, worker, "2026-01-02T00:01")
    done = await office.ledger.ticks.last(RECONCILE.name, [TickState.DONE])
    assert done is not None
    assert [(step.name, step.result) for step in done.steps] == [
        ("orders", {"refused": "source: no such table dbo.orders"}), ("bills", {"rows": 7}),
    ]  # fmt: skip


async def test_work_that_keeps_failing_waits_longer_each_time_and_is_given_up(
    hourly: Office,
) -> None:
    worker = hourly.worker()
    await knock(hourly, worker, "2026-01-01T10:10")
    hourly.failing["all"] = OSError(28, "No space left on device")
    tries: list[int] = []
    for _ in range(4 * 60):
        hourly.clock.advance(timedelta(minutes=1))
        if await worker.run(ALL) and (tick := await tick_of(hourly, ALL, hours(10)[0])).tries > len(
            tries
        ):
            tries.append((hourly.clock.time - tick.period.end - SETTLE) // timedelta(minutes=1))
    assert tries == [0, 1, 3, 7, 15, 31, 63, 123]
    given_up = await tick_of(hourly, ALL, hours(10)[0])
    assert (given_up.state, given_up.tries) == (TickState.FAILED, MAX_TRIES)
    assert given_up.error == "all: OSError: [Errno 28] No space left on device"


async def test_a_later_period_goes_on_while_one_waits(hourly: Office) -> None:
    worker = hourly.worker()
    await knock(hourly, worker, "2026-01-01T10:10")
    hourly.failing["all"] = LedgerUnavailable("ledger: no primary")
    await hourly.beat(worker, "2026-01-01T11:58", every=timedelta(minutes=1))
    hourly.failing.clear()
    await knock(hourly, worker, "2026-01-01T12:01")
    assert hourly.done[ALL] == hours(11), "the first waits for its seventh try"
    await knock(hourly, worker, "2026-01-01T12:30")
    assert hourly.done[ALL] == hours(11, 10)
    assert hourly.done[ONCE] == hours(11), "one run stands for both"
    assert (await hourly.states(ONCE))[hours(10)[0]] is TickState.FAILED, "it was tried"


async def test_what_an_unforeseen_error_says_is_not_in_the_ledger(office: Office) -> None:
    worker = office.worker()
    await knock(office, worker, "2026-01-01T20:10")
    office.failing["all"] = ValueError("https://user:hunter2@hooks.example")
    await knock(office, worker, "2026-01-01T21:01")
    errors = {tick.error for tick in await all_ticks(office.ledger, PURGE.name)}
    assert errors == {None, "all: ValueError, see the process's log"}


# --- one job after another


async def test_the_days_report_waits_until_the_reconciliation_is_through(office: Office) -> None:
    worker = office.worker(reconcile=("orders", "bills"))
    await knock(office, worker, "2026-01-01T20:10")
    office.failing["bills"] = SourceUnavailable("source: away")
    await knock(office, worker, "2026-01-02T00:01")
    await worker.run(REPORT_DAY.name)
    assert not office.done[REPORT_DAY.name]
    office.failing.clear()
    await knock(office, worker, "2026-01-02T00:02")
    assert office.done[REPORT_DAY.name] == ["2026-01-01"]


async def test_the_days_report_knows_of_the_reconciliation_even_where_it_is_asked_for_first(
    office: Office,
) -> None:
    worker = office.worker()
    await worker.run(REPORT_DAY.name)
    office.at("2026-01-02T00:05")
    await worker.run(REPORT_DAY.name)
    assert not office.done[REPORT_DAY.name]
    await worker.run(RECONCILE.name)
    await worker.run(REPORT_DAY.name)
    assert office.done[REPORT_DAY.name] == ["2026-01-01"]


async def test_a_reconciliation_that_is_given_up_holds_no_report_back(office: Office) -> None:
    worker = office.worker(reconcile=("orders",))
    await knock(office, worker, "2026-01-01T20:10")
    office.failing["orders"] = SourceUnavailable("source: away")
    office.at("2026-01-02T00:01")
    await office.beat(worker, "2026-01-02T03:00", every=timedelta(minutes=10))
    assert (await office.states(RECONCILE.name)) == {"2026-01-01": TickState.FAILED}
    assert office.done[REPORT_DAY.name] == ["2026-01-01"]


async def test_reports_that_were_missed_wait_for_the_reconciliation_that_stands_for_all(
    office: Office,
) -> None:
    worker = office.worker()
    await knock(office, worker, "2026-01-01T20:10")
    office.at("2026-01-04T09:00")
    await worker.run(REPORT_DAY.name)
    assert not office.done[REPORT_DAY.name]
    await worker.run(RECONCILE.name)
    await worker.run(REPORT_DAY.name)
    assert office.done[RECONCILE.name] == ["2026-01-03"]
    assert office.done[REPORT_DAY.name] == ["2026-01-01", "2026-01-02", "2026-01-03"]


# --- and all that is forgotten


async def test_finished_ticks_are_forgotten_after_a_while(office: Office) -> None:
    worker = office.worker()
    await office.beat(worker, "2026-01-04T23:00", every=timedelta(days=1))
    assert len(await all_ticks(office.ledger, RECONCILE.name)) == 4
    office.clock.advance(KEPT)
    for _ in range(2):
        await worker.run(RECONCILE.name)
        office.clock.advance(timedelta(days=1))
    oldest, *_ = await all_ticks(office.ledger, RECONCILE.name)
    assert oldest.period.end > office.clock.time - HORIZON - timedelta(days=3), (
        "and what was made up for stays"
    )
