"""Does a replay slow live rows down?

    python -m bench.replay [--dead 10000] [--rate 200] [--live 50] [--quiet 30] [--answer-ms 50]

One worker delivers `--live` rows a second. For `--quiet` seconds nothing else happens; then `python
-m app replay` puts `--dead` dead letters back at `--rate` a second; then it is quiet again. Prints,
for each part, the latency of the live rows logged in it, from logged to recorded as delivered, and
how it grew against the two quiet parts together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pymongo

from app.testbed.embedded.stack import ROOT, Stack
from bench.live import latencies, print_parts
from tests.support.wait import wait_until

Documents: TypeAlias = pymongo.collection.Collection[dict[str, Any]]
Window: TypeAlias = tuple[datetime, datetime]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dead", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--live", type=float, default=50)
    parser.add_argument("--quiet", type=float, default=30, help="seconds before and after")
    parser.add_argument(
        "--answer-ms", type=float, default=50, help="how long the partner takes to answer"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        with stack.partner() as partner:
            slow = [options.answer_ms / 1000] * 2
            partner.put(
                "/_simulator/faults", json={"slow": 1, "slow_seconds": slow}
            ).raise_for_status()
        with pymongo.MongoClient[dict[str, Any]](stack.mongo.url, tz_aware=True) as client:
            _measure(stack, client.get_default_database()["deliveries"], options)


def _measure(stack: Stack, deliveries: Documents, options: argparse.Namespace) -> None:
    stack.start_worker("--loglevel", "WARNING")
    stack.start_beat()
    seconds = 2 * options.quiet + options.dead / options.rate
    stack.start_generator(int(options.live * seconds * 3), rate=options.live)
    wait_until(
        lambda: deliveries.count_documents({"state": "delivered"}) > 2 * options.live, timeout=60
    )
    _add_dead(deliveries, options.dead)
    before = _wait(options.quiet)
    during, moved = _replay(stack, options.rate)
    wait_until(
        lambda: not deliveries.count_documents({"replay_count": 1, "state": "queued"}), timeout=60
    )
    after = _wait(options.quiet)
    wait_until(lambda: not _live(deliveries, after, {"state": "queued"}), timeout=60)
    took = (during[1] - during[0]).total_seconds()
    print(f"{moved:,} dead letters replayed in {took:.1f} s: {moved / took:.0f}/s")
    quiet_before, meanwhile, quiet_after = (
        _latencies(deliveries, window) for window in (before, during, after)
    )
    print_parts(quiet_before, "replay", meanwhile, quiet_after)


def _add_dead(deliveries: Documents, count: int) -> None:
    """Dead letters of the live feed, as they look a day after they died."""
    died = datetime.now(UTC) - timedelta(days=1)
    payload = orjson.dumps({"note": "x" * 480}).decode()
    deliveries.insert_many(
        {
            "_id": f"orders:dead-{number:06}", "feed": "orders", "key": f"dead-{number:06}", "position": 0,
            "payload": payload, "created_at": died, "finished_at": died, "state": "dead", "attempts": 12,
            "reason": "attempts spent: 503 Service Unavailable", "last": {"at": died, "status": 503},
        }
        for number in range(count)
    )  # fmt: skip


def _wait(seconds: float) -> Window:
    start = datetime.now(UTC)
    time.sleep(seconds)
    return start, datetime.now(UTC)


def _replay(stack: Stack, rate: int) -> tuple[Window, int]:
    """Run the command to its end. Returns from when to when it ran, and how many it moved."""
    start = datetime.now(UTC)
    arguments = [
        "replay",
        "--feed",
        "orders",
        "--status",
        "503",
        "--rate",
        f"{rate}/second",
        "--json",
    ]
    told = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env=stack.environment,
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return (start, datetime.now(UTC)), orjson.loads(told)["moved"]


def _live(deliveries: Documents, window: Window, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    logged = {"created_at": {"$gte": window[0], "$lt": window[1]}}
    return list(deliveries.find(logged | wanted, {"created_at": 1, "finished_at": 1}))


def _latencies(deliveries: Documents, window: Window) -> list[float]:
    """Milliseconds from logged to delivered, of the rows logged in the window."""
    return latencies(_live(deliveries, window, {"state": "delivered"}))


if __name__ == "__main__":
    main()
