"""What `python -m app status` takes on a ledger with many deliveries behind it, and its counts
without indexes.

    python -m bench.status_cost [--old 1500000]

An embedded mongod. Old deliveries are written as they are months later: settled, a second apart,
their payload purged; one in 20,000 is a dead letter. Prints the seconds of each count that the
command asks for, and of what is done with also the first time, when it is counted and remembered;
of the same counts by reading all documents; and of the command, the program's start included. Above
a million deliveries the command remembers; below, it counts each time. A million and a half take
about a gigabyte of disk.
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
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from pymongo import MongoClient, WriteConcern

from app.core.clock import utc_now
from app.ledger import Ledger
from app.testbed.embedded.stack import ROOT, Stack

SECONDS = timedelta(seconds=30)
AT_ONCE = 5000
TIMES = 3
EVERY_DEAD = 20_000

Deliveries: TypeAlias = Any
Asking: TypeAlias = Callable[[Ledger], Awaitable[object]]


def main() -> None:
    """Write the deliveries, ask, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=int, default=1_500_000, help="deliveries")
    old = parser.parse_args().old
    with (
        tempfile.TemporaryDirectory(prefix="rowrelay-") as directory,
        Stack(Path(directory), temporary=True) as stack,
    ):
        print(stack.mongo.description, flush=True)
        with MongoClient[dict[str, Any]](stack.mongo.url) as client:
            deliveries = client.get_default_database()["deliveries"]
            _write(deliveries.with_options(write_concern=WriteConcern(w=1)), old)
            asyncio.run(_on(stack, Ledger.prepare))
            print(
                f"{old:,} deliveries, {TIMES} times each: seconds, median (least to most)",
                flush=True,
            )
            _print_counts(stack, deliveries)
            _print_command(stack)


def _write(deliveries: Deliveries, count: int) -> None:
    waiting = _old(count)
    while some := list(islice(waiting, AT_ONCE)):
        deliveries.insert_many(some, ordered=False)


def _old(count: int) -> Iterator[dict[str, Any]]:
    begin = datetime.now(UTC) - timedelta(seconds=count)
    for number in range(count):
        at = begin + timedelta(seconds=number)
        yield {
            "_id": f"orders:{number:010}", "feed": "orders", "key": f"{number:010}", "position": number,
            "created_at": at, "attempts": 1, "state": "delivered" if number % EVERY_DEAD else "dead",
            "finished_at": at, "last": {"at": at, "status": 200},
        }  # fmt: skip


def _print_command(stack: Stack) -> None:
    _print(
        "status --help: the program's start",
        [_run(stack, "status", "--help") for _ in range(TIMES)],
    )
    _print("status", [_run(stack, "status") for _ in range(TIMES)])
    _print("status --recount", [_run(stack, "status", "--recount") for _ in range(TIMES)])


def _print_counts(stack: Stack, deliveries: Deliveries) -> None:
    """Each count that the command asks for, and the same from the documents."""
    _print("open and dead, from their indexes", asyncio.run(_on(stack, _timed(_indexed))))
    dead: list[dict[str, Any]] = [
        {"$match": {"state": {"$in": ["queued", "retrying", "dead"]}}},
        {"$group": _BY_STATE},
    ]
    _print(
        "  the same, by reading all documents", [_grouping(deliveries, dead) for _ in range(TIMES)]
    )
    _print("done with, the first time: remembered by day", [asyncio.run(_on(stack, _once(_about)))])
    _print("done with, then", asyncio.run(_on(stack, _timed(_about))))
    _print("done with, counted from the index", asyncio.run(_on(stack, _timed(_exactly))))
    _print(
        "  all, by reading all documents",
        [_grouping(deliveries, [{"$group": _BY_STATE}]) for _ in range(TIMES)],
    )


async def _indexed(ledger: Ledger) -> object:
    return await ledger.state_counts.indexed()


async def _about(ledger: Ledger) -> object:
    return await ledger.counts.about("orders", utc_now())


async def _exactly(ledger: Ledger) -> object:
    return await ledger.counts.exactly("orders")


_BY_STATE = {"_id": {"feed": "$feed", "state": "$state"}, "n": {"$sum": 1}}


async def _on(stack: Stack, ask: Callable[[Ledger], Awaitable[Any]]) -> Any:
    ledger = Ledger.at(stack.mongo.url, SECONDS)
    try:
        return await ask(ledger)
    finally:
        await ledger.close()


def _once(ask: Asking) -> Callable[[Ledger], Awaitable[float]]:
    async def asking(ledger: Ledger) -> float:
        await ledger.version()
        begun = time.monotonic()
        await ask(ledger)
        return time.monotonic() - begun

    return asking


def _timed(ask: Asking) -> Callable[[Ledger], Awaitable[list[float]]]:
    """Asks once to connect, then a few times: seconds."""

    async def asking(ledger: Ledger) -> list[float]:
        await ask(ledger)
        took = []
        for _ in range(TIMES):
            begun = time.monotonic()
            await ask(ledger)
            took.append(time.monotonic() - begun)
        return took

    return asking


def _run(stack: Stack, *command: str) -> float:
    begun = time.monotonic()
    environment = {**os.environ, **stack.variables}
    subprocess.run(
        [sys.executable, "-m", "app", *command],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - begun


def _grouping(deliveries: Deliveries, pipeline: list[dict[str, Any]]) -> float:
    """The documents are read, whatever index there is."""
    begun = time.monotonic()
    deliveries.aggregate(pipeline, hint={"$natural": 1}).to_list()
    return time.monotonic() - begun


def _print(name: str, took: list[float]) -> None:
    print(
        f"{name:<46}{statistics.median(took):7.3f} ({min(took):.3f} to {max(took):.3f})", flush=True
    )


if __name__ == "__main__":
    main()
