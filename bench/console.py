"""What pages and endpoints of the console take with many deliveries behind them, and what a live
overview keeps in memory.

    python -m bench.console [--old 5000000] [--dead 10000] [--live 60]

An embedded mongod, and the console's own SQLite file; the application is called in this process,
without a socket. Deliveries are written as they are later: settled, a second apart, the last ones
dead. Prints, of each address, milliseconds (p50 and p95 of 40 requests, after one), statements asked of
the console's database, and bytes sent; the overview also where it is read anew each time. Then 20
readers watch it for `--live` seconds: the process's memory before and after. Five million take about
three gigabytes of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from pymongo import MongoClient, WriteConcern
from sqlalchemy import event

import config
from app.broker.queue import KnockingQueue
from app.configuration.loaded import Loaded
from app.console.app import make_app
from app.console.feeds.live import Watch
from app.console.security.roles import Role, of_command
from app.console.services import Services, open_services
from app.console.sessions.service import Caller
from app.console.users.schemas import NewUser
from app.feeds.feed import Feed
from app.testbed.embedded.stack import Stack

TIMES, AT_ONCE, READERS = 40, 5000, 20
PATHS = (
    "/",
    "/api/v1/feeds",
    "/feeds/orders",
    "/feeds/orders?range=week",
    "/api/v1/feeds/orders",
    "/workers",
    "/jobs",
    "/deliveries",
    "/api/v1/deliveries",
    "/api/v1/deliveries?q=orders:42",
    "/dead-letters",
    "/api/v1/dead-letters",
)


def main() -> None:
    """Write the deliveries, ask, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=int, default=5_000_000, help="deliveries")
    parser.add_argument("--dead", type=int, default=10_000, help="dead letters among them")
    parser.add_argument("--live", type=int, default=60, help="seconds")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rowrelay-") as directory,
        Stack(Path(directory), temporary=True) as stack,
    ):
        print(stack.mongo.description, flush=True)
        _write(stack.mongo.url, asked.old, asked.dead)
        asyncio.run(_measure(Path(directory), stack, asked.live))


def _write(url: str, count: int, dead: int) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        deliveries = client.get_default_database()["deliveries"].with_options(
            write_concern=WriteConcern(w=1)
        )
        waiting = _old(count, dead)
        while some := list(islice(waiting, AT_ONCE)):
            deliveries.insert_many(some, ordered=False)
    print(f"{count:,} deliveries, of these {dead:,} dead", flush=True)


def _old(count: int, dead: int) -> Iterator[dict[str, Any]]:
    begin = datetime.now(UTC) - timedelta(seconds=count)
    for number in range(count):
        at, died = begin + timedelta(seconds=number), number >= count - dead
        yield {
            "_id": f"orders:{number}", "feed": "orders", "key": f"{number}", "position": number,
            "created_at": at, "attempts": 1, "state": "dead" if died else "delivered", "finished_at": at,
            "last": {"at": at, "status": 404 if died else 200}, **({"reason": "404 Not Found"} if died else {}),
        }  # fmt: skip


@asynccontextmanager
async def _opened(directory: Path, stack: Stack) -> AsyncIterator[Services]:
    given = {
        "mongo_url": stack.mongo.url,
        "redis_url": stack.variables["REDIS_URL"],
        "source_url": f"sqlite:///{directory}/none.db",
        "console_database_url": f"sqlite:///{directory}/console.db",
    }
    feed = Feed.model_validate({
        "name": "orders", "table": "orders", "key": "id",
        "cursor": {"strategy": "identity", "column": "id"},
        "partner": {"url": "http://partner.invalid/rows"},
    })  # fmt: skip
    loaded = config.Config(config.Settings.model_validate(given), {"orders": feed})
    async with open_services(Loaded(loaded), _no_queue) as services:
        await services.operator.ledger.prepare()
        yield services


def _no_queue() -> KnockingQueue:
    raise AssertionError("nothing is published here")


async def _measure(directory: Path, stack: Stack, live: int) -> None:
    async with _opened(directory, stack) as services, AsyncExitStack() as closing:
        client = await closing.enter_async_context(await _logged_in(services))
        asked: list[str] = []
        event.listen(
            services.store.engine.sync_engine,
            "before_cursor_execute",
            lambda _c, _cursor, statement, *_more: asked.append(statement),
        )
        print(f"{'':<40}{'p50 ms':>9}{'p95 ms':>9}{'statements':>12}{'bytes':>9}", flush=True)
        for path in PATHS:
            await _ask(client, path, asked)
        await _ask(client, "/", asked, "/, read anew", services)
        await _live(services, live)


async def _logged_in(services: Services) -> httpx.AsyncClient:
    word = "a password of this run"
    user, link = await services.users.create(
        of_command("bench"), NewUser(name="bench", role=Role.ADMIN)
    )
    await services.users.set_password(link.url.rpartition("/")[2], word, "127.0.0.1")
    begun = await services.sessions.log_in(user.name, word, Caller("127.0.0.1", "bench"))
    transport = httpx.ASGITransport(make_app(services))
    cookies = {services.authentication.cookie.name: begun.secret}
    return httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:8800", cookies=cookies, timeout=60
    )


async def _ask(
    client: httpx.AsyncClient,
    path: str,
    asked: list[str],
    name: str | None = None,
    anew: Services | None = None,
) -> None:
    answer = await client.get(path)
    answer.raise_for_status()
    took: list[float] = []
    asked.clear()
    for _ in range(TIMES):
        if anew:
            anew.feeds.forget()
        begun = time.monotonic()
        await client.get(path)
        took.append(1000 * (time.monotonic() - begun))
    took.sort()
    statements = sum(not one.startswith("BEGIN") for one in asked) / TIMES
    p50, p95 = took[TIMES // 2], took[TIMES * 95 // 100]
    print(
        f"{name or path:<40}{p50:9.1f}{p95:9.1f}{statements:12.1f}{len(answer.content):9,}",
        flush=True,
    )


async def _live(services: Services, seconds: int) -> None:
    """Readers who watch: what the process keeps for them, in MB."""
    told = [0] * READERS

    async def still() -> None:
        """They are logged in."""

    async def read(watch: Watch, number: int) -> None:
        async for _ in watch.news():
            told[number] += 1

    async with AsyncExitStack() as closing:
        watches = [
            await closing.enter_async_context(services.feeds.live.watching(still))
            for _ in range(READERS)
        ]
        reading = [asyncio.create_task(read(one, number)) for number, one in enumerate(watches)]
        await asyncio.sleep(min(5, seconds))
        before = _megabytes()
        await asyncio.sleep(max(0, seconds - 5))
        after = _megabytes()
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    said = f"{READERS} readers live for {seconds} s, told {min(told)} times"
    print(f"{said}: {before:.1f} MB after 5 s, {after:.1f} MB at the end", flush=True)


def _megabytes() -> float:
    """What the process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
