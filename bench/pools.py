"""Which of Celery's worker pools serves best: the same rows through the whole system under each.

    python -m bench.pools [--rows 3000] [--rounds 3] [--answer-ms 50]

Prints, a pool: rows/s from the first row logged to the last one delivered, and the worker's CPU a
row since then and resident memory, children included. Medians of the rounds, which are interleaved
over the pools.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pymongo

from app.testbed.embedded.process import Process
from app.testbed.embedded.stack import Stack
from tests.support.wait import wait_until

POOLS = {
    "threads, 16": ("--pool", "threads", "--concurrency", "16"),
    "prefork, 2": ("--pool", "processes", "--concurrency", "2"),
    "prefork, 8": ("--pool", "processes", "--concurrency", "8"),
    "solo": ("--pool", "solo"),
}
"""`processes` is prefork: Celery's command line takes that word itself for "as configured"."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of one pool."""

    rows_per_s: float
    cpu_us_a_row: float
    memory_mib: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--answer-ms", type=float, default=50, help="how long the partner takes to answer"
    )
    options = parser.parse_args()
    rounds: dict[str, list[Measured]] = {name: [] for name in POOLS}
    for _ in range(options.rounds):
        for name, arguments in POOLS.items():
            rounds[name].append(_measure(arguments, options.rows, options.answer_ms / 1000))
    print(f"{'pool':<14}{'rows/s':>10}{'(min to max)':>18}{'CPU µs a row':>16}{'MiB':>8}")
    for name, measured in rounds.items():
        rates = [one.rows_per_s for one in measured]
        spread = f"({min(rates):.0f} to {max(rates):.0f})"
        cpu = statistics.median(one.cpu_us_a_row for one in measured)
        memory = statistics.median(one.memory_mib for one in measured)
        print(f"{name:<14}{statistics.median(rates):>10.0f}{spread:>18}{cpu:>16.0f}{memory:>8.0f}")


def _measure(pool: tuple[str, ...], rows: int, answer_s: float) -> Measured:
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        with stack.partner() as partner:
            partner.put(
                "/_simulator/faults", json={"slow": 1, "slow_seconds": [answer_s, answer_s]}
            ).raise_for_status()
        stack.start_generator(rows).wait(timeout=60)
        worker = stack.start_worker("--loglevel", "WARNING", *pool)
        stack.start_beat()
        with pymongo.MongoClient[dict[str, Any]](stack.mongo.url) as client:
            deliveries = client.get_default_database()["deliveries"]
            wait_until(lambda: deliveries.find_one({}), timeout=60, message="the first row")
            started, cpu_before = time.monotonic(), _cpu_s(worker)
            while deliveries.count_documents({"state": "delivered"}) < rows:
                time.sleep(0.2)
            elapsed = time.monotonic() - started
        cpu_s = _cpu_s(worker) - cpu_before
        memory = sum(process.memory_info().rss for process in _family(worker))
    return Measured(rows / elapsed, cpu_s / rows * 1e6, memory / 2**20)


def _cpu_s(worker: Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _family(worker))


def _family(worker: Process) -> list[psutil.Process]:
    parent = psutil.Process(worker.pid)
    return [parent, *parent.children(recursive=True)]


if __name__ == "__main__":
    main()
