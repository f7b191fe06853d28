"""The contestants: how each one's processes are started, and told to begin."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import redis
from celery import Celery

from app.partner.throttle.store import endpoint_keys
from app.partner.throttle.throttles import BEAT_SECONDS
from app.testbed.embedded.process import NotStarted, Process
from app.testbed.embedded.stack import ROOT
from bench.scene import Place

PEERS = ROOT / ".venv-bench"
"""The peers' virtual environments, as `scripts/bench` makes them."""
QUIET = ("--loglevel", "WARNING", "--without-mingle", "--without-gossip")
"""For both Celery's and Rowrelay's workers: nothing is logged for a task, and workers do not talk
among themselves.
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant whose processes run."""

    groups: Mapping[str, Sequence[int]]
    """`worker`, `producer` and `beat` → process ids."""
    go: Callable[[int, int], None]
    """Begin with the rows of these ids, first to last, which are in the source. Returns at once."""
    processes: Sequence[Process]
    """Whose logs to look at when something went wrong."""
    is_warm: Callable[[], bool] = lambda: True
    """Whether every process has had its part in sending."""

    def failure(self) -> str:
        """What the processes that ended said; else the last lines of all."""
        told = [
            process.failure() for process in self.processes if not process.alive or process.tail()
        ]
        return "\n".join(told)


class Contestant(Protocol):
    """Who does the job."""

    @property
    def name(self) -> str:
        """As the tables call it."""

    @property
    def without_ledger(self) -> bool:
        """Whether it can do the job without a ledger."""

    def start(self, place: Place) -> AbstractContextManager[Running]:
        """Start its processes; they are gone when the context ends."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A library with one job a row: its worker command, and a producer."""

    name: str
    environment: str
    """Which of the peers' virtual environments."""
    module: str
    command: str
    """The worker command; `{in_flight}` is filled in."""
    client: str
    without_ledger: bool = True

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        """Start worker and producer."""
        programs = PEERS / self.environment / "bin"
        program, *arguments = self.command.format(in_flight=place.job.in_flight).split()
        variables = self._variables(place)
        log = place.directory / "worker.log"
        worker = Process(
            "worker", [str(programs / program), *arguments], env=variables, cwd=ROOT, log=log
        )
        with (
            killed(worker),
            _producer(programs, self.module, variables, place.directory) as producer,
        ):
            groups = {"worker": [worker.pid], "producer": [producer.pid], "beat": []}
            yield Running(groups, lambda first, last: _tell(producer, first, last), [worker])

    def _variables(self, place: Place) -> dict[str, str]:
        return {
            **os.environ,
            "BENCH_REDIS_URL": place.scene.redis.url,
            "BENCH_MONGO_URL": place.ledger_url,
            "BENCH_PARTNER_URL": f"{place.scene.partner.url}/v1/orders",
            "BENCH_SOURCE": str(place.source),
            "BENCH_CLIENT": self.client,
            "BENCH_IN_FLIGHT": str(place.job.in_flight),
            "PYTHONPATH": str(ROOT),
        }


_FEEDS = """\
[feeds.orders]
table = "orders"
key = "id"
cursor = {{ strategy = "identity", column = "id" }}
poll_every = "{poll_every}"
poll_budget = "{poll_budget}"

[feeds.orders.partner]
url = "{partner}/v1/orders"
concurrency = {in_flight}
"""


