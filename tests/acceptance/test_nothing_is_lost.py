"""Promise 1 with real processes: workers killed, Redis flushed, the partner away."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import psutil
import pymongo
import pytest
import redis

from app.core.states import OPEN_STATES
from app.testbed.embedded.process import Process
from app.testbed.embedded.stack import Stack
from tests.support.wait import wait_until


def _states(stack: Stack) -> dict[str, int]:
    with pymongo.MongoClient[dict[str, object]](stack.mongo_url) as client:
        groups = client.get_default_database()["deliveries"].aggregate(
            [{"$group": {"_id": "$state", "n": {"$sum": 1}}}]
        )
        return {str(group["_id"]): int(str(group["n"])) for group in groups}


def _delivered(stack: Stack) -> int:
    return _states(stack).get("delivered", 0)


def _settled(stack: Stack, rows: int) -> bool:
    states = _states(stack)
    return sum(states.values()) == rows and not any(states.get(state) for state in OPEN_STATES)


def _accepted_keys(stack: Stack) -> set[str]:
    with stack.partner() as partner:
        return {orjson.loads(line)["key"] for line in partner.get("/_simulator/keys").iter_lines()}


def _kill(worker: Process) -> None:
    worker.signal(signal.SIGKILL)
    wait_until(lambda: not worker.alive, timeout=10, message="the worker's end")


def test_every_row_arrives_though_workers_are_killed_and_redis_is_flushed(stack: Stack) -> None:
    rows = 1500
    with stack.partner() as partner:
        partner.put(
            "/_simulator/faults", json={"slow": 0.2, "slow_seconds": [0.05, 0.3]}
        ).raise_for_status()
    stack.start_beat()
    worker = stack.start_worker()
    stack.start_generator(rows, rate=300, pattern="late-commit")
    for share in (0.1, 0.35, 0.6):
        wait_until(
            lambda: _delivered(stack) >= rows * share,  # noqa: B023 - called in the same turn
            timeout=90,
            message=f"{share:.0%} delivered",
        )
        _kill(worker)
        worker = stack.start_worker()
    wait_until(lambda: _delivered(stack) >= rows * 0.75, timeout=90, message="75% delivered")
    with redis.Redis.from_url(stack.redis.url) as client:
        client.flushall()
    wait_until(lambda: _settled(stack, rows), timeout=120, message="every row to be settled")

    assert _states(stack) == {"delivered": rows}
    assert _accepted_keys(stack) == {f"orders:{number}" for number in range(1, rows + 1)}


@pytest.fixture
def unbroken(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """A stack whose feed has no circuit breaker: it goes on trying."""
    with Stack(
        tmp_path,
        gap_timeout="10s",
        partner_options="breaker = { enabled = false }",
        settings=shared_ledger,
    ) as running:
        yield running


def test_rows_wait_while_no_partner_listens_and_all_arrive_once_it_is_back(unbroken: Stack) -> None:
    stack, rows = unbroken, 500
    address = stack.partner_url
    stack.partner_process.kill()
    stack.start_beat()
    worker = stack.start_worker()
    stack.start_generator(rows)
    with pymongo.MongoClient[dict[str, object]](stack.mongo_url) as client:
        ledger = client.get_default_database()
        tried = {"attempts": {"$gte": 1}, "last.error": {"$regex": "^ConnectError"}}
        wait_until(
            lambda: ledger["deliveries"].count_documents(tried) == rows,
            timeout=90,
            message="a first try of each",
        )
        wait_until(
            lambda: _states(stack).get("retrying", 0) > 0,
            timeout=30,
            message="rows that wait as retrying",
        )
        before = psutil.Process(worker.pid).memory_info().rss
        wait_until(
            lambda: ledger["attempts"].estimated_document_count() > 4 * rows,
            timeout=90,
            message="more retries",
        )
    grown = psutil.Process(worker.pid).memory_info().rss - before
    assert set(_states(stack)) <= {"queued", "retrying"}
    assert grown < 30 * 2**20, f"the worker grew by {grown / 2**20:.0f} MiB while it retried"

    stack.restart_partner()
    assert stack.partner_url == address
    wait_until(lambda: _settled(stack, rows), timeout=90, message="every row to be settled")
    assert _states(stack) == {"delivered": rows}


def test_two_beats_send_no_row_twice(patient: Stack) -> None:
    stack, rows = patient, 200
    beats = [stack.start_beat(), stack.start_beat()]
    stack.start_worker()
    stack.start_worker()
    stack.start_generator(rows)
    wait_until(lambda: _settled(stack, rows), timeout=60, message="every row to be settled")
    with stack.partner() as partner:
        counts = partner.get("/_simulator/counts").json()
    assert (counts["requests"], counts["unique"]) == (rows, rows)
    assert all(beat.alive for beat in beats)
