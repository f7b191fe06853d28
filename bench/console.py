"""What each page and endpoint of the console takes with many deliveries behind it.

    python -m bench.console [--old 5000000] [--dead 10000] [--times 40] [--only TEXT]
                            [--keep DIRECTORY --ledger URL]

An embedded mongod, and the console's own SQLite file; the application is called in this process,
without a socket, by an admin. Behind it is the scene of `bench.console_ledger` and `bench.console_people`.
Prints, of each GET route and of searches with each filter: milliseconds (p50 and p95 of `--times` requests,
after one), statements asked of the console's database and of the ledger, the most documents and index entries
that one statement of the ledger read, and bytes sent. `!` marks a statement that goes through a
collection without an index and read more than `FEW` documents; `slow` and `large` what is over the bounds.

`--keep` with `--ledger`, a mongod that runs: the scene is written there once, and used again. Five
million deliveries take about three gigabytes of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import httpx
from fastapi.routing import iter_route_contexts
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandStartedEvent

import app.console
from app.console.security.roles import Role
from app.core.clock import LONG_AGO
from app.core.logs import configure_logging
from app.ledger import Ledger
from app.ledger.client import Document
from app.runtime.process import freeze_loaded
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from bench.console_ledger import Size, fill, old_id
from bench.console_people import FROZEN, people
from bench.console_routes import STREAMS, Known, addresses, searches
from tests.support.console import Consoled, running_console
from tests.support.console_scene import scene_config, set_scene
from tests.support.overheard import Overheard
from tests.support.statements import statements

FEW = 1000
STATIC_FILES = Path(app.console.__file__).parent / "static"
SLOW_MS, LARGE = 100, 60_000
"""Milliseconds at p95; bytes of a page with its style sheet and scripts."""
STATIC = sum(len(gzip.compress(one.read_bytes())) for one in STATIC_FILES.iterdir())
_ASKS = ("find", "aggregate", "count", "distinct")
_OF_THE_SESSION = (
    "lsid",
    "$db",
    "$clusterTime",
    "readConcern",
    "maxTimeMS",
    "txnNumber",
    "comment",
)


def main() -> None:
    """Write the scene, ask, and print."""
    asked = _arguments()
    configure_logging("WARNING", "text")
    with ExitStack() as closing:
        directory = asked.keep or Path(closing.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(exist_ok=True)
        redis = closing.enter_context(EmbeddedRedis())
        url, about = asked.ledger, "the mongod of --ledger"
        if not url:
            mongo = closing.enter_context(EmbeddedMongo())
            url, about = mongo.url, mongo.description
        print(about, flush=True)
        asyncio.run(_measure(directory, url, redis.url, asked))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=int, default=5_000_000, help="deliveries")
    parser.add_argument("--dead", type=int, default=10_000, help="dead letters among them")
    parser.add_argument("--times", type=int, default=40, help="requests of each address")
    parser.add_argument("--only", default="", help="addresses that have this text in them")
    parser.add_argument("--keep", type=Path, help="where the scene's files stay")
    parser.add_argument("--ledger", help="the URL of a mongod that runs")
    asked = parser.parse_args()
    if bool(asked.keep) != bool(asked.ledger):
        parser.error("--keep and --ledger go together")
    return asked


async def _measure(
    directory: Path, mongo_url: str, redis_url: str, given: argparse.Namespace
) -> None:
    config = scene_config(directory, mongo_url, redis_url)
    async with running_console(config) as console:
        with MongoClient[Document](mongo_url) as client:
            there = client.get_default_database("celery_logs")[
                "deliveries"
            ].estimated_document_count()
        if not there:
            await _write(console, directory, mongo_url, Size(given.old, given.dead))
        async with _watched(console, mongo_url) as asked:
            admin = await console.logged_in(Role.ADMIN, f"bench-{secrets.token_hex(4)}")
            known = await _known(console, asked.database, given.old)
            freeze_loaded()
            _print_head(there or given.old)
            for address in _addresses(console, known):
                if given.only in address:
                    _print(address, await _ask(admin, address, asked, given.times))


async def _write(console: Consoled, directory: Path, url: str, size: Size) -> None:
    """The scene, then what is older: without indexes, which are made in the end."""
    begun = time.monotonic()
    await set_scene(console, directory)
    with MongoClient[Document](url) as client:
        client.get_default_database("celery_logs")["deliveries"].drop_indexes()
    await asyncio.to_thread(fill, url, size)
    await console.services.operator.ledger.prepare()
    await people(console.services)
    took = time.monotonic() - begun
    print(f"{size.count:,} deliveries, {size.dead:,} of them dead, in {took:.0f} s", flush=True)


async def _known(console: Consoled, ledger: Any, old: int) -> Known:
    """What addresses name."""
    dead = await ledger["deliveries"].find_one(
        {
            "state": "dead",
            "feed": "orders",
            "finished_at": {"$gt": LONG_AGO},
            "_id": {"$regex": "^orders:1.{7}$"},
        },
        sort=[("finished_at", -1)],
    )
    days = ledger["reports"].find({"feed": "orders", "kind": "day"}).sort("period", -1)
    last, before = await days.limit(2).to_list()
    assert dead
    async with console.services.store.reading() as work:
        user = (await work.connection()).exec_driver_sql
        (of_user,) = (await user("SELECT id FROM users LIMIT 1")).one()
        (of_origin,) = (await user("SELECT id FROM origins LIMIT 1")).one()
    return Known(
        day=last["period"],
        day_before=before["period"],
        dead=dead["_id"],
        delivered=old_id(old // 2 // 6 * 6),
        user=of_user,
        origin=of_origin,
        operation=FROZEN,
    )


def _addresses(console: Consoled, known: Known) -> Iterator[str]:
    routes = sorted(
        {
            str(route.path)
            for route in iter_route_contexts(console.app.routes)
            if "GET" in (route.methods or ())
        }
        - STREAMS
    )
    for route in routes:
        yield from addresses(route, known)
    yield from searches(known)


# --- statements


class _Asked(Overheard):
    """What is asked of the ledger, and of the console's database, since it was cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.store: list[str] = []
        self.database: Any = None

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in _ASKS:
            self.questions.append(dict(event.command))

    def clear(self) -> None:
        self.store.clear()
        self.questions.clear()


