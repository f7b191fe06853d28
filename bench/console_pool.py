"""Whether the console loses connections to its database: requests of all kinds, some cut off, many at once.

    python -m bench.console_pool [requests]

Prints how many were answered how, and how many connections are still taken at the end: 0.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from sqlalchemy.pool import QueuePool

from app.console.security.roles import Role
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from tests.support.console import Consoled, console_config, running_console

AT_ONCE = 50
PATHS = (
    "/api/v1/users/me",
    "/api/v1/users",
    "/api/v1/sessions",
    "/api/v1/tokens",
    "/api/v1/origins",
    "/api/v1/audit",
    "/api/v1/nothing",
    "/health/ready",
)


async def main(requests: int) -> None:
    """Ask, and say what came of it."""
    async with AsyncExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        mongo = closing.enter_context(EmbeddedMongo())
        redis = closing.enter_context(EmbeddedRedis())
        configured = console_config(directory, mongo.url, redis.url)
        console = await closing.enter_async_context(running_console(configured))
        await console.services.operator.ledger.prepare()
        browsers = [await console.logged_in(role) for role in Role]
        begun = time.perf_counter()
        seen = await _ask(browsers, requests)
        took = time.perf_counter() - begun
        left = await _left(console)
    print(f"{requests} requests in {took:.0f} s, {AT_ONCE} at once")
    for status, count in sorted(seen.items()):
        print(f"  {status or 'cut off'}: {count}")
    print(f"connections still taken: {left}")
    if left:
        sys.exit(1)


async def _ask(browsers: list[httpx.AsyncClient], requests: int) -> Counter[int]:
    seen: Counter[int] = Counter()
    numbers = iter(range(requests))
    dice = random.Random(7)

    async def asking() -> None:
        for number in numbers:
            path = PATHS[number % len(PATHS)]
            try:
                async with asyncio.timeout(dice.choice((10.0,) * 8 + (0.0, 0.01))):
                    answer = await browsers[number % 3].get(path)
                seen[answer.status_code] += 1
            except TimeoutError:
                seen[0] += 1

    await asyncio.gather(*(asking() for _ in range(AT_ONCE)))
    return seen


async def _left(console: Consoled) -> int:
    """Connections that are taken, once those of requests that were cut off have had time to end."""
    pool = console.services.store.engine.pool
    assert isinstance(pool, QueuePool)
    for _ in range(100):
        if not pool.checkedout():
            break
        await asyncio.sleep(0.05)
    return pool.checkedout()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
