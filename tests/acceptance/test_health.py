"""A worker that hangs, or lost its consumer, is found, and the metrics say so; the watchdog starts
it anew.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import httpx
import orjson
import psutil
import pytest
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families

from app.broker.queue import QUEUES
from app.core.states import State
from app.testbed.embedded.process import Process
from app.testbed.embedded.server import free_port
from app.testbed.embedded.stack import ROOT, Stack
from tests.acceptance.conftest import PATIENT
from tests.support.command import command
from tests.support.wait import wait_until

BOUND = 6
FOUND_SECONDS = 30
"""For a bound of 6 s, on a slow machine; with the default of 45 s a process is found within 60 s.
"""


@pytest.fixture
def quick(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """A stack with a short bound."""
    settings = {"PROGRESS_BOUND": f"{BOUND}s", **shared_ledger}
    with Stack(tmp_path, gap_timeout="10s", settings=settings) as running:
        yield running


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes that are stopped with the test."""
    processes: list[Process] = []
    yield processes
    for process in reversed(processes):
        process.signal(signal.SIGCONT)
        process.stop()


def _start(stack: Stack, started: list[Process], name: str, *arguments: str) -> Process:
    argv = [sys.executable, "-m", "app", *arguments]
    process = Process(
        name, argv, env=stack.environment, cwd=ROOT, log=stack.directory / f"{name}.log"
    ).start()
    started.append(process)
    return process


Samples: TypeAlias = dict[tuple[str, ...], float]
"""(name, label values in the order of their names) → value."""


def _samples(page: str) -> Samples:
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


class Metrics:
    """The metrics process of a stack."""

    def __init__(self, stack: Stack, started: list[Process]) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/metrics"
        _start(stack, started, "metrics", "metrics", "--port", str(port))
        wait_until(self.read, timeout=30, message="the metrics process")

    def read(self) -> Samples:
        """What it serves; nothing before it listens."""
        time.sleep(
            0.25
        )  # it changes every few seconds: asking all the time would take the machine from the others
        try:
            page = httpx.get(self._url, trust_env=False, timeout=30).text
        except httpx.TransportError:
            return {}
        return _samples(page)

    def live(self) -> dict[str, float]:
        """Process → 1 where it makes progress."""
        return {
            key[1]: value for key, value in self.read().items() if key[0] == "rowrelay_process_live"
        }


def _health(stack: Stack, *arguments: str) -> dict[str, str]:
    """What the command says: name → what is wrong, of those that make no progress."""
    answer = command(stack.environment, "health", "--json", *arguments)
    checks = orjson.loads(answer.stdout)["checks"]
    dead = {check["name"]: check["found"] for check in checks if not check["live"]}
    assert answer.returncode == (1 if dead else 0)
    return dead


def _lose_consumer(stack: Stack, worker: str) -> None:
    """As `celery control cancel_consumer`: the process lives, its heart beats, and it takes no
    message any more.
    """
    with Celery("test", broker=stack.redis.url, set_as_current=False) as celery:
        for queue in QUEUES:
            wait_until(
                lambda: celery.control.cancel_consumer(
                    queue,  # noqa: B023 - called in the same turn
                    destination=[worker],
                    reply=True,
                    timeout=2,
                ),
                timeout=30,
                message=f"{worker} to give up {queue}",
            )


def test_what_hangs_or_lost_its_consumer_is_found_and_the_metrics_say_so(
    quick: Stack, started: list[Process]
) -> None:
    beat, hangs, _ = quick.start_beat(), quick.start_worker(), quick.start_worker()
    metrics = Metrics(quick, started)
    wait_until(
        lambda: list(metrics.live().values()) == [1, 1, 1],
        timeout=60,
        message="two workers and beat, well",
    )
    first, second = sorted(name for name in metrics.live() if name.startswith("worker"))
    assert not _health(quick, "--role", "worker")

    hangs.signal(signal.SIGSTOP)
    wait_until(
        lambda: metrics.live()[first] == 0,
        timeout=FOUND_SECONDS,
        message="the stopped worker to be found",
    )
    assert "stands still" in _health(quick, "--role", "worker")[first]
    assert metrics.live()[second] == 1
    hangs.signal(signal.SIGCONT)
    wait_until(
        lambda: metrics.live()[first] == 1, timeout=FOUND_SECONDS, message="it to be well again"
    )

    _lose_consumer(quick, second)
    wait_until(
        lambda: metrics.live()[second] == 0,
        timeout=FOUND_SECONDS,
        message="the lost consumer to be found",
    )
    assert "lost its consumer" in _health(quick, "--role", "worker")[second]
    assert metrics.live()[first] == 1, "there is no work waiting: the other takes it"

    beat.signal(signal.SIGSTOP)
    wait_until(
        lambda: 0 in _of_beat(metrics),
        timeout=FOUND_SECONDS,
        message="the stopped beat to be found",
    )
    beat.signal(signal.SIGCONT)
    wait_until(
        lambda: 0 not in _of_beat(metrics), timeout=FOUND_SECONDS, message="it to be well again"
    )