@asynccontextmanager
async def _watched(console: Consoled, url: str) -> AsyncIterator[_Asked]:
    """A console that is listened to."""
    asked, services = _Asked(), console.services
    before = services.operator.ledger
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        url, tz_aware=True, tzinfo=UTC, event_listeners=[asked]
    )
    async with client:
        asked.database = client.get_default_database("celery_logs")
        services.operator.__dict__["ledger"] = Ledger(client)
        with statements(services.store.engine) as asked.store:
            yield asked
        services.operator.__dict__["ledger"] = before


@dataclass(frozen=True, slots=True)
class _Read:
    """What the ledger's server read for one statement, at most."""

    most: int = 0
    without_index: bool = False


async def _explained(asked: _Asked) -> _Read:
    """The statements, explained once each, as the server runs them."""
    found = _Read()
    for command in [*asked.questions]:
        plain = {name: value for name, value in command.items() if name not in _OF_THE_SESSION}
        said = await asked.database.command("explain", plain, verbosity="executionStats")
        read, scans = _most_read(said), "COLLSCAN" in str(said)
        found = _Read(max(found.most, read), found.without_index or (scans and read > FEW))
    return found


def _most_read(said: object) -> int:
    """The most documents, or index entries, that any stage says it examined."""
    if isinstance(said, list):
        return max(map(_most_read, said), default=0)
    if not isinstance(said, dict):
        return 0
    own = max(int(said.get(name, 0)) for name in ("totalDocsExamined", "totalKeysExamined"))
    return max([own, *map(_most_read, said.values())])


# --- measured and printed


@dataclass(frozen=True, slots=True)
class _Measured:
    p50: float
    p95: float
    store: float
    ledger: float
    read: _Read
    sent: int
    status: int


async def _ask(client: httpx.AsyncClient, address: str, asked: _Asked, times: int) -> _Measured:
    asked.clear()
    answer = await client.get(address)
    read = await _explained(asked)
    took: list[float] = []
    asked.clear()
    for _ in range(times):
        begun = time.monotonic()
        answer = await client.get(address)
        took.append(1000 * (time.monotonic() - begun))
    took.sort()
    return _Measured(
        took[times // 2],
        took[times * 95 // 100],
        len(asked.store) / times,
        len(asked.questions) / times,
        read,
        len(answer.content),
        answer.status_code,
    )


def _print_head(count: int) -> None:
    print(f"{count:,} deliveries")
    head = f"{'':<70}{'p50 ms':>8}{'p95 ms':>8}{'store':>7}{'ledger':>8}{'read':>9}{'bytes':>10}"
    print(head, flush=True)


def _print(address: str, one: _Measured) -> None:
    shown = address if len(address) < 70 else f"{address[:66]}…"
    remarks = [
        *(["!"] if one.read.without_index else []),
        *(["slow"] if one.p95 > SLOW_MS else []),
        *(["large"] if one.sent + STATIC > LARGE and not address.startswith("/api/") else []),
        *([str(one.status)] if one.status >= 300 else []),
    ]
    numbers = f"{one.p50:8.1f}{one.p95:8.1f}{one.store:7.1f}{one.ledger:8.1f}{one.read.most:9,}{one.sent:10,}"
    print(f"{shown:<70}{numbers} {' '.join(remarks)}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
