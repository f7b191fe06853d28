"""`jobs`, as an operator runs it: what was done, what is due, and what went wrong."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.jobs import JobLine, read_jobs
from app.cli.main import main
from app.core.clock import utc_now
from app.core.errors import SourceRefused, SourceUnavailable
from app.core.period import Kind, period_of, previous
from app.jobs.schedule import MAX_TRIES, RECONCILE, REPORT_DAY, REPORT_HOUR
from app.ledger import Ledger
from tests.support.periodic import LEASE, Office
from tests.unit.configuration.test_config import GOOD


@pytest.fixture
def office(ledger: Ledger) -> Office:
    found = Office(ledger, "Europe/Berlin")
    found.at("2026-01-01T20:10")
    return found


async def lines(office: Office) -> dict[str, JobLine]:
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


async def test_an_error_is_told_while_it_is_tried_again_and_is_wrong_once_it_is_given_up(office: Office) -> None:
    worker = office.worker()
    await worker.run(RECONCILE.name)
    office.failing["all"] = SourceUnavailable("source: no route to host")
    office.at("2026-01-02T00:01")
    await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_error, told.error_period, told.ok) == ("all: source: no route to host", "2026-01-01", True)
    for _ in range(MAX_TRIES):
        office.clock.advance(timedelta(hours=1))
        await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_error, told.last_done, told.ok) == ("all: source: no route to host", None, False)


async def test_what_the_source_refused_is_wrong_though_the_period_is_done(office: Office) -> None:
    worker = office.worker()
    await worker.run(RECONCILE.name)
    office.failing["all"] = SourceRefused("source: permission denied on orders")
    office.at("2026-01-02T00:01")
    await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_done, told.ok) == ("2026-01-01", False)
    assert (told.last_error, told.error_period) == ("all: source: permission denied on orders", "2026-01-01")
    del office.failing["all"]
    office.at("2026-01-03T00:01")
    await worker.run(RECONCILE.name)
    told = (await lines(office))[RECONCILE.name]
    assert (told.last_error, told.ok) == (None, True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str) -> str:
    """A working directory with a feed, and a ledger."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    monkeypatch.setenv("TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("COLUMNS", "250")
    return mongo_database_url


@pytest.mark.usefixtures("place")
def test_before_anything_ran_all_is_well() -> None:
    answer = CliRunner().invoke(main, ["jobs"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("not seen yet") == 4
    assert "Europe/Berlin" in answer.output


def test_it_is_a_table_for_people_and_json_for_programs(place: str) -> None:
    asyncio.run(_overslept(place))
    answer = CliRunner().invoke(main, ["jobs", "--json"])
    assert answer.exit_code == 1, answer.output
    told = {job["job"]: job for job in json.loads(answer.output)["jobs"]}
    assert (told["purge"]["now"], told["purge"]["ok"], told["purge"]["misfire"]) == ("late", False, "once")
    table = CliRunner().invoke(main, ["jobs"])
    assert (table.exit_code, "late" in table.output) == (1, True)


async def _overslept(url: str) -> None:
    """A purge that was due two hours ago."""
    ledger = Ledger.at(url, timedelta(seconds=5))
    zone = Office(ledger, "Europe/Berlin").zone
    period = previous(period_of(utc_now() - timedelta(hours=2), Kind.HOUR, zone), zone)
    await ledger.ticks.plan("purge", [(period, period.end)])
    await ledger.close()