def _of_beat(metrics: Metrics) -> list[float]:
    return [live for name, live in metrics.live().items() if name.startswith("beat@")]


def _only_child(process: Process) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


def test_the_watchdog_starts_anew_what_hangs_or_lost_its_consumer(
    quick: Stack, started: list[Process]
) -> None:
    name = "watched@here"
    celery = (sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--hostname", name)
    watching = _start(
        quick, started, "watch", "watch", "--", *celery, "--without-mingle", "--without-gossip"
    )
    quick.start_beat()
    metrics = Metrics(quick, started)

    def well(after: float) -> bool:
        """A process of that name that began after then makes progress."""
        found = metrics.read()
        begun = found.get(("rowrelay_process_started_timestamp_seconds", name, "worker"), 0.0)
        return begun > after and found["rowrelay_process_live", name, "worker"] == 1

    wait_until(lambda: well(0), timeout=60, message="the worker")
    hung, since = _only_child(watching), time.time()
    hung.send_signal(signal.SIGSTOP)
    wait_until(lambda: well(since), timeout=90, message="another in place of the one that hung")
    assert not hung.is_running()

    lost, since = _only_child(watching), time.time()
    _lose_consumer(quick, name)
    wait_until(
        lambda: well(since),
        timeout=90,
        message="another in place of the one that lost its consumer",
    )
    assert not lost.is_running()

    last = _only_child(watching)
    assert watching.stop(timeout=20) == 0, (
        "SIGTERM goes to the worker, and its exit code comes back"
    )
    assert not last.is_running()
    restarts = [
        line
        for line in watching.log.read_text(encoding="utf-8").splitlines()
        if "watch_restarts" in line
    ]
    assert ["stands still" in restarts[0], "lost its consumer" in restarts[1], len(restarts)] == [
        True,
        True,
        2,
    ]


LOGGED = ("rowrelay_rows_logged_total", "orders")
DELIVERED = ("rowrelay_attempts_total", "orders", "delivered", "200")


def test_the_metrics_agree_with_status_to_the_row_and_no_counter_goes_back(
    tmp_path: Path, started: list[Process], shared_ledger: Mapping[str, str]
) -> None:
    """Each reading of a process that serves is as old as it says, so one that reads everything anew
    is compared.
    """
    rows = 200
    with Stack(
        tmp_path,
        gap_timeout="5s",
        faults="mild",
        partner_timeout="30s",
        settings={**PATIENT, **shared_ledger},
    ) as stack:
        stack.start_beat()
        stack.start_worker()
        metrics = Metrics(stack, started)
        wait_until(
            lambda: list(metrics.live().values()) == [1, 1],
            timeout=60,
            message="a worker and beat, well",
        )
        stack.start_generator(rows, rate=25)
        seen: list[Samples] = []

        def served(name: tuple[str, ...]) -> float:
            seen.append(metrics.read())
            return seen[-1].get(name, 0)

        wait_until(
            lambda: served(LOGGED) == rows,
            timeout=180,
            message="every row to be logged, and served so",
        )
        wait_until(
            lambda: served(DELIVERED) == rows,
            timeout=180,
            message="every row to be delivered, and served so",
        )
        for name in (LOGGED, DELIVERED):
            counts = [found[name] for found in seen if name in found]
            assert counts == sorted(counts), "a counter never goes back"

        (line,) = orjson.loads(command(stack.environment, "status", "--json").stdout)["feeds"]
        anew = _samples(command(stack.environment, "metrics", "--once").stdout)
        assert {
            state: anew.get(("rowrelay_deliveries", "orders", state), 0) for state in State
        } == line["states"]
        assert anew["rowrelay_source_lag_rows", "orders"] == line["lag_rows"] == 0
        assert (line["states"][State.DELIVERED], anew[LOGGED], anew[DELIVERED]) == (
            rows,
            rows,
            rows,
        )
        for process in reversed(started):
            process.stop()