@dataclass(frozen=True, slots=True)
class Rowrelay:
    """This system: one or more worker processes, and beat. All settings but those named here are
    the defaults.
    """

    name: str = "Rowrelay"
    workers: int = 1
    poller: bool = False
    """Polls and sweeps run in a worker of their own, as a peer's producer does."""
    poll_every: str = "1h"
    """For throughput one poll is asked for, so that the moment of the first poll is known."""
    poll_budget: str = "1h"
    """The one poll reads all rows."""
    without_ledger: bool = False

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        """Start workers and beat."""
        variables = self._variables(place)
        with ExitStack() as started:

            def run(name: str, *arguments: str) -> Process:
                argv = [sys.executable, "-m", "celery", "-A", "celery_app", *arguments]
                process = Process(
                    name, argv, env=variables, cwd=ROOT, log=place.directory / f"{name}.log"
                )
                return started.enter_context(killed(process))

            queues = ("--queues", "deliver") if self.poller else ()
            names = [f"worker{number + 1}" for number in range(self.workers)]
            workers = [
                run(name, "worker", "--hostname", f"{name}@%h", *QUIET, *queues) for name in names
            ]
            others = ("--queues", "poll,maintenance")
            pollers = (
                [run("poller", "worker", "--hostname", "poller@%h", *QUIET, *others)]
                if self.poller
                else []
            )
            beat = run("beat", "beat", "--loglevel", "WARNING")
            groups = {"worker": _pids(workers), "producer": _pids(pollers), "beat": [beat.pid]}
            broker = started.enter_context(Celery(broker=place.scene.redis.url))
            yield Running(
                groups,
                lambda *_: _ask_for_a_poll(broker),
                [*workers, *pollers, beat],
                lambda: self._all_send(place),
            )

    def _all_send(self, place: Place) -> bool:
        """Whether every worker has its share of the requests in flight. One that comes new to a
        partner begins with a single one, and has its share a beat or two after it has first sent.
        """
        if self.workers <= 1:
            return True
        with redis.Redis.from_url(place.scene.redis.url) as client:
            if client.zcard(endpoint_keys("orders", "live")[0]) < self.workers:
                return False
        time.sleep(2.5 * BEAT_SECONDS)
        return True

    def _variables(self, place: Place) -> dict[str, str]:
        feeds = place.directory / "feeds.toml"
        text = _FEEDS.format(
            poll_every=self.poll_every,
            poll_budget=self.poll_budget,
            partner=place.scene.partner.url,
            in_flight=place.job.in_flight * max(1, self.workers),
        )
        feeds.write_text(text, encoding="utf-8")
        return {
            **os.environ,
            "REDIS_URL": place.scene.redis.url,
            "MONGO_URL": place.ledger_url,
            "SOURCE_URL": f"sqlite:///{place.source}",
            "FEEDS_FILE": str(feeds),
            "LOG_LEVEL": "WARNING",
        }


def _ask_for_a_poll(broker: Celery) -> None:
    """What beat does when a poll is due."""
    broker.send_task("poll", kwargs={"feed": "orders"}, queue="poll", ignore_result=True)


def _pids(processes: Sequence[Process]) -> list[int]:
    return [process.pid for process in processes]


@contextmanager
def killed(process: Process) -> Iterator[Process]:
    """Start a process; kill it and its children in the end: nothing that an orderly end does is
    needed.
    """
    process.start()
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def _producer(
    programs: Path, module: str, variables: Mapping[str, str], directory: Path
) -> Iterator[subprocess.Popen[str]]:
    """Start a peer's producer, and wait until it is ready. It ends with its standard input."""
    with (directory / "producer.log").open("w") as log:
        producer = subprocess.Popen(
            [str(programs / "python"), "-m", module],
            env=variables, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    try:
        assert producer.stdout is not None
        if producer.stdout.readline() != "ready\n":
            raise NotStarted(f"{module}: {Path(log.name).read_text(encoding='utf-8')[-500:]}")
        yield producer
    finally:
        producer.kill()
        producer.communicate()


def _tell(producer: subprocess.Popen[str], first: int, last: int) -> None:
    assert producer.stdin is not None
    producer.stdin.write(f"{first} {last}\n")
    producer.stdin.flush()


def _celery(name: str, options: str, client: str) -> Peer:
    command = f"celery -A bench.peers.with_celery worker {options} {' '.join(QUIET)}"
    return Peer(name, "main", "bench.peers.with_celery", command, client)


def _asynchronous(library: str, environment: str, command: str) -> list[Peer]:
    module = f"bench.peers.with_{library}"
    return [
        Peer(f"{library}, {client}", environment, module, command, client)
        for client in ("aiohttp", "httpx")
    ]


CONTESTANTS: tuple[Contestant, ...] = (
    Rowrelay("Rowrelay, 1 worker"),
    Rowrelay("Rowrelay, 1 worker, poller apart", poller=True),
    Rowrelay("Rowrelay, 2 workers", workers=2),
    *_asynchronous(
        "taskiq",
        "main",
        "taskiq worker bench.peers.with_taskiq:broker --workers 1 --max-async-tasks {in_flight} --log-level WARNING",
    ),
    *_asynchronous("saq", "saq", "saq bench.peers.with_saq.settings"),
    *_asynchronous(
        "arq",
        "arq",
        "arq bench.peers.with_arq.WorkerSettings --custom-log-dict bench.peers.with_arq.QUIET",
    ),
    Peer(
        "dramatiq, 2 processes",
        "main",
        "bench.peers.with_dramatiq",
        "dramatiq bench.peers.with_dramatiq --processes 2",
        "httpx",
    ),
    _celery("Celery prefork, 2 processes", "--concurrency 2", "httpx"),
    _celery("Celery prefork, 8 processes", "--concurrency 8", "httpx"),
    _celery("Celery gevent, requests", "--pool gevent --concurrency {in_flight}", "requests"),
)
