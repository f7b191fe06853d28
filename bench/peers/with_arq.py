"""arq: one job a row.

    arq bench.peers.with_arq.WorkerSettings --custom-log-dict bench.peers.with_arq.QUIET

As its documentation shows: `on_startup` opens the clients, `max_jobs` as many jobs as requests are
to be in flight. Results are not kept, since nobody asks for them. It looks for jobs every
`poll_delay`; a tenth of a second in place of half a one, a line a job less in its log, and uvloop,
all in its favour, are ours.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import uvloop
from arq import create_pool
from arq.connections import RedisSettings

from bench.peers import work

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

QUIET = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
REDIS = RedisSettings.from_dsn(work.REDIS_URL) if work.REDIS_URL else RedisSettings()


async def startup(ctx: dict[str, Any]) -> None:
    """Open the clients."""
    ctx["work"] = work.AsyncWork()


async def deliver(ctx: dict[str, Any], id_: str, payload: str) -> None:
    """Deliver one row."""
    await ctx["work"].deliver(id_, payload)


class WorkerSettings:
    """What arq's worker is told."""

    functions: ClassVar = [deliver]
    on_startup = startup
    redis_settings = REDIS
    max_jobs = work.IN_FLIGHT
    keep_result = 0
    poll_delay = 0.1


async def main() -> None:
    """Send what the benchmark asks for."""
    redis = await create_pool(REDIS)
    await work.produce_async(lambda row: redis.enqueue_job("deliver", *row))


if __name__ == "__main__":
    asyncio.run(main())
