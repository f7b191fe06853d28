"""Real workers, knocked at several times over: each period is worked once, and `jobs` tells of it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import redis
from celery import Celery

from app.core.clock import utc_now
from app.core.period import period_of, previous
from app.jobs.schedule import JOBS
from app.ledger import Ledger
from app.ledger.ticks import Tick, TickState
from app.testbed.embedded.stack import Stack
from tests.support.command import command
from tests.support.periodic import UTC_ZONE, all_ticks
from tests.support.wait import wait_until


async def _leave_due(url: str) -> None:
    """The ticks of the periods that ended last, due now; the ones that run are not due for a minute
    at least.
    """
    ledger = Ledger.at(url, timedelta(seconds=5))
    for job in JOBS:
        period = previous(period_of(utc_now(), job.kind, UTC_ZONE), UTC_ZONE)
        await ledger.ticks.plan(job.name, [(period, period.end)])
    await ledger.close()


async def _ended(url: str) -> list[Tick]:
    """The ticks that are not open."""
    ledger = Ledger.at(url, timedelta(seconds=5))
    found = [
        tick
        for job in JOBS
        for tick in await all_ticks(ledger, job.name)
        if tick.state is not TickState.OPEN
    ]
    await ledger.close()
    return found


def _knock(stack: Stack, times: int) -> None:
    """Send each job's message that often, once those before have been taken."""
    with redis.Redis.from_url(stack.redis.url) as client:
        if client.llen("maintenance"):
            return
    with Celery(broker=stack.redis.url) as celery:
        for job in JOBS:
            for _ in range(times):
                celery.send_task(
                    job.name.replace("-", "_"), queue="maintenance", ignore_result=True
                )


def test_each_job_is_done_once_however_many_messages_and_workers_there_are(stack: Stack) -> None:
    asyncio.run(_leave_due(stack.mongo_url))
    for _ in range(2):
        stack.start_worker()

    def knocked() -> list[Tick]:
        _knock(stack, times=3)
        found = asyncio.run(_ended(stack.mongo_url))
        return found if {tick.job for tick in found} == {job.name for job in JOBS} else []

    ticks = wait_until(knocked, timeout=60, message="each job to be done")
    _knock(stack, times=3)
    assert {tick.job: (tick.state, tick.tries, tick.error) for tick in ticks} == {
        job.name: (TickState.DONE, 1, None) for job in JOBS
    }
    told = command(stack.environment, "jobs", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    jobs = {line["job"]: line for line in json.loads(told.stdout)["jobs"]}
    assert {name: line["last_done"] for name, line in jobs.items()} == {
        tick.job: tick.period.name for tick in ticks
    }
    assert {line["last_error"] for line in jobs.values()} == {None}
    assert (
        stack.directory / "reports" / "orders" / f"{jobs['report-day']['last_done']}.json"
    ).exists()
    assert jobs["reconcile"]["steps"][0]["result"]["missing"] == 0
