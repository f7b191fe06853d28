"""Jobs and workers: how each is doing, and a job run now, once, on record."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.console.security.roles import Role
from app.core.clock import utc_now
from app.core.period import period_of, previous
from app.jobs.periodic import Periodic, Step
from app.jobs.schedule import JOBS, REPORT_DAY, Job
from app.ledger.heartbeats import Configured, Heartbeat, Held
from app.ledger.heartbeats import Role as Process
from tests.support.console import Consoled
from tests.support.hostile import SCRIPTS
from tests.support.statements import statements

WHY = {"why": "the auditor waits"}


def _worker(console: Consoled, ran: list[str]) -> Periodic:
    """A worker that notes which periods it worked on."""

    def step_of(job: Job) -> Step:
        async def work(period: object) -> dict[str, object]:
            del period
            ran.append(job.name)
            return {}

        return Step("all", work)

    zone = console.services.loaded.settings.zone
    works = {job.name: [step_of(job)] for job in JOBS}
    ledger = console.services.operator.ledger
    return Periodic(ledger, works, zone=zone, worker="w1", lease=timedelta(minutes=1))


async def test_a_job_is_run_now_once_by_a_worker_and_its_own_time_stays(console: Consoled) -> None:
    operator, ran = await console.logged_in(Role.OPERATOR), list[str]()
    worker = _worker(console, ran)
    await worker.run("reconcile")
    assert ran == [], "today is not over"
    asked = await operator.post("/api/v1/jobs/reconcile/run", json=WHY)
    assert (asked.status_code, asked.json()["outcome"]) == (202, "added")
    again = await operator.post("/api/v1/jobs/reconcile/run", json=WHY)
    assert (again.status_code, "is due" in again.json()["detail"]) == (409, True)
    assert console.queue.knocks == ["reconcile", "reconcile"], "a worker is asked at once"
    await worker.run("reconcile")
    await worker.run("reconcile")
    assert ran == ["reconcile"]
    (line,) = [
        one
        for one in (await operator.get("/api/v1/jobs")).json()["items"]
        if one["name"] == "reconcile"
    ]
    assert line["last_done"] == asked.json()["period"]
    assert line["now"] == "waits", "the day's own is still to come"


async def test_a_period_that_waits_to_be_tried_again_is_due_now(console: Consoled) -> None:
    operator, ran = await console.logged_in(Role.OPERATOR), list[str]()
    ledger, now = console.services.operator.ledger, utc_now()
    zone = console.services.loaded.settings.zone
    hour = previous(period_of(now - timedelta(hours=1), JOBS[0].kind, zone), zone)
    await ledger.ticks.plan("report-hour", [(hour, now + timedelta(minutes=40))])
    asked = (await operator.post("/api/v1/jobs/report-hour/run", json=WHY)).json()
    assert (asked["outcome"], asked["period"]) == ("hastened", hour.name)
    await _worker(console, ran).run("report-hour")
    assert "report-hour" in ran


async def test_a_report_is_not_run_before_its_day_is_over(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    await _worker(console, []).run(REPORT_DAY.name)
    refused = await operator.post("/api/v1/jobs/report-day/run", json=WHY)
    assert (refused.status_code, "once one is" in refused.json()["detail"]) == (409, True)
    assert (await operator.post("/api/v1/jobs/nothing/run", json=WHY)).status_code == 404


async def test_a_job_that_a_worker_is_at_is_not_asked_for_again(console: Consoled) -> None:
    operator, ledger = await console.logged_in(Role.OPERATOR), console.services.operator.ledger
    await operator.post("/api/v1/jobs/purge/run", json=WHY)
    (tick,) = await ledger.ticks.open("purge")
    assert await ledger.ticks.claim(tick, "w7", utc_now(), timedelta(minutes=1))
    refused = await operator.post("/jobs/purge/run", data=WHY)
    assert (refused.status_code, "w7 is at" in refused.text) == (409, True)


async def test_the_tick_is_there_though_redis_is_away(console: Consoled) -> None:
    console.queue.takes = 0
    operator = await console.logged_in(Role.OPERATOR)
    done = await operator.post("/jobs/purge/run", data=WHY)
    assert (done.status_code, done.headers["location"]) == (303, "/jobs")
    assert len(await console.services.operator.ledger.ticks.open("purge")) == 1


async def test_who_asked_for_a_job_is_on_record_before_and_after(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    await operator.post("/api/v1/jobs/purge/run", json=WHY)
    audit = (await operator.get("/api/v1/audit?subject=purge")).json()["items"]
    assert [(one["action"], one["why"]) for one in audit] == [
        ("job.run", WHY["why"]),
        ("job.run_asked", WHY["why"]),
    ]


async def test_workers_are_told_with_what_they_hold_and_run_with(console: Consoled) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    configured = Configured("another", now, left=("LEASE",))
    await ledger.heartbeats.put(
        Heartbeat(
            Process.WORKER, "celery@a", "a", 7, now, now, broker_seconds=9.0, clock_seconds=-3.0,
            holds=(Held("orders", 1, 42),), queues=("poll",), configuration=configured,
        )
    )  # fmt: skip
    viewer = await console.logged_in(Role.VIEWER)
    with statements(console.services.store.engine) as sent:
        (worker,) = (await viewer.get("/api/v1/workers")).json()["items"]
    assert len(sent) == 1, "who asks"
    assert (worker["holds"], worker["pid"]) == ([{"feed": "orders", "batches": 1, "rows": 42}], 7)
    assert any("LEASE" in said for said in worker["waits_for"])
    assert any("clock" in said for said in worker["waits_for"])
    page = (await viewer.get("/workers")).text
    for said in ("celery@a", "42 rows", "not ready"):
        assert said in page


@pytest.mark.parametrize("script", SCRIPTS)
async def test_what_a_job_or_process_says_is_shown_and_never_run(
    console: Consoled, script: str
) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    await ledger.heartbeats.put(
        Heartbeat(Process.BEAT, script, script, 1, now, now, short_of=script)
    )
    zone = console.services.loaded.settings.zone
    hour = period_of(now - timedelta(hours=2), JOBS[0].kind, zone)
    await ledger.ticks.plan("report-hour", [(hour, now)])
    (tick,) = await ledger.ticks.open("report-hour")
    taken = await ledger.ticks.claim(tick, script, now, timedelta(minutes=1))
    assert taken
    await ledger.ticks.retry(taken, now + timedelta(minutes=5), script)
    operator = await console.logged_in(Role.OPERATOR)
    refused = await operator.post("/jobs/purge/run", data={"why": script + "\n"})
    pages = [(await operator.get(path)).text for path in ("/jobs", "/workers")]
    for page in (*pages, refused.text):
        if any(mark in script for mark in "<>"):
            assert script not in page
        assert page.count("<script") <= 1, "that of the page itself"
    assert "rr5f3c" in pages[0]
    assert "rr5f3c" in pages[1]
