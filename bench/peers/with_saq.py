"""saq: one job a row.

    saq bench.peers.with_saq.settings

As its README shows: a queue, a `startup` that opens the clients, `concurrency` as many jobs as
requests are to be in flight. What is kept of a finished job (`ttl`) is switched off, since nobody
asks for it. JSON by orjson and uvloop, both in its favour, are ours.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import uvloop
from saq import Queue

from bench.peers import work

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

queue = Queue.from_url(work.REDIS_URL, dump=orjson.dumps, load=orjson.loads)


async def startup(ctx: dict[str, Any]) -> None:
    """Open the clients."""
    ctx["work"] = work.AsyncWork()


async def deliver(ctx: dict[str, Any], *, id_: str, payload: str) -> None:
    """Deliver one row."""
    await ctx["work"].deliver(id_, payload)


settings = {
    "queue": queue,
    "functions": [deliver],
    "concurrency": work.IN_FLIGHT,
    "startup": startup,
}


async def main() -> None:
    """Send what the benchmark asks for."""
    await work.produce_async(
        lambda row: queue.enqueue("deliver", id_=row[0], payload=row[1], ttl=-1)
    )


if __name__ == "__main__":
    asyncio.run(main())
