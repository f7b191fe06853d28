"""A worker goes on consuming after Redis was lost, however it was lost (docs/decisions/0013)."""

from __future__ import annotations

import signal
import time

import pymongo
import redis

from app.testbed.embedded.stack import Stack
from tests.support.wait import wait_until

PAUSED_SECONDS = 30


def _delivered(stack: Stack) -> int:
    with pymongo.MongoClient[dict[str, object]](stack.mongo_url) as client:
        return client.get_default_database()["deliveries"].count_documents({"state": "delivered"})


def _kill_connections(stack: Stack) -> None:
    with redis.Redis.from_url(stack.redis.url) as client:
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)


def _kill_connections_again_and_again(stack: Stack) -> None:
    """Also those that are just being made anew: what left workers hanging in Celery 5.2 to 5.5."""
    for _ in range(30):
        _kill_connections(stack)


def _restart(stack: Stack) -> None:
    stack.redis.restart()


def _stay_away(stack: Stack) -> None:
    """Stop Redis, and start it once the worker has noticed."""
    worker = stack.workers[0]
    before = len(worker.log.read_text())
    stack.redis.kill()
    wait_until(
        lambda: "Cannot connect to redis" in worker.log.read_text()[before:],
        timeout=60,
        message="the worker to notice",
    )
    stack.redis.restart()


def _pause(stack: Stack) -> None:
    stack.redis.process.signal(signal.SIGSTOP)
    time.sleep(PAUSED_SECONDS)  # the fault is a time: Redis stands still for it
    stack.redis.process.signal(signal.SIGCONT)


LOSSES = (
    _kill_connections,
    _kill_connections_again_and_again,
    _restart,
    _stay_away,
    _pause,
    _restart,
)


def test_a_worker_that_lost_redis_goes_on_consuming_however_often(stack: Stack) -> None:
    stack.start_beat()
    worker = stack.start_worker()
    stack.start_generator(50)
    wait_until(lambda: _delivered(stack) == 50, timeout=60, message="the first rows")
    for number, loss in enumerate(LOSSES, start=2):
        loss(stack)
        stack.start_generator(50)
        wait_until(
            lambda: _delivered(stack) == 50 * number,  # noqa: B023 - called in the same turn
            timeout=90,
            message=f"rows written after {loss.__name__}",
        )
    assert worker.alive
    assert worker.stop(timeout=20) == 0
