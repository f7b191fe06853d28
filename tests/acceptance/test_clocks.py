"""A machine whose clock is wrong delivers as any other, and is told of (docs/decisions/0040)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pymongo
import pytest

from app.testbed.embedded.process import Process
from app.testbed.embedded.stack import ROOT, Stack
from tests.support.wait import wait_until
from tests.support.wall import Wall

HOUR, DAYS = 3600, 100 * 86_400

Ledger = pymongo.database.Database[dict[str, Any]]


def states(ledger: Ledger) -> dict[str, int]:
    found = ledger["deliveries"].aggregate([{"$group": {"_id": "$state", "n": {"$sum": 1}}}])
    return {document["_id"]: document["n"] for document in found}


def command(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(
        argv, capture_output=True, text=True, env=stack.environment, cwd=ROOT, check=False
    )


def events(process: Process, name: str) -> list[dict[str, Any]]:
    lines = process.log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [
        event for line in lines if name in line and (event := orjson.loads(line))["event"] == name
    ]


@pytest.mark.parametrize("seconds", [-HOUR, DAYS], ids=["an-hour-back", "100-days-ahead"])
def test_a_machine_whose_clock_is_set_wrong_goes_on_polling_sending_and_trying_again(
    stack: Stack, tmp_path: Path, seconds: int
) -> None:
    wall = Wall(tmp_path)
    stack.settings |= wall.settings
    beat, worker = stack.start_beat(), stack.start_worker()
    with pymongo.MongoClient[dict[str, Any]](stack.mongo_url) as client:
        ledger: Ledger = client.get_default_database()
        stack.start_generator(20)
        wait_until(
            lambda: states(ledger) == {"delivered": 20}, timeout=90, message="the first rows"
        )
        with stack.partner() as partner:
            partner.put("/_simulator/faults", json={"statuses": {"503": 1.0}}).raise_for_status()
            stack.start_generator(20)
            wait_until(
                lambda: states(ledger).get("retrying", 0) > 0,
                timeout=90,
                message="rows that are tried again",
            )
            wall.set(seconds)
            stack.start_generator(20)
            wait_until(
                lambda: sum(states(ledger).values()) == 60, timeout=90, message="rows to be read"
            )
            wait_until(
                lambda: told(ledger) == {"beat", "worker"}, timeout=60, message="both to say it"
            )
            partner.put("/_simulator/faults", json={}).raise_for_status()
        wait_until(
            lambda: states(ledger) == {"delivered": 60},
            timeout=90,
            message="all to be delivered, and none dead",
        )
        assert ledger["deliveries"].count_documents({"payload": {"$exists": False}}) == 0, (
            "none is old enough"
        )
    if seconds == -HOUR:  # they would say it of the other as well, and are a process each
        _everybody_says_so(stack, HOUR)
    for process in (beat, worker):
        assert events(process, "clock_differs"), process.name


def told(ledger: Ledger) -> set[str]:
    """Whose heartbeats say that their clock is wrong."""
    return {
        heartbeat["role"]
        for heartbeat in ledger["progress"].find()
        if heartbeat["clock_seconds"] and abs(heartbeat["clock_seconds"]) > 60
    }


def _everybody_says_so(stack: Stack, seconds: int) -> None:
    """Also a command that is run on that very machine."""
    health = command(stack, "health")
    assert health.returncode == 0, "no restart would mend it"
    assert health.stdout.count("the ledger server's: run NTP") == 2
    assert f"{seconds} s " in health.stdout
    assert command(stack, "health", "--ready").returncode == 1
    assert command(stack, "doctor", "--json").stdout.count("the ledger server's: run NTP") == 2
    assert command(stack, "ping").stdout.count("the ledger server's: run NTP") == 3
    metrics = command(stack, "metrics", "--once").stdout
    assert metrics.count("rowrelay_process_clock_difference_seconds{") == 2
