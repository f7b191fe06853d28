"""The limits: bare loops that do one part of the job and nothing else.

    python -m bench.limits LOOP --rows 3000 --in-flight 100 --source FILE --url URL

Posting a row: `aiohttp`, `transport` (httpx's requests given to the aiohttp transport without a
client), `httpx-aiohttp` (httpx's client over that transport), `httpx` (its own transport), and
`simulator` (aiohttp again, for the server's sake). Redis: `redis` (LPUSH, then BRPOP) and
`redis-pipelined` (100 of each at once). The ledger server: `insert` (1,000 rows at once), `update`
(50 at once), `update-one` (`--in-flight` at once, as one job a row does) and `find` (100 at once).
`--url` is the server's.

Prints one line of JSON: rows, seconds, and the CPU seconds of this process and of the server, all
without starting.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import aiohttp
import httpx
import orjson
import psutil
import pymongo
import uvloop
from httpx_aiohttp import AiohttpTransport
from redis.asyncio import Redis

from app.core.parts import in_parts
from bench.peers import work
from bench.peers.work import Document, Row

INSERTED, UPDATED, FOUND, PIPELINED = 1000, 50, 100, 100
"""Rows at once."""

Do: TypeAlias = Callable[[Sequence[Row]], Awaitable[Any]]
"""Does one step of a loop for some rows."""
Open: TypeAlias = Callable[[str, int], Any]
"""URL, requests in flight → a context that gives a `Do`."""


def load(source: Path, rows: int) -> list[Row]:
    """Read the rows, before the clock runs."""
    with closing(sqlite3.connect(source)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM orders ORDER BY id LIMIT ?", (rows,))
        return [(f"orders:{row['id']}", orjson.dumps(dict(row)).decode()) for row in found]


# --- posting


@asynccontextmanager
async def _aiohttp(url: str, in_flight: int) -> AsyncIterator[Do]:
    async with _session(in_flight) as session:

        async def post(rows: Sequence[Row]) -> None:
            for id_, payload in rows:
                async with session.post(
                    url, data=payload.encode(), headers=work.headers(id_)
                ) as answer:
                    await answer.read()
                    assert answer.status == 200

        yield post


@asynccontextmanager
async def _transport(_url: str, in_flight: int) -> AsyncIterator[Do]:
    url = httpx.URL(_url)
    async with AiohttpTransport(client=_session(in_flight)) as transport:

        async def post(rows: Sequence[Row]) -> None:
            for id_, payload in rows:
                request = httpx.Request(
                    "POST", url, headers=work.headers(id_), content=payload.encode()
                )
                answer = await transport.handle_async_request(request)
                await answer.aread()
                assert answer.status_code == 200

        yield post


@asynccontextmanager
async def _httpx_aiohttp(url: str, in_flight: int) -> AsyncIterator[Do]:
    transport = AiohttpTransport(client=_session(in_flight))
    async with httpx.AsyncClient(
        transport=transport, timeout=work.TIMEOUT_S, trust_env=False
    ) as client:
        yield _poster(client, url)


@asynccontextmanager
async def _httpx(url: str, in_flight: int) -> AsyncIterator[Do]:
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=work.KEPT)
    async with httpx.AsyncClient(limits=limits, timeout=work.TIMEOUT_S, trust_env=False) as client:
        yield _poster(client, url)


def _session(in_flight: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight))


def _poster(client: httpx.AsyncClient, url: str) -> Do:
    async def post(rows: Sequence[Row]) -> None:
        for id_, payload in rows:
            answer = await client.post(url, content=payload.encode(), headers=work.headers(id_))
            assert answer.status_code == 200

    return post


# --- Redis


@asynccontextmanager
async def _redis(url: str, _: int) -> AsyncIterator[Do]:
    async with Redis.from_url(url) as client:

        async def push_and_pop(rows: Sequence[Row]) -> None:
            for _, payload in rows:
                await client.lpush("bench", payload)
                assert await client.brpop(["bench"], timeout=5)

        yield push_and_pop


@asynccontextmanager
async def _redis_pipelined(url: str, _: int) -> AsyncIterator[Do]:
    async with Redis.from_url(url) as client:

        async def push_and_pop(rows: Sequence[Row]) -> None:
            async with client.pipeline(transaction=False) as pipeline:
                for _, payload in rows:
                    pipeline.lpush("bench", payload)
                for _ in rows:
                    pipeline.brpop(["bench"], timeout=5)
                assert all(await pipeline.execute())

        yield push_and_pop


# --- the ledger


@asynccontextmanager
async def _ledger(url: str) -> AsyncIterator[Any]:
    async with pymongo.AsyncMongoClient[Document](url) as client:
        yield client.get_default_database()["deliveries"]


@asynccontextmanager
async def _insert(url: str, _: int) -> AsyncIterator[Do]:
    async with _ledger(url) as deliveries:
        yield lambda rows: deliveries.insert_many(work.documents(rows), ordered=False)


@asynccontextmanager
async def _update(url: str, _: int) -> AsyncIterator[Do]:
    async with _ledger(url) as deliveries:
        yield lambda rows: deliveries.update_many(
            {"_id": {"$in": [id_ for id_, _ in rows]}}, work.outcome(200)
        )


@asynccontextmanager
async def _update_one(url: str, _: int) -> AsyncIterator[Do]:
    async with _ledger(url) as deliveries:
        yield lambda rows: deliveries.update_one({"_id": rows[0][0]}, work.outcome(200))


@asynccontextmanager
async def _find(url: str, _: int) -> AsyncIterator[Do]:
    async with _ledger(url) as deliveries:
        yield lambda rows: deliveries.find({"_id": {"$in": [id_ for id_, _ in rows]}}).to_list()


class Loop(NamedTuple):
    """One loop."""

    title: str
    server: str
    """Which server it works on: `partner`, `simulator` (the demo's partner), `redis` or `ledger`.
    """
    opening: Open
    size: int = 1
    """Rows a step."""
    at_once: bool = True
    """`--in-flight` steps run at once; else one."""
    inserted: bool = False
    """The ledger must hold the rows already."""


LOOPS = {
    "aiohttp": Loop("POST, aiohttp", "partner", _aiohttp),
    "transport": Loop("POST, httpx requests to the aiohttp transport", "partner", _transport),
    "httpx-aiohttp": Loop("POST, httpx over the aiohttp transport", "partner", _httpx_aiohttp),
    "httpx": Loop("POST, httpx", "partner", _httpx),
    "simulator": Loop("POST, aiohttp, to the demo's partner", "simulator", _aiohttp),
    "redis": Loop("Redis, LPUSH and BRPOP", "redis", _redis, at_once=False),
    "redis-pipelined": Loop(
        "Redis, 100 LPUSH and BRPOP at once", "redis", _redis_pipelined, PIPELINED, at_once=False
    ),
    "insert": Loop("ledger, insert_many of 1,000", "ledger", _insert, INSERTED, at_once=False),
    "update": Loop(
        "ledger, update_many of 50", "ledger", _update, UPDATED, at_once=False, inserted=True
    ),
    "update-one": Loop("ledger, update_one", "ledger", _update_one, inserted=True),
    "find": Loop("ledger, find of 100", "ledger", _find, FOUND, at_once=False, inserted=True),
}


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Run one loop. Rows that the ledger must hold, and connections to a partner, are made before
    the clock runs.
    """
    rows, loop = load(options.source, options.rows), LOOPS[options.loop]
    if loop.inserted:
        async with _insert(options.url, 1) as insert:
            for part in in_parts(rows, INSERTED):
                await insert(part)
    async with loop.opening(options.url, options.in_flight) as do:
        if loop.server in ("partner", "simulator"):
            await asyncio.gather(*(do([row]) for row in rows[: options.in_flight]))
        steps = in_parts(rows, loop.size)
        server = psutil.Process(options.server) if options.server else None
        served_before, cpu, started = _served_s(server), time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(options.in_flight if loop.at_once else 1):
                group.create_task(_lane(steps, do))
        return {
            "rows": len(rows),
            "seconds": time.perf_counter() - started,
            "cpu_s": time.process_time() - cpu,
            "server_s": _served_s(server) - served_before,
        }


def _served_s(server: psutil.Process | None) -> float:
    return sum(server.cpu_times()[:2]) if server else 0.0


async def _lane(steps: Iterator[Sequence[Row]], do: Do) -> None:
    for rows in steps:
        await do(rows)


def main() -> None:
    """Run the loop that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument(
        "--server", type=int, help="the server's process id: its CPU time is measured too"
    )
    sys.stdout.write(orjson.dumps(uvloop.run(run(parser.parse_args()))).decode() + "\n")


if __name__ == "__main__":
    main()
