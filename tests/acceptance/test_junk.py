"""Whatever is in Redis, no worker ends of it, and rows go on (docs/decisions/0039)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
import redis

from app.broker.depths import ASIDE
from app.broker.queue import QUEUES
from app.testbed.embedded.stack import ROOT, Stack
from tests.support.wait import wait_until
from tests.unit.tasks.test_messages import HINT, JUNK, raw, sent

GONE = 20_000

Ledger = pymongo.database.Database[dict[str, Any]]


@pytest.fixture
def client(stack: Stack) -> Iterator[Any]:
    with redis.Redis.from_url(stack.redis.url) as client:
        yield client


@pytest.fixture
def ledger(stack: Stack) -> Iterator[Ledger]:
    with pymongo.MongoClient[dict[str, Any]](stack.mongo_url) as client:
        yield client.get_default_database()


def deliver(stack: Stack, ledger: Ledger, rows: int, timeout: float = 90) -> None:
    """Write 20 rows more, and wait until all `rows` are delivered."""
    stack.start_generator(20)
    delivered = ledger["deliveries"]
    wait_until(
        lambda: delivered.count_documents({"state": "delivered"}) == rows,
        timeout,
        message=f"{rows} rows delivered",
    )


def dropped(ledger: Ledger) -> dict[str, int]:
    """What the workers' heartbeats say that they dropped."""
    counts: dict[str, int] = {}
    for heartbeat in ledger["progress"].find({"role": "worker"}):
        for reason, count in heartbeat["dropped"].items():
            counts[reason] = counts.get(reason, 0) + count
    return counts


def test_junk_in_every_queue_ends_no_worker_and_holds_no_row_up(
    stack: Stack, ledger: Ledger, client: Any
) -> None:
    stack.start_beat()
    worker = stack.start_worker()
    deliver(stack, ledger, 20)
    for queue in QUEUES:
        client.lpush(queue, *(junk for junk, _ in JUNK.values() if junk))
    for channel in ("/0.celery.pidbox", "/0.celeryev", "rowrelay:clock"):
        for junk in (b"\xff\xfe", b"42", b"[" * 10_000, b"{}"):
            client.publish(channel, junk)
    deliver(stack, ledger, 40)
    expected = {reason for junk, reason in JUNK.values() if junk}
    wait_until(
        lambda: expected <= dropped(ledger).keys(), timeout=180, message="each reason to be counted"
    )
    for queue in QUEUES:
        client.delete(queue)
        client.hset(queue, "theirs", "1")
    deliver(stack, ledger, 60)
    aside = [ASIDE + queue for queue in QUEUES]
    wait_until(
        lambda: client.exists(*aside) == len(aside), timeout=180, message="keys to be put aside"
    )
    asked = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_app",
        "inspect",
        "ping",
        "--timeout",
        "20",
    ]
    answered = subprocess.run(
        asked, capture_output=True, text=True, env=stack.environment, cwd=ROOT, check=False
    )
    assert "pong" in answered.stdout, "remote control works, and its answers are read"
    assert worker.alive
    assert worker.log.read_text().count('"event":"message_dropped"') < 100
    assert worker.stop(timeout=20) == 0


def test_new_rows_do_not_wait_behind_thousands_of_hints_for_batches_that_are_gone(
    stack: Stack, ledger: Ledger, client: Any
) -> None:
    stack.start_beat()
    worker = stack.start_worker()
    deliver(stack, ledger, 20)
    hints = [
        raw(sent("deliver", **{**HINT, "batch": f"orders-{number:016x}"})) for number in range(500)
    ]
    for _ in range(GONE // len(hints)):
        client.lpush("deliver", *hints)
    deliver(stack, ledger, 40)
    wait_until(
        lambda: '"event":"queue_sifted"' in worker.log.read_text(),
        message="the queue to be cleared",
    )
    assert worker.log.read_text().count("Task deliver") < GONE / 2, "most were never tasks"
    assert worker.alive
