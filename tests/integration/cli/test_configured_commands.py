"""`status`, `health`, `feeds list` and `replay` say which processes run another feeds.toml."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

import config
from app.cli.main import main
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.rows import Page
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.heartbeats import Configured, Heartbeat, Role
from app.testbed.embedded.stack import ROOT
from tests.support.ledger import log_batch

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/" }
"""
Ask = Callable[..., Document]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str) -> Ask:
    """Runs a command that answers in JSON."""
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    for name, value in {
        "MONGO_URL": mongo_database_url,
        "SOURCE_URL": f"sqlite:///{tmp_path / 'shop.db'}",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
    }.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Document:
        answer: Document = orjson.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
        return answer

    return run


def worker(name: str, feeds: str, *, since: timedelta) -> Heartbeat:
    now = utc_now()
    heartbeat = Heartbeat(
        Role.WORKER, name, "there", 7, now - since, now, broker_seconds=9.0, consumer_seconds=1.0
    )
    return replace(heartbeat, configuration=Configured(feeds, now - since))


async def test_each_command_names_the_process_that_runs_an_older_feeds_toml_and_no_other(
    ledger: Ledger, ask: Ask
) -> None:
    await ledger.heartbeats.put(
        worker("up@to-date", config.load().feeds_hash, since=timedelta(hours=3))
    )
    await ledger.heartbeats.put(worker("left@behind", "0123456789abcdef", since=timedelta(hours=3)))

    status = await asyncio.to_thread(ask, "status")
    listed = await asyncio.to_thread(ask, "feeds", "list")
    checks = (await asyncio.to_thread(ask, "health"))["checks"]
    differing = {
        "status": {line["where"]: line["said"] for line in status["failing"]},
        "feeds list": {process["process"]: process["said"] for process in listed["processes"]},
        "health": {
            check["name"]: check["found"]
            for check in checks
            if check["role"] == "worker" and check["found"]
        },
    }
    for command, told in differing.items():
        assert list(told) == ["left@behind"], command
        assert told["left@behind"].startswith("runs an older feeds.toml, read 3 h ago"), command
    assert all(check["live"] for check in checks if check["role"] == "worker"), (
        "it makes progress all the same"
    )

    argv = [sys.executable, "-m", "app", "replay", "--all", "--dry-run"]
    replay = await asyncio.to_thread(
        subprocess.run,
        argv,
        capture_output=True,
        text=True,
        env=dict(os.environ),
        cwd=ROOT,
        check=False,
    )
    assert replay.stderr.count("an older feeds.toml") == 1, replay.stderr
    assert replay.returncode == 0


@pytest.mark.parametrize("wrong", ["a feed", "the file"])
async def test_a_feeds_toml_that_is_wrong_keeps_nobody_from_asking_how_the_processes_are(
    ledger: Ledger, ask: Ask, tmp_path: Path, wrong: str
) -> None:
    """Docker and Kubernetes would end a worker that cannot start again."""
    await ledger.cursors.advance(Cursor("bills"), Page((), 0, (), full=False), utc_now())
    await log_batch(ledger, 1, feed="bills", now=utc_now())
    kept = worker("celery@here", "0123456789abcdef", since=timedelta(hours=3))
    configured = Configured(
        "0123456789abcdef", utc_now(), utc_now(), "feeds.toml: feeds.bills: found a hole"
    )
    await ledger.heartbeats.put(replace(kept, host=socket.gethostname(), configuration=configured))
    broken = f"{FEEDS}[feeds.bills]\ntable = 1\n" if wrong == "a feed" else f"{FEEDS}\n[["
    (tmp_path / "feeds.toml").write_text(broken, encoding="utf-8")

    (check,) = (await asyncio.to_thread(ask, "health", "--role", "worker"))["checks"]
    assert (check["live"], check["ready"]) == (True, False)
    assert "found a hole" in check["found"]
    health = await asyncio.to_thread(ask, "health")
    said = {
        check["name"]: check["found"]
        for check in health["checks"]
        if check["role"] == "configuration"
    }
    field = "feeds.bills.table" if wrong == "a feed" else "TOML"
    assert field in said["feeds.toml"]
    status = await asyncio.to_thread(ask, "status")
    assert field in "".join(line["said"] for line in status["failing"])
    assert "found a hole" in "".join(line["said"] for line in status["failing"])
    assert [line["feed"] for line in status["feeds"]] == (["orders"] if wrong == "a feed" else [])
    told = str([*health["checks"], *status["failing"]])
    assert "does not name it" not in told, "it does"


async def test_what_was_not_heard_of_for_a_minute_is_not_held_against_anybody(
    ledger: Ledger, ask: Ask
) -> None:
    gone = worker("killed@there", "0123456789abcdef", since=timedelta(hours=3))
    await ledger.heartbeats.put(replace(gone, marked_at=utc_now() - timedelta(minutes=2)))
    assert (await asyncio.to_thread(ask, "feeds", "list"))["processes"] == []
