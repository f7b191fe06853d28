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


CELLS = (
    Cell("redis killed", "under load", redis_killed),
    Cell("redis flushed", "under load", redis_flushed, quick=True),
    Cell("redis paused", "8 s", partial(redis_paused, seconds=8)),
    Cell("redis paused", "30 s", partial(redis_paused, seconds=30)),
    Cell("redis out of memory", "5 s", redis_out_of_memory),
)
