"""`status`: a line a feed at 80 columns, with what keeps it, until when, how fast it goes and what
failed last.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from app.cli.main import main
from app.core.clock import utc_now
from app.core.rows import Page
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat, Held, Role
from app.partner.throttle.store import ThrottleStore
from app.testbed.embedded.stack import ROOT
from tests.support.buckets import failed, minute_of
from tests.support.feeds import make_feed
from tests.support.relay import Relay

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/" }
[feeds.invoices]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/invoices" }
"""
ERROR = "503 Service Unavailable: the partner is not there just now, and will be back when it is"
Run = Callable[..., Awaitable[str]]


@pytest.fixture
def environment(tmp_path: Path, mongo_database_url: str, clean_redis_url: str) -> dict[str, str]:
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "source.db")) as source:
        source.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    return {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path / 'source.db'}",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "CONNECT_TIMEOUT": "5s",
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    async def ran(*arguments: str, columns: int = 80, **settings: str) -> str:
        there = environment | {"COLUMNS": str(columns)} | settings
        done = await asyncio.to_thread(CliRunner().invoke, main, ["status", *arguments], env=there)
        assert done.exit_code == 0, done.output
        return done.stdout

    return ran


async def _worker(ledger: Ledger, *holds: Held) -> None:
    now = utc_now()
    await ledger.heartbeats.put(
        Heartbeat(Role.WORKER, "celery@here", socket.gethostname(), 1, now, now, holds=holds)
    )


@pytest.fixture
async def busy(ledger: Ledger, clean_redis_url: str) -> None:
    """`orders` has four rows open for an hour, 12 a second delivered in the last two minutes, and
    its breaker open; `invoices` has nothing to do."""
    relay = Relay(ledger, make_feed("orders"))
    relay.clock.time = utc_now() - timedelta(hours=1)
    await relay.poll_rows(4)
    now = utc_now()
    minute = now.replace(second=0, microsecond=0)
    buckets = [
        minute_of(
            "orders",
            minute + timedelta(minutes=place),
            outcomes={"delivered": 720},
            failed=failed(ERROR, 3),
        )
        for place in (-1, 0, 1)
    ]
    await ledger._database["stats"].delete_many({})
    await ledger._database["stats"].insert_many(buckets)
    for feed in ("orders", "invoices"):
        await ledger.cursors.advance(
            await ledger.cursors.get(feed), Page((), None, (), full=False), now
        )
    await _worker(ledger, Held("orders", 1, 4))
    store = ThrottleStore(clean_redis_url, "here:1")
    assert await store.trip("orders", 0, open_for=3600, reopened=0) == 1
    await store.close()


@pytest.mark.usefixtures("busy")
async def test_a_feed_is_one_line_of_80_columns_with_what_an_operator_asks_first(run: Run) -> None:
    printed = await run()
    title, header, _, *lines = printed.splitlines()
    assert title.startswith("Feeds, 2")
    assert all(
        name in header
        for name in ("feed", "state", "open", "oldest", "rows/s", "done in", "dead", "error")
    )
    assert [line.split()[0] for line in lines[:2]] == ["orders", "invoices"]
    orders, invoices, *below = lines
    assert max(map(len, [title, header, orders, invoices])) <= 80
    assert re.search(r" breaker until \d\d:\d\d:\d\d ", orders), "until when is never cut"
    assert " 1 h " in orders
    assert "503" in orders
    assert "idle" in invoices
    assert any(f"orders: {ERROR} (" in line for line in below), "what was cut is told in full"


@pytest.mark.usefixtures("busy")
async def test_programs_are_told_all_of_it(run: Run) -> None:
    found = orjson.loads(await run("--json"))
    orders, invoices = found["feeds"]
    assert orders["state"]["stand"] == "breaker open"
    assert orders["state"]["until"] > utc_now().isoformat()
    assert 11 < orders["flow"]["delivered"] < 25
    assert orders["flow"]["failure"]["text"] == ERROR
    assert 0 < orders["done_in_seconds"] < 1
    assert (orders["open"], orders["sending"]) == (4, 4)
    assert (invoices["state"], invoices["done_in_seconds"]) == ({"stand": "idle", "until": None}, 0)
    assert found["untold"] is None


@pytest.mark.usefixtures("busy")
async def test_a_wide_terminal_has_every_column(run: Run) -> None:
    header = (await run(columns=400)).splitlines()[1]
    for name in (
        "queued",
        "retrying",
        "cancelled",
        "skipped",
        "sending",
        "lag",
        "gaps",
        "last poll",
    ):
        assert name in header


@pytest.mark.usefixtures("busy")
async def test_without_redis_all_but_breaker_and_cooldown_is_told(run: Run) -> None:
    printed = await run(REDIS_URL="redis://127.0.0.1:1/0")
    assert "sending" in printed
    assert "breakers and cooldowns are not known: broker: " in printed
    assert "breaker until" not in printed


async def test_that_no_worker_runs_is_the_state_of_every_feed(ledger: Ledger, run: Run) -> None:
    await ledger.pauses.pause("invoices", "by an operator")
    lines = (await run()).splitlines()
    assert "no worker" in next(line for line in lines if line.startswith("orders"))
    assert "paused" in next(line for line in lines if line.startswith("invoices"))
    assert any(line.startswith("no worker was heard of for a minute") for line in lines)


@pytest.mark.usefixtures("busy")
def test_watching_tells_again_until_it_is_interrupted(environment: dict[str, str]) -> None:
    watching: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-m", "app", "status", "--watch", "--every", "0.1s"],
        env={**os.environ, **environment, "COLUMNS": "80"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        titles = 0
        while titles < 2:
            line: Any = watching.stdout.readline()
            assert line, "it ended"
            titles += line.startswith("Feeds, ")
        watching.send_signal(signal.SIGINT)
        _, wrong = watching.communicate(timeout=60)
    finally:
        watching.kill()
        watching.wait()
    assert (watching.returncode, wrong) == (0, "")
