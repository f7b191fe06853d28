"""What fails for a reason that nobody foresaw leaves a trace, is not tried again at once, and is
said everywhere.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy.dialects.mssql import INTEGER, ROWVERSION
from typer.testing import CliRunner

import config
from app.cli.main import main
from app.cli.watch import ByHeartbeat
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import LedgerUnavailable
from app.core.period import Period
from app.core.rows import Page
from app.core.unforeseen import FIRST_REST, LONGEST_REST, SHOWN_FOR, Troubles
from app.intake.poll import Polling
from app.jobs.periodic import Periodic, Result, Step
from app.jobs.schedule import REPORT_HOUR
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat, Role
from app.monitoring.health import Bounds, held_back, judge_feed
from app.source.plan import plan_table
from app.source.products.registry import PRODUCTS
from app.source.table import Column, SourceTable
from app.testbed.embedded.source import create_source
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.feeds import make_feed
from tests.support.sources import source_feed, source_tables

ROOT = Path(__file__).resolve().parents[3]
FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/" }
"""
TASKS = (
    "poll",
    "deliver",
    "retries",
    "sweep",
    "adopt_orphans",
    "report_hour",
    "report_day",
    "reconcile",
    "purge",
)

FAILING = """
import os, sys, time
from datetime import timedelta
from pymongo import MongoClient
from app.ledger import Ledger
from app.ledger.batches import Batches
from app.ledger.requeueing import Requeueing
from app.ledger.heartbeats import Role
from app.ledger.ticks import Ticks
from app.broker.depths import Broker
from app.monitoring.heartbeat import Identity, HeartbeatWriter
from app.source.reader import Source
from celery_app import app
loaded, progress, runtime = app.loaded, app.activity, app.runtime

def failing(error):
    async def fail(*_, **__):
        raise error
    return fail

Source.read_page = failing(RuntimeError("what is in a row"))
Batches.claim = failing(KeyError("what is in a row"))
Requeueing.due_retries = failing(MemoryError())
Requeueing.queued_batches = failing(ZeroDivisionError())
Ticks.latest = failing(ExceptionGroup("several", [IndexError()]))
app.loader.import_default_modules()
for name in sys.argv[1:]:
    about = {"feed": "orders"} if name in ("poll", "deliver") else {}
    about |= {"batch": "b1", "n": 1} if name == "deliver" else {}
    for number in (1, 2):
        assert app.tasks[name].apply(kwargs=about, task_id="t1").state == "SUCCESS", "it was handed over"
        runtime.run(lambda services: services.under_way.finished())
    print(name, sum(trouble.failures for trouble in progress.troubles.current() if trouble.task == name))
url, wait = loaded.settings.mongo_url.get_secret_value(), timedelta(seconds=5)
HeartbeatWriter(
    Identity(Role.WORKER, "celery@here"),
    progress,
    open_ledger=lambda: Ledger.at(url, wait),
    open_broker=lambda: Broker(loaded.settings.redis_url.get_secret_value(), wait),
    pause=timedelta(seconds=1),
).start()
with MongoClient(url) as client:
    while not client.get_default_database()["progress"].find_one({"_id": "worker:celery@here"}):
        time.sleep(0.05)
os._exit(0)
"""


@pytest.fixture
def environment(tmp_path: Path, mongo_database_url: str, clean_redis_url: str) -> dict[str, str]:
    create_source(tmp_path / "source.db")
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    return {
        "REDIS_URL": clean_redis_url,
        "MONGO_URL": mongo_database_url,
        "SOURCE_URL": f"sqlite:///{tmp_path / 'source.db'}",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "CONNECT_TIMEOUT": "5s",
    }


async def said(environment: dict[str, str], *command: str) -> str:
    """What a command prints."""
    return (await asyncio.to_thread(CliRunner().invoke, main, command, env=environment)).stdout


