"""taskiq: one task a row.

    taskiq worker bench.peers.with_taskiq:broker --workers 1 --max-async-tasks 100

As the README of taskiq-redis shows: the stream broker, which acknowledges (the list broker would
lose what a killed worker had). No result backend, since nobody asks for results. Its worker uses
uvloop where that is installed.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from bench.peers import work

broker = RedisStreamBroker(url=work.REDIS_URL)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _open(state: TaskiqState) -> None:
    state.work = work.AsyncWork()


@broker.task(task_name="deliver")
async def deliver(id_: str, payload: str, context: Annotated[Context, TaskiqDepends()]) -> None:
    """Deliver one row."""
    await context.state.work.deliver(id_, payload)


async def main() -> None:
    """Send what the benchmark asks for."""
    await broker.startup()
    await work.produce_async(lambda row: deliver.kiq(*row))


if __name__ == "__main__":
    asyncio.run(main())
