"""What is the same for every peer: the rows, the documents, the request, and how the producer is
told what to send.

One insert and one update a row: the producer inserts the rows' documents a page at a time and then
sends a job for each; the job posts the row that it was given, and sets the outcome in the row's
document. It reads nothing back.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, TypeAlias

import aiohttp
import httpx
import orjson
import pymongo

Row: TypeAlias = tuple[str, str]
"""A row's id, and the row as JSON."""
Document: TypeAlias = dict[str, Any]

REDIS_URL = os.environ.get("BENCH_REDIS_URL", "")
MONGO_URL = os.environ.get("BENCH_MONGO_URL", "")
"""Empty: without the ledger."""
PARTNER_URL = os.environ.get("BENCH_PARTNER_URL", "")
SOURCE = os.environ.get("BENCH_SOURCE", "")
CLIENT = os.environ.get("BENCH_CLIENT", "")
"""The HTTP client: `aiohttp`, `httpx` or `requests`."""
IN_FLIGHT = int(os.environ.get("BENCH_IN_FLIGHT", "100"))
"""Requests in flight a process, where the library lets one choose."""

PAGE = 1000
"""Rows read, and inserted, together."""
CHUNK = 50
"""Jobs sent at once by an async producer."""
TIMEOUT_S = 10.0
KEPT = 20
"""Idle connections that httpx keeps: its default. It looks at each of them for each request, so
more make it slower.
"""


# --- the producer


def read(first: int, last: int) -> Iterator[list[Row]]:
    """The rows with these ids, a page at a time."""
    with closing(sqlite3.connect(SOURCE)) as connection:
        connection.row_factory = sqlite3.Row
        while first <= last:
            found = connection.execute(
                "SELECT * FROM orders WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?",
                (first, last, PAGE),
            ).fetchall()
            yield [(f"orders:{row['id']}", orjson.dumps(dict(row)).decode()) for row in found]
            first += PAGE


def documents(page: Iterable[Row]) -> list[Document]:
    """What the ledger is told of a page of rows."""
    now = datetime.now(UTC)
    return [
        {
            "_id": id_,
            "feed": "orders",
            "payload": payload,
            "state": "queued",
            "created_at": now,
            "attempts": 0,
        }
        for id_, payload in page
    ]


def spans() -> Iterator[tuple[int, int]]:
    """The first and last id of what is to be sent, as the benchmark writes them to our standard
    input.
    """
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        first, last = line.split()
        yield int(first), int(last)


def produce(send: Callable[[Sequence[Row]], None]) -> None:
    """Log and send what the benchmark asks for, until it closes our standard input."""
    ledger = collection()
    for first, last in spans():
        for page in read(first, last):
            if ledger is not None:
                ledger.insert_many(documents(page), ordered=False)
            send(page)


async def produce_async(send: Callable[[Row], Awaitable[Any]]) -> None:
    """As `produce`, with `CHUNK` jobs sent at once. Nothing else runs on the loop, so waiting for
    input may block.
    """
    client = pymongo.AsyncMongoClient[Document](MONGO_URL) if MONGO_URL else None
    for first, last in spans():
        for page in read(first, last):
            if client is not None:
                await client.get_default_database()["deliveries"].insert_many(
                    documents(page), ordered=False
                )
            for start in range(0, len(page), CHUNK):
                await asyncio.gather(*map(send, page[start : start + CHUNK]))


def collection() -> pymongo.collection.Collection[Document] | None:
    """The rows' documents; `None` without the ledger."""
    client = pymongo.MongoClient[Document](MONGO_URL) if MONGO_URL else None
    return None if client is None else client.get_default_database()["deliveries"]


# --- the job


def headers(id_: str) -> dict[str, str]:
    """Of the request for a row."""
    return {"Content-Type": "application/json", "Idempotency-Key": id_}


def outcome(status: int) -> Document:
    """The update of a row's document."""
    if status != 200:
        raise RuntimeError(f"the partner answered {status}")
    now = datetime.now(UTC)
    last = {"at": now, "status": status}
    return {
        "$set": {"state": "delivered", "finished_at": now, "last": last},
        "$inc": {"attempts": 1},
    }


class AsyncWork:
    """The job on an event loop: one HTTP client and one ledger client a process. Make it where a
    loop runs.
    """

    def __init__(self) -> None:
        self._post = self._aiohttp if CLIENT == "aiohttp" else self._httpx
        if CLIENT == "aiohttp":
            connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(TIMEOUT_S)
            )
        else:
            limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=KEPT)
            self._client = httpx.AsyncClient(limits=limits, timeout=TIMEOUT_S, trust_env=False)
        self._mongo = pymongo.AsyncMongoClient[Document](MONGO_URL) if MONGO_URL else None
        self._documents = (
            self._mongo.get_default_database()["deliveries"] if self._mongo is not None else None
        )

    async def deliver(self, id_: str, payload: str) -> None:
        """Post the row, and set the outcome."""
        update = outcome(await self._post(id_, payload.encode()))
        if self._documents is not None:
            await self._documents.update_one({"_id": id_}, update)

    async def _aiohttp(self, id_: str, body: bytes) -> int:
        async with self._session.post(PARTNER_URL, data=body, headers=headers(id_)) as answer:
            await answer.read()
            return answer.status

    async def _httpx(self, id_: str, body: bytes) -> int:
        return (
            await self._client.post(PARTNER_URL, content=body, headers=headers(id_))
        ).status_code


class SyncWork:
    """The job in threads, greenlets or alone in its process. Make it in the process that uses it."""

    def __init__(self) -> None:
        self._post = self._requests() if CLIENT == "requests" else self._httpx()
        self._documents = collection()

    def deliver(self, id_: str, payload: str) -> None:
        """Post the row, and set the outcome."""
        update = outcome(self._post(id_, payload.encode()))
        if self._documents is not None:
            self._documents.update_one({"_id": id_}, update)

    def _httpx(self) -> Callable[[str, bytes], int]:
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=KEPT)
        client = httpx.Client(limits=limits, timeout=TIMEOUT_S, trust_env=False)
        return lambda id_, body: (
            client.post(PARTNER_URL, content=body, headers=headers(id_)).status_code
        )

    def _requests(self) -> Callable[[str, bytes], int]:
        import requests  # noqa: PLC0415 - not in every environment

        session = requests.Session()
        session.trust_env = False
        session.mount(
            "http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=IN_FLIGHT)
        )

        def post(id_: str, body: bytes) -> int:
            status: int = session.post(
                PARTNER_URL, data=body, headers=headers(id_), timeout=TIMEOUT_S
            ).status_code
            return status

        return post
