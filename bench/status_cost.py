"""What `python -m app status` takes on a ledger with many deliveries behind it.

    python -m bench.status_cost [--old 1000000]

Embedded servers. Old deliveries are written as they are months later: settled, a second apart, their payload purged;
one in 20,000 is a dead letter. Prints how long the command took, start of the program included: the first time, when
what is done with is counted and remembered; the times after; with --recount; and what the server takes to group all
documents by state, which is how they would be counted without an index. Ten million take 6 GB and ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from app.embedded.stack import ROOT, Stack
from app.ledger import Ledger

SECONDS = timedelta(seconds=30)
AT_ONCE = 2000
TIMES = 5
EVERY_DEAD = 20_000


def main() -> None:
    """Write the deliveries, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=int, default=1_000_000, help="deliveries")
    old = parser.parse_args().old
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory, Stack(Path(directory)) as stack:
        asyncio.run(_prepare(stack.mongo.url))
        with MongoClient[dict[str, Any]](stack.mongo.url) as client:
            deliveries = client.get_default_database()["deliveries"]
            waiting = _old(old)
            while some := list(islice(waiting, AT_ONCE)):
                deliveries.insert_many(some, ordered=False)
            print(f"{old:,} deliveries, {TIMES} times each, median (least to most), seconds")
            print(f"{'status, the first time':<28}{_status(stack):6.2f}")
            _print("status, then", [_status(stack) for _ in range(TIMES)])
            _print("status --recount", [_status(stack, "--recount") for _ in range(TIMES)])
            _print("grouping all documents", [_grouping(deliveries) for _ in range(TIMES)])


async def _prepare(url: str) -> None:
    ledger = Ledger.at(url, SECONDS)
    await ledger.prepare()
    await ledger.close()


def _old(count: int) -> Iterator[dict[str, Any]]:
    begin = datetime.now(UTC) - timedelta(seconds=count)
    for number in range(count):
        at = begin + timedelta(seconds=number)
        yield {
            "_id": f"orders:{number:010}", "feed": "orders", "key": f"{number:010}", "position": number,
            "created_at": at, "attempts": 1, "state": "delivered" if number % EVERY_DEAD else "dead",
            "finished_at": at, "last": {"at": at, "status": 200},
        }  # fmt: skip


def _status(stack: Stack, *options: str) -> float:
    begun = time.monotonic()
    environment = {**os.environ, **stack.variables}
    subprocess.run(
        [sys.executable, "-m", "app", "status", *options],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - begun


def _grouping(deliveries: Any) -> float:
    begun = time.monotonic()
    deliveries.aggregate([{"$group": {"_id": {"feed": "$feed", "state": "$state"}, "n": {"$sum": 1}}}]).to_list()
    return time.monotonic() - begun


def _print(name: str, took: list[float]) -> None:
    print(f"{name:<28}{statistics.median(took):6.2f} ({min(took):.2f} to {max(took):.2f})")


if __name__ == "__main__":
    main()
