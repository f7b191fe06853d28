"""What each index of `deliveries` and `batches` costs a row, and what those did that were there
before decision 27.

    python -m bench.index_cost [--rows 2000] [--rounds 4]

An embedded mongod, a partner that answers at once, rows of about 500 bytes. In each round, in
turns, the same code logs so many rows and delivers them over other indexes: as they are; as they
were before decision 27; as they are but for one; and none at all. Prints CPU of the ledger's server
in µs a row, logging and delivering apart, medians of the rounds (least to most). A first round is
not counted. Linux only: the CPU is that of the server's threads, in ns, as `/proc` has it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pymongo
import uvloop
from pymongo import IndexModel

import config
from app.core.logs import configure_logging
from app.ledger.indexes import INDEXES
from app.runtime.loop import spare_from_collection
from app.runtime.worker import Services, open_worker
from app.testbed.embedded.stack import Stack
from bench.row_cost import Messages, deliver

Database: TypeAlias = pymongo.database.Database[dict[str, Any]]
Set: TypeAlias = Mapping[str, Iterable[IndexModel]]
"""Collection → its indexes."""

NOW = {name: INDEXES[name] for name in ("deliveries", "batches")}
BEFORE = {
    "deliveries": (
        IndexModel(
            [("next_attempt_at", 1)],
            name="retrying_due",
            partialFilterExpression={"state": "retrying"},
        ),
        IndexModel(
            [("created_at", 1)], name="queued_oldest", partialFilterExpression={"state": "queued"}
        ),
        *(index for index in NOW["deliveries"] if index.document["name"] in {"settled", "kept"}),
    ),
    "batches": (IndexModel([("visible_at", 1)], name="batches_due"),),
}
"""As they were before decision 27."""


class Cost(NamedTuple):
    """What a row cost the server, in µs of CPU."""

    logged: float
    delivered: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000, help="a round, of each set of indexes")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory), settings={"LEASE": "60s"}, deployed=True) as stack,
    ):
        os.environ.update(stack.variables)
        configure_logging("WARNING", "json")
        print(stack.mongo.description)
        found = uvloop.run(_measure(stack, options.rows, options.rounds))
    print(f"{'µs a row, of the server':<28}{'logged':>24}{'delivered':>24}{'both':>8}")
    for name, costs in found.items():
        both = statistics.median(cost.logged + cost.delivered for cost in costs)
        logged, delivered = (_told(values) for values in zip(*costs, strict=True))
        print(f"{name:<28}{logged:>24}{delivered:>24}{both:>8.0f}")


def _told(values: Iterable[float]) -> str:
    values = list(values)
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def _sets() -> dict[str, Set]:
    names = [str(index.document["name"]) for indexes in NOW.values() for index in indexes]
    none: Set = {collection: [] for collection in NOW}
    return {"as they are": NOW, "as before": BEFORE, "none": none} | {
        f"without {name}": _without(name) for name in names
    }


def _without(name: str) -> Set:
    return {
        collection: [index for index in indexes if index.document["name"] != name]
        for collection, indexes in NOW.items()
    }


async def _measure(stack: Stack, rows: int, rounds: int) -> dict[str, list[Cost]]:
    messages = Messages()
    sets = _sets()
    found: dict[str, list[Cost]] = {name: [] for name in sets}
    async with open_worker(config.load(), messages) as services:
        spare_from_collection()
        with pymongo.MongoClient[dict[str, Any]](stack.mongo.url) as client:
            database = client.get_default_database()
            for number in range(rounds + 1):
                for name, indexes in sets.items():
                    _make(database, indexes)
                    stack.start_generator(rows).wait(timeout=120)
                    cost = await _cost(stack, services, messages, rows)
                    if number:
                        found[name].append(cost)
    return found


def _make(database: Database, indexes: Set) -> None:
    for collection, wanted in indexes.items():
        database[collection].drop_indexes()
        if wanted:
            database[collection].create_indexes(list(wanted))


async def _cost(stack: Stack, services: Services, messages: Messages, rows: int) -> Cost:
    messages.batches.clear()
    logged = await _spent(stack, _poll(services))
    delivered = await _spent(stack, deliver(services, messages.batches))
    return Cost(logged / rows * 1e6, delivered / rows * 1e6)


async def _poll(services: Services) -> None:
    while (await services.polling.poll(services.config.feeds["orders"])).stopped == "budget":
        pass


async def _spent(stack: Stack, work: Awaitable[None]) -> float:
    """Seconds of CPU of the ledger's server."""
    before = _cpu_ns(stack.mongo.process.pid)
    await work
    return (_cpu_ns(stack.mongo.process.pid) - before) / 1e9


def _cpu_ns(pid: int) -> int:
    """Of all threads that live: a mongod keeps those that work.
    https://docs.kernel.org/scheduler/sched-stats.html
    """
    return sum(
        int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


if __name__ == "__main__":
    main()
