"""Faults of Redis."""

from __future__ import annotations

import time
from functools import partial

import redis

from tests.chaos.cells.cell import Cell
from tests.chaos.scene import Scene


def redis_killed(scene: Scene) -> None:
    """Redis is killed and away for a while. It comes back empty."""
    scene.let_rows_flow()
    scene.kill_and_restart(scene.stack.redis)


def redis_flushed(scene: Scene) -> None:
    """FLUSHALL while rows flow."""
    scene.let_rows_flow()
    with redis.Redis.from_url(scene.stack.redis.url) as client:
        client.flushall()
    scene.fault_is_over()


def redis_paused(scene: Scene, seconds: float) -> None:
    """Redis stops answering, with its connections open."""
    scene.let_rows_flow()
    scene.freeze(scene.stack.redis.process, seconds)
    scene.fault_is_over()


def redis_out_of_memory(scene: Scene) -> None:
    """Redis refuses every write for a while."""
    scene.let_rows_flow()
    with redis.Redis.from_url(scene.stack.redis.url) as client:
        client.config_set("maxmemory", "1kb")
        time.sleep(5)  # the outage itself
        client.config_set("maxmemory", "0")
    scene.fault_is_over()


JUNK = (
    b"hello \xff\xfe",
    b"42",
    b"{}",
    b"[" * 100_000,
    b"x" * 2_000_000,
    b'{"body": "%%%", "content-type": "application/json", "headers": {"task": "deliver"}, "properties": {}}',
)


def junk_in_redis(scene: Scene) -> None:
    """Thousands of messages that are none, and hints for batches that are gone, while rows flow."""
    worker = scene.let_rows_flow()
    with redis.Redis.from_url(scene.stack.redis.url) as client:
        for _ in range(200):
            client.lpush("deliver", *JUNK)
            client.lpush("poll", *JUNK[:3])
            client.lpush("maintenance", *JUNK[:3])
            client.publish("/0.celery.pidbox", JUNK[0])
            client.publish("rowrelay:clock", JUNK[0])
    scene.fault_is_over()
    assert worker.alive, worker.failure()


def keys_of_the_wrong_type(scene: Scene) -> None:
    """Another program keeps something else under every key of ours."""
    worker = scene.let_rows_flow()
    with redis.Redis.from_url(scene.stack.redis.url) as client:
        for key in (
            "deliver",
            "poll",
            "maintenance",
            "rowrelay:{orders}:clock",
            "rowrelay:{orders}:live",
        ):
            client.delete(key)
            client.set(key, "mine")
    scene.fault_is_over()
    assert worker.alive, worker.failure()


CELLS = (
    Cell("redis killed", "under load", redis_killed),
    Cell("redis flushed", "under load", redis_flushed, quick=True),
    Cell("redis paused", "8 s", partial(redis_paused, seconds=8)),
    Cell("redis paused", "30 s", partial(redis_paused, seconds=30)),
    Cell("redis out of memory", "5 s", redis_out_of_memory),
    Cell("junk in redis", "under load", junk_in_redis, quick=True),
    Cell("keys of the wrong type", "under load", keys_of_the_wrong_type),
)
