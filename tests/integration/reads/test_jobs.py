"""How each job is doing: what was done, what is due, and what went wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.core.errors import SourceRefused, SourceUnavailable
from app.jobs.schedule import MAX_TRIES, RECONCILE, REPORT_DAY, REPORT_HOUR
from app.ledger import Ledger
from app.reads.jobs import JobStatus, read_jobs
from tests.support.periodic import LEASE, Office


@pytest.fixture
def office(ledger: Ledger) -> Office:
    found = Office(ledger, "Europe/Berlin")
    found.at("2026-01-01T20:10")
    return found


async def lines(office: Office) -> dict[str, JobStatus]:
    return {line.job: line for line in await read_jobs(office.ledger, office.clock.time)}


async def test_it_tells_what_was_done_and_what_is_due_next(office: Office) -> None:
    await office.beat(office.worker(), "2026-01-01T21:10", every=timedelta(minutes=20))
    told = (await lines(office))[REPORT_HOUR.name]
    assert (told.last_done, told.next_period) == ("2026-01-01T20+01:00", "2026-01-01T21+01:00")
    assert told.next_due is not None
    assert f"{told.next_due:%H:%M}" == "21:01"
    assert (told.now, told.last_error, told.ok) == ("waits", None, True)
    assert [(step.name, step.result) for step in told.steps] == [("all", {"rows": 7})]


async def test_it_tells_who_runs_it_and_what_waits_for_it(office: Office) -> None:
    worker = office.worker()
    await worker.run(REPORT_DAY.name)
    office.at("2026-01-02T00:01")
    (tick,) = await office.ledger.ticks.open(RECONCILE.name)
    await office.ledger.ticks.claim(tick, "host:17", office.clock.time, LEASE)
    await worker.run(REPORT_DAY.name)
    told = await lines(office)
    assert told[RECONCILE.name].now == "runs at host:17"
    assert (told[REPORT_DAY.name].now, told[REPORT_DAY.name].ok) == ("waits for reconcile", True)


async def test_a_job_that_nobody_works_at_is_late(office: Office) -> None:
    await office.worker().run(REPORT_HOUR.name)
    office.at("2026-01-01T21:10")
    assert (await lines(office))[REPORT_HOUR.name].now == "due"
    office.at("2026-01-01T21:20")
    told = (await lines(office))[REPORT_HOUR.name]
    assert (told.now, told.ok) == ("late", False)
    assert (await lines(office))[RECONCILE.name].now == "not seen yet"


async def test_an_error_is_told_while_it_is_tried_again_and_is_wrong_once_it_is_given_up(
    office: Office,
) -> None:
    worker = office.worker()
    await worker.run(RECONCILE.name)
    office.failing["all"] = SourceUnavailable("source: no route to host")
    office.at("2026-01-02T00:01")
    await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_error, told.error_period, told.ok) == (
        "all: source: no route to host",
        "2026-01-01",
        True,
    )
    for _ in range(MAX_TRIES):
        office.clock.advance(timedelta(hours=1))
        await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_error, told.last_done, told.ok) == (
        "all: source: no route to host",
        None,
        False,
    )


async def test_what_the_source_refused_is_wrong_though_the_period_is_done(office: Office) -> None:
    worker = office.worker()
    await worker.run(RECONCILE.name)
    office.failing["all"] = SourceRefused("source: permission denied on orders")
    office.at("2026-01-02T00:01")
    await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_done, told.ok) == ("2026-01-01", False)
    assert (told.last_error, told.error_period) == (
        "all: source: permission denied on orders",
        "2026-01-01",
    )
    del office.failing["all"]
    office.at("2026-01-03T00:01")
    await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_error, told.ok) == (None, True)