async def test_every_task_that_fails_unforeseen_is_said_and_rests(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    del tmp_path
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FAILING, *TASKS],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
    )
    failed = dict(line.split() for line in ran.stdout.splitlines())
    assert failed.pop("deliver") == "2", "a batch rests by its lease"
    assert failed == dict.fromkeys((name for name in TASKS if name != "deliver"), "1"), (
        "the second run was left out"
    )

    health = orjson.loads(await said(environment, "health", "--json"))
    (worker,) = [check for check in health["checks"] if check["name"] == "celery@here"]
    assert worker["live"]
    assert not worker["ready"]
    status = orjson.loads(await said(environment, "status", "--json"))
    failing = [line["said"] for line in status["failing"]]
    metrics = await said(environment, "metrics", "--once")
    for name in TASKS:
        told = f"{name} of orders" if name in ("poll", "deliver") else name
        assert f"{told} has failed" in worker["found"]
        assert any(line.startswith(f"{told} has failed") for line in failing)
        feed = "orders" if name in ("poll", "deliver") else ""
        assert (
            f'rowrelay_task_failing{{feed="{feed}",process="celery@here",task="{name}"}}' in metrics
        )
    cursor = await ledger.cursors.get("orders")
    assert (cursor.last_error, cursor.failures) == ("RuntimeError, see the process's log", 1)
    assert cursor.retry_at is not None
    assert "what is in a row" not in str(health) + str(status) + metrics


async def test_a_job_whose_step_fails_unforeseen_is_said_before_it_is_given_up(
    environment: dict[str, str], ledger: Ledger
) -> None:
    async def fail(_: Period) -> Result:
        raise KeyError("what is in a row")

    clock = VirtualClock()
    clock.time = utc_now().replace(minute=30)  # one hour ends in the 62 minutes after it
    work = {REPORT_HOUR.name: [Step("all reports", fail)]}
    periodic = Periodic(
        ledger,
        work,
        zone=ZoneInfo("UTC"),
        worker="w",
        lease=timedelta(minutes=1),
        jobs=[REPORT_HOUR],
        now=clock,
    )
    await periodic.run(REPORT_HOUR.name)
    clock.advance(timedelta(hours=1, minutes=2))
    assert await periodic.run(REPORT_HOUR.name) == 1
    assert "has failed 1 times: all reports: KeyError" in await said(environment, "health")
    assert "report-hour" in await said(environment, "status")
    assert 'rowrelay_job_failing{job_name="report-hour"} 1.0' in await said(
        environment, "metrics", "--once"
    )


async def test_rows_that_wait_while_pages_stay_empty_are_said(
    environment: dict[str, str], ledger: Ledger
) -> None:
    feed, since = make_feed(name="orders"), utc_now() - timedelta(minutes=10)
    page = Page(
        (), None, (), full=False, held="rows beyond the cursor (7) may not be read: a reason"
    )
    await ledger.cursors.note_empty(Cursor("orders"), page, since)
    await ledger.cursors.note_empty(await ledger.cursors.get("orders"), page, utc_now())
    cursor = await ledger.cursors.get("orders")
    assert cursor.held_since is not None
    assert abs(cursor.held_since - since) < timedelta(seconds=1), "since when stays"
    assert "cursor (7) may not be read" in (held_back(feed, cursor, utc_now()) or "")
    assert held_back(feed, cursor, since + timedelta(minutes=1)) is None
    bounds = Bounds(*[timedelta(seconds=45)] * 3)
    assert judge_feed(feed, cursor, bounds, utc_now()).live
    assert "cursor (7) may not be read" in judge_feed(feed, cursor, bounds, utc_now()).waits_for[0]
    assert "cursor (7) may not be read" in await said(environment, "health")
    assert (
        "cursor (7) may not be read"
        in orjson.loads(await said(environment, "status", "--json"))["feeds"][0]["last_error"]
    )
    await ledger.cursors.note_empty(cursor, Page((), None, (), full=False), utc_now())
    cursor = await ledger.cursors.get("orders")
    assert (cursor.held, cursor.held_since) == (None, None)


