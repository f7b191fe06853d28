"""What a hostile run leaves in the logs, at DEBUG: events, one JSON object a line, and neither
secrets nor payloads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from app.testbed.embedded.process import Process
from app.testbed.embedded.stack import Stack
from tests.acceptance.test_nothing_is_lost import _delivered, _kill, _settled
from tests.support.wait import wait_until

ROWS = 200
PLANTED = "pl4nted"
"""In every secret and every row of the run; as written, and in none of the names that logs may
hold.
"""

PARTNER = """\
auth = { type = "bearer", token = "${TOKEN}" }
headers = { "X-Session" = "pl4nted-header" }
"""

HOSTILE = {
    "statuses": {"500": 0.1, "400": 0.05, "404": 0.02}, "cut": 0.05, "lost_answer": 0.05, "garbage": 0.05,
    "cut_answer": 0.05, "slow": 0.1, "slow_seconds": [0.05, 0.2], "limit": ROWS,
}  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """A stack whose Redis has a password; secrets are in the URLs, the headers and the environment."""
    settings = {
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
        "TOKEN": "pl4nted-bearer",
        **shared_ledger,
    }
    with Stack(tmp_path, gap_timeout="5s", partner_options=PARTNER, settings=settings) as stack:
        with redis.Redis.from_url(stack.redis.url) as server:
            server.config_set("requirepass", "pl4nted-redis")
        stack.settings["REDIS_URL"] = stack.redis.url.replace("://", "://:pl4nted-redis@")
        feeds = tmp_path / "feeds.toml"
        text = feeds.read_text(encoding="utf-8").replace(
            "/v1/orders", "/v1/orders?key=pl4nted-query"
        )
        feeds.write_text(text, encoding="utf-8")
        with stack.partner() as partner:
            partner.put("/_simulator/faults", json=HOSTILE).raise_for_status()
        yield stack


def _write(stack: Stack) -> None:
    row = ("Ada Byron", 1.5, "pl4nted-row", "2026-01-31T10:00:00Z")
    with closing(sqlite3.connect(stack.database, timeout=30)) as source, source:
        source.executemany(
            "INSERT INTO orders (customer, amount, note, created_at) VALUES (?, ?, ?, ?)",
            [row] * ROWS,
        )


def _events(process: Process) -> list[dict[str, Any]]:
    """Each line that the process wrote, to stdout or stderr, as an object."""
    events = [orjson.loads(line) for line in process.log.read_text(encoding="utf-8").splitlines()]
    assert all(isinstance(event, dict) for event in events)
    return events


def test_every_line_is_an_event_and_none_holds_a_secret_or_a_payload(hostile: Stack) -> None:
    beat, first = hostile.start_beat(), hostile.start_worker("--loglevel", "DEBUG")
    _write(hostile)
    wait_until(lambda: _delivered(hostile) > ROWS // 4, timeout=60, message="a part of the rows")
    _kill(first)
    second = hostile.start_worker()
    wait_until(lambda: _settled(hostile, ROWS), timeout=120, message="every row settled")
    assert second.stop(timeout=20) == 0
    beat.stop()

    logs = {process.name: _events(process) for process in (beat, first, second)}
    for process, events in logs.items():
        assert events, f"{process} wrote nothing"
        assert len({event["worker"] for event in events}) == 1
        assert all(event.keys() >= {"event", "level", "timestamp", "worker"} for event in events)
    written = "\n".join(
        path.read_text(encoding="utf-8") for path in hostile.directory.glob("*.log")
    )
    assert PLANTED not in written
    polled = next(event for event in logs["worker1"] if event["event"] == "polled")
    assert (polled["task"], polled["feed"]) == ("poll", "orders")
    assert any(
        event["level"] == "debug" and event["logger"].startswith("celery")
        for event in logs["worker1"]
    )
    received = [
        event["task_id"]
        for event in logs["worker1"]
        if event.get("logger") == "celery.worker.strategy"
    ]
    assert polled["task_id"] in received
