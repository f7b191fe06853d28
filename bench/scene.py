"""Where a benchmark takes place: one Redis, one ledger server and one partner for all contestants,
and the rows.

Each run has an empty Redis, a ledger database of its own, and a source of its own with the same
rows.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import httpx
import pymongo
import redis

from app.testbed.embedded.process import NotStarted, Process
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from app.testbed.embedded.source import connect, create_source
from app.testbed.embedded.stack import ROOT
from app.testbed.simulator.generator import generate

Document: TypeAlias = dict[str, Any]
Database: TypeAlias = pymongo.database.Database[Document]

SEED = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What one run is to do."""

    rows: int
    ledger: bool = True
    in_flight: int = 100
    """Requests in flight a process, where a contestant lets one choose."""
    answer_ms: float = 0
    """How long the partner takes to answer."""


class Partner:
    """The lean partner, for whoever runs the benchmark."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url
        self._client = httpx.Client(base_url=f"{url}/_bench", timeout=60, trust_env=False)

    def reset(self, answer_ms: float, first: int = 0) -> None:
        """Forget what arrived; answer after so long from now on. Rows below the first are late ones
        of the warm-up.
        """
        self._client.put(f"/delay/{answer_ms:g}/{first}").raise_for_status()

    def wait(self, unique: int, seconds: float) -> Document:
        """The counts, once so many unique keys have arrived or so many seconds have passed."""
        counts: Document = self._client.get(f"/wait/{unique}/{seconds * 1000:.0f}").json()
        return counts

    def arrivals(self) -> dict[str, float]:
        """Key → when it first arrived, in seconds since 1970."""
        found: dict[str, float] = self._client.get("/arrivals").json()
        return found

    def close(self) -> None:
        """Close the connection to it."""
        self._client.close()


class Scene:
    """The servers, and what runs have in common; a context manager."""

    def __init__(self, directory: Path, *, mongo_url: str | None = None) -> None:
        """`mongo_url`: a server that runs, in place of the embedded one."""
        self.directory = directory
        self.redis = EmbeddedRedis(directory / "redis")
        self._mongo_url = mongo_url
        self._running = ExitStack()
        self._rows = directory / "rows.db"
        self._written = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _start(self) -> None:
        self._running.enter_context(self.redis)
        if self._mongo_url is None:
            server = EmbeddedMongo(self.directory / "mongo", deployed=True)
            embedded = self._running.enter_context(server)
            self._mongo_url, admin_url = embedded.url, embedded.admin_url
        else:
            admin_url = self._mongo_url
        self.mongo = self._running.enter_context(pymongo.MongoClient[Document](admin_url))
        self.partner = self._start_partner()

    def _start_partner(self) -> Partner:
        process, url = self._running.enter_context(announced("bench.partner", self.directory))
        partner = Partner(process, url)
        self._running.callback(partner.close)
        return partner

    @contextmanager
    def server(self, name: str, place: Place) -> Iterator[tuple[str, int | None]]:
        """The URL of a server, and its process id where it is known. `simulator`, the demo's
        partner, starts for it.
        """
        if name == "simulator":
            with announced("app.testbed.simulator.partner", place.directory) as (process, url):
                yield url, process.pid
            return
        urls = {"partner": self.partner.url, "redis": self.redis.url, "ledger": place.ledger_url}
        yield urls[name], next(iter(self.servers[name]), None)

    @property
    def servers(self) -> dict[str, list[int]]:
        """The servers' process ids; none for a ledger server on another machine."""
        here = urlsplit(str(self._mongo_url)).hostname in ("127.0.0.1", "localhost", "::1")
        ledger = [int(self.mongo.admin.command("serverStatus")["pid"])] if here else []
        return {
            "ledger": ledger,
            "redis": [self.redis.process.pid],
            "partner": [self.partner.process.pid],
        }

    def ledger_url(self, database: str) -> str:
        """The ledger server's URL with this database."""
        return urlsplit(str(self._mongo_url))._replace(path=f"/{database}").geturl()

    def ledger_version(self) -> str:
        """The ledger server and its version."""
        found = self.mongo.admin.command("buildInfo")
        stand_in = found.get("secantusVersion")
        return f"SecantusDB {stand_in}" if stand_in else f"MongoDB {found['version']}"

    def redis_version(self) -> str:
        """The Redis server and its version."""
        with redis.Redis.from_url(self.redis.url) as client:
            found = client.info("server")
        return (
            f"Valkey {found['valkey_version']}"
            if "valkey_version" in found
            else f"Redis {found['redis_version']}"
        )

    def rows(self, count: int) -> Path:
        """A database with at least so many rows, numbered from 1, written once."""
        if self._written < count:
            generate(self._rows, count - self._written, seed=SEED)
            self._written = count
        return self._rows

    @contextmanager
    def place(self, name: str, job: Job) -> Iterator[Place]:
        """Where one run takes place; what it wrote is gone afterwards."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()
        self.partner.reset(job.answer_ms)
        directory = (
            self.directory / f"{name.replace(' ', '-').replace(',', '')}-{secrets.token_hex(4)}"
        )
        directory.mkdir()
        database = f"rowrelay_bench_{secrets.token_hex(4)}"
        place = Place(self, directory, job, self.mongo[database] if job.ledger else None)
        create_source(place.source)
        try:
            yield place
        finally:
            self.mongo.drop_database(database)


@contextmanager
def announced(module: str, directory: Path) -> Iterator[tuple[Process, str]]:
    """Run a server that writes its URL to a file."""
    announce = directory / f"{module}.url"
    argv = [sys.executable, "-m", module, "--announce", str(announce)]
    with Process(module, argv, cwd=ROOT, log=directory / f"{module}.log") as process:
        while not announce.exists():
            if not process.alive:
                raise NotStarted(process.failure())
            time.sleep(0.02)
        yield process, announce.read_text(encoding="utf-8").strip()


@dataclass(frozen=True, slots=True)
class Place:
    """One run's own part of the scene."""

    scene: Scene
    directory: Path
    job: Job
    database: Database | None
    """The ledger; `None` for a run without."""

    @property
    def source(self) -> Path:
        """The SQLite file of the source."""
        return self.directory / "source.db"

    @property
    def ledger_url(self) -> str:
        """Of the run's database; empty for a run without."""
        return "" if self.database is None else self.scene.ledger_url(self.database.name)

    def add_rows(self, first: int, last: int) -> None:
        """Put rows with these ids into the source, in one transaction."""
        rows = self.scene.rows(last)
        with closing(connect(self.source)) as connection:
            connection.execute("ATTACH ? AS made", (str(rows),))
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO orders SELECT * FROM made.orders WHERE id BETWEEN ? AND ?",
                (first, last),
            )
            connection.execute("COMMIT")

    def ids(self) -> set[str]:
        """The ids of the source's rows, as the ledger and the partner know them."""
        with closing(sqlite3.connect(self.source)) as connection:
            return {f"orders:{row[0]}" for row in connection.execute("SELECT id FROM orders")}
