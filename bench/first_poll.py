"""A first poll with a million rows waiting: does the worker's memory stay bounded?

    python -m bench.first_poll [--rows 1000000] [--deliver 20000]

One worker reads, logs and delivers while the source holds `--rows` rows. Prints the worker's
resident memory as the ledger fills up to `max_backlog` (100,000) and until `--deliver` rows are
delivered.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pymongo

from app.testbed.embedded.stack import Stack


def main() -> None:
    """Measure and print a line every few seconds, then the peak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--deliver", type=int, default=20_000, help="stop once so many rows are delivered"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        stack.start_generator(options.rows).wait(timeout=900)
        worker = psutil.Process(stack.start_worker("--loglevel", "WARNING").pid)
        stack.start_beat()
        with pymongo.MongoClient[dict[str, Any]](stack.mongo.url) as client:
            peak = _watch(worker, client.get_default_database()["stats"], options.deliver)
    print(f"peak {peak:.0f} MiB with {options.rows:,} rows in the source")


def _watch(
    worker: psutil.Process, stats: pymongo.collection.Collection[dict[str, Any]], deliver: int
) -> float:
    started, peak = time.monotonic(), 0.0
    print(f"{'seconds':>8}{'logged':>10}{'delivered':>11}{'MiB':>7}")
    while True:
        buckets = list(stats.find({}))
        logged = sum(bucket.get("logged", 0) for bucket in buckets)
        delivered = sum(bucket.get("outcomes", {}).get("delivered", 0) for bucket in buckets)
        memory = worker.memory_info().rss / 2**20
        peak = max(peak, memory)
        print(
            f"{time.monotonic() - started:>8.0f}{logged:>10,}{delivered:>11,}{memory:>7.0f}",
            flush=True,
        )
        if delivered >= deliver:
            return peak
        time.sleep(5)


if __name__ == "__main__":
    main()
