"""The whole system on this machine: embedded servers, a simulated partner, workers and beat, in one
directory.

For the demo, the acceptance tests and the benchmarks. Everything listens on 127.0.0.1 and is
stopped with the stack.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import httpx

from app.testbed.embedded.process import NotStarted, Process
from app.testbed.embedded.server import PORT_TRIES, free_port
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from app.testbed.embedded.source import create_source

ROOT = Path(__file__).resolve().parents[3]

_FEEDS = """\
[feeds.orders]
table = "orders"
key = "id"
cursor = {{ strategy = "identity", column = "id", gap_timeout = "{gap_timeout}" }}
poll_every = "{poll_every}"
page_size = 1000
batch_size = 100

[feeds.orders.partner]
url = "{partner}/v1/orders"
timeout = "{partner_timeout}"
{partner_options}

[feeds.orders.retry]
max_attempts = 50
backoff = "500ms"
backoff_cap = "3s"
"""

_PACE = {"LEASE": "5s", "SWEEP_EVERY": "1s", "LOG_FORMAT": "json"}
"""A demo shows in seconds what production does in minutes."""


class Stack:
    """The servers and processes of one demo or test; a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        faults: str = "none",
        seed: int = 1,
        gap_timeout: str = "10m",
        poll_every: str = "1s",
        partner_timeout: str = "2s",
        partner_options: str = "",
        settings: Mapping[str, str] | None = None,
        temporary: bool = False,
        deployed: bool = False,
    ) -> None:
        """`directory`: holds data, logs and feeds. `partner_options`: more lines for
        `[feeds.orders.partner]`.

        `partner_timeout`: what an answer may take. One that takes longer is a deadline missed, and
        the row is sent again: a test that counts requests gives more than a machine may stand
        still. `settings`: environment variables over the demo's pace. With `MONGO_URL` among them
        the ledger is there, and the stack starts no server for it. `temporary`: the directory is
        removed even if this process dies by SIGKILL. `deployed`: see `EmbeddedMongo`.
        """
        self.directory = directory
        self.database = directory / "source.db"
        self._scratch = directory if temporary else None
        self.redis = EmbeddedRedis(directory / "redis", scratch=self._scratch)
        self.mongo = EmbeddedMongo(directory / "mongo", scratch=self._scratch, deployed=deployed)
        self.workers: list[Process] = []
        self.beat: Process | None = None
        self.partner_url = ""
        self.log_to: Path | None = None
        """Where processes started from now on log to, in place of a file each."""
        self._faults = faults
        self._seed = seed
        self._gap_timeout = gap_timeout
        self._poll_every = poll_every
        self._partner_timeout = partner_timeout
        self._partner_options = partner_options
        self.settings = {**_PACE, **(settings or {})}
        """Environment variables for processes started from now on."""
        self._running = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start_servers()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def servers(self) -> list[str]:
        """Which servers run, with their versions, and why these."""
        return [
            self.mongo.description,
            self.redis.description,
            f"SQLite {sqlite3.sqlite_version}, the source",
        ]

    @property
    def mongo_url(self) -> str:
        """Where the ledger is."""
        return self.settings.get("MONGO_URL", self.mongo.url)

    @property
    def variables(self) -> dict[str, str]:
        """What Rowrelay reads from the environment to find this stack."""
        return {
            "REDIS_URL": self.redis.url,
            "MONGO_URL": self.mongo_url,
            "SOURCE_URL": f"sqlite:///{self.database}",
            "FEEDS_FILE": str(self.directory / "feeds.toml"),
            "REPORTS_DIR": str(self.directory / "reports"),
            **self.settings,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables over this process's own environment."""
        return {**os.environ, **self.variables}

    def start_worker(self, *options: str) -> Process:
        """Start one more Celery worker process."""
        name = f"worker{len(self.workers) + 1}"
        worker = self._celery(
            name,
            "worker",
            "--hostname",
            f"{name}@%h",
            "--without-mingle",
            "--without-gossip",
            *options,
        )
        self.workers.append(worker)
        return worker

    def start_beat(self) -> Process:
        """Start Celery Beat."""
        self.beat = self._celery("beat", "beat")
        return self.beat

    def start_console(self) -> Process:
        """Start the operator console, where the settings say."""
        return self._python("console", "app", "console")

    def start_generator(self, rows: int, *, rate: float = 0.0, pattern: str = "steady") -> Process:
        """Start writing rows to the source: `rate` a second, 0 for at once. Its last line of output
        is its account.
        """
        arguments = [
            "--database",
            self.database,
            "--rows",
            rows,
            "--rate",
            rate,
            "--pattern",
            pattern,
        ]
        return self._python(
            "generator",
            "app.testbed.simulator.generator",
            *map(str, arguments),
            "--seed",
            str(self._seed),
        )

    def partner(self) -> httpx.Client:
        """A client for the simulated partner's control pages; close it."""
        return httpx.Client(base_url=self.partner_url, timeout=30, trust_env=False)

    def _start_servers(self) -> None:
        self._running.enter_context(self.redis)
        if "MONGO_URL" not in self.settings:
            self._running.enter_context(self.mongo)
        create_source(self.database)
        self.partner_process = self._start_partner_on_a_free_port()
        feeds = _FEEDS.format(
            partner=self.partner_url,
            gap_timeout=self._gap_timeout,
            poll_every=self._poll_every,
            partner_timeout=self._partner_timeout,
            partner_options=self._partner_options,
        )
        (self.directory / "feeds.toml").write_text(feeds, encoding="utf-8")

    def restart_partner(self) -> None:
        """Start the simulated partner again where it was; it has forgotten what it saw."""
        self.partner_process = self._start_partner(httpx.URL(self.partner_url).port or 0)

    def _start_partner_on_a_free_port(self) -> Process:
        """Another program may take a port between the search for it and its use."""
        for _ in range(PORT_TRIES - 1):
            with suppress(NotStarted):
                return self._start_partner(free_port())
        return self._start_partner(free_port())

    def _start_partner(self, port: int) -> Process:
        announce = self.directory / "partner.url"
        announce.unlink(missing_ok=True)
        process = self._python(
            "partner", "app.testbed.simulator.partner", "--port", str(port), "--faults", self._faults,
            "--seed", str(self._seed), "--announce", str(announce),
        )  # fmt: skip
        while not announce.exists():
            if not process.alive:
                raise NotStarted(process.failure())
            time.sleep(0.02)
        self.partner_url = announce.read_text(encoding="utf-8").strip()
        return process

    def _celery(self, name: str, *arguments: str) -> Process:
        return self._python(name, "celery", "-A", "celery_app", *arguments)

    def _python(self, name: str, module: str, *arguments: str) -> Process:
        argv = [sys.executable, "-m", module, *arguments]
        log = self.log_to or self.directory / f"{name}.log"
        process = Process(
            name, argv, env=self.environment, cwd=ROOT, log=log, scratch=self._scratch
        )
        return self._running.enter_context(process)