async def test_a_poll_says_why_rows_that_are_there_may_not_be_read(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make("orders", id="IDENTITY", at="MOMENT")
        source, clock = tables.source(), VirtualClock()
        polling = Polling(
            source, ledger, MemoryQueue(), message_wait=timedelta(minutes=1), now=clock
        )
        try:
            await tables.insert("orders", [{"at": "2999-01-01 00:00:00"}])
            await polling.poll(source_feed("orders", "timestamp", "at"))
            held = (await ledger.cursors.get("orders")).held or ""
            assert held.startswith(
                "rows beyond the cursor (1) may not be read: they are not older than"
            )
            await tables.run("DELETE FROM orders")
            clock.advance(timedelta(minutes=2))
            await polling.poll(source_feed("orders", "timestamp", "at"))
            assert (await ledger.cursors.get("orders")).held is None
        finally:
            await source.close()


def _rowversion() -> ROWVERSION:
    """SQLAlchemy's constructor has no annotations."""
    made: Callable[[], ROWVERSION] = ROWVERSION
    return made()


def test_an_open_transaction_or_another_database_holds_versions_back() -> None:
    feed = source_feed("orders", "rowversion", "rv")
    columns = (Column("id", INTEGER()), Column("rv", _rowversion()))
    plan = plan_table(SourceTable("orders", None, "orders", columns), feed, PRODUCTS["mssql"])
    said = plan.strategy.held_back(bytes.fromhex("00000000000007D1")) or ""
    assert "0x00000000000007D1: a transaction has been open" in said
    assert "another database" in said


def test_a_trouble_ends_with_the_success_of_what_failed() -> None:
    clock = VirtualClock()
    troubles = Troubles(clock)

    def run(subject: str | None, error: Exception | None = None) -> None:
        with troubles.noted("deliver", "orders", subject):
            if error:
                raise error

    for _ in range(2):
        with pytest.raises(KeyError):
            run("b1", KeyError())
    run("b2")
    (trouble,) = troubles.current()
    assert (trouble.failures, trouble.subject) == (2, "b1"), (
        "the success of another batch proves nothing of this one"
    )
    run("b1")
    assert troubles.current() == ()
    with pytest.raises(LedgerUnavailable):
        run("b1", LedgerUnavailable("away"))
    assert troubles.current() == (), "what passes by itself is no trouble"


def test_a_trouble_is_rested_from_longer_each_time_up_to_a_bound() -> None:
    clock = VirtualClock()
    troubles = Troubles(clock)
    rests: list[timedelta] = []
    for _ in range(12):
        with pytest.raises(ValueError, match="x"), troubles.noted("sweep", None):
            raise ValueError("x")
        found = troubles.resting("sweep", None)
        assert found is not None
        rests.append(found.rests_until - clock())
        clock.advance(rests[-1])
        assert troubles.resting("sweep", None) is None
    assert rests[:3] == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]
    assert rests[-1] == LONGEST_REST < SHOWN_FOR


async def test_a_watchdog_whose_checks_fail_is_said_everywhere_until_one_ends_well(
    environment: dict[str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check, since = ByHeartbeat(config.load(), ledger), ledger.heartbeats.since

    async def fail(*_: object, **__: object) -> list[Heartbeat]:
        raise KeyError("what is in a row")

    for _ in range(2):
        monkeypatch.setattr(ledger.heartbeats, "since", fail)
        with pytest.raises(KeyError):
            await check(os.getpid())
    monkeypatch.setattr(ledger.heartbeats, "since", since)
    told = "watch has failed 2 times in a row: KeyError, see the process's log"
    assert f"waits: watch watch@{socket.gethostname()}-{os.getpid()}: {told}" in await said(
        environment, "health"
    )
    assert told in await said(environment, "status")
    metrics = await said(environment, "metrics", "--once")
    assert (
        f'{{feed="",process="watch@{socket.gethostname()}-{os.getpid()}",task="watch"}} 2.0'
        in metrics
    )
    assert "what is in a row" not in metrics
    assert await check(os.getpid()) == "it has sent no heartbeat yet"
    assert "watch" not in await said(environment, "health")
    assert 'task="watch"' not in await said(environment, "metrics", "--once")


async def test_a_process_that_ends_on_purpose_is_given_its_time_by_the_watchdog(
    environment: dict[str, str], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its heartbeat back first; ended a second time, a worker would cut requests off."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check, now = ByHeartbeat(config.load(), ledger), utc_now()
    here = Heartbeat(Role.BEAT, "beat@here", socket.gethostname(), 4711, now, now, sent_seconds=0.1)
    await ledger.heartbeats.put(here)
    assert await check(4711) is None
    await ledger.heartbeats.leave(Role.BEAT, "beat@here", 4711)
    assert await check(4711) is None
    assert await check(4712) == "it has sent no heartbeat yet"
