"""What a row costs, beside the least it could: a bare aiohttp loop posting to the same partner.

    python -m bench.row_cost [--rows 1000] [--rounds 5]

*Taken in*: read from the source and logged. *Delivered*: claimed, loaded, sent and recorded. Not
Celery's messages, which `scripts/bench` includes.

Embedded servers, partner answering at once, rows of about 500 bytes, 100 requests in flight. Prints
CPU µs a row of this process and of the ledger server, and rows a second: medians of the rounds,
which are interleaved, and the ratio of CPU. A first round is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pymongo
import uvloop

import config
from app.core.batches import NewBatch
from app.core.logs import configure_logging
from app.feeds.feed import Feed
from app.runtime.loop import spare_from_collection
from app.runtime.worker import Services, open_worker
from app.testbed.embedded.stack import Stack
from bench.report import spread, table, whole
from bench.usage import cpu_s

AT_ONCE = 16
"""Batches under way, as in a worker's pool of threads."""
IN_FLIGHT = 100
BODY = b'{"id":1,"text":"' + b"x" * 480 + b'"}'


class Cost(NamedTuple):
    """What one part of a round came to."""

    cpu_us: float
    """A row, of this process."""
    ledger_us: float
    """A row, of the ledger server's process."""
    rows_per_s: float


class Round(NamedTuple):
    """The same rows, three times."""

    taken_in: Cost
    delivered: Cost
    bare: Cost
    """As many bare posts."""


class Messages:
    """Keeps the messages that polling sends."""

    def __init__(self) -> None:
        self.batches: list[NewBatch] = []

    async def publish(self, batches: Iterable[NewBatch]) -> None:
        """Keep them."""
        self.batches += batches

    async def depth(self) -> int:
        """Nothing waits in a broker."""
        return 0

    async def sift(self, existing: object) -> None:
        """Nothing to clear."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print_costs(options.rows, options.rounds)


def print_costs(rows: int, rounds: int) -> None:
    """Measure so many rounds of so many rows, and print."""
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory), deployed=True) as stack:
        os.environ.update(stack.variables)
        configure_logging("WARNING", "json")
        stack.start_generator(rows * (rounds + 1)).wait(timeout=120)
        found = uvloop.run(_measure(config.load(), _ledger_pid(stack), rows, rounds))
    print(table(("", "CPU, µs a row", "ledger server", "rows/s"), map(_line, *_by_part(found))))
    for name, of in (("delivered", (1,)), ("both", (0, 1))):
        ratio = statistics.median(sum(r[part].cpu_us for part in of) / r.bare.cpu_us for r in found)
        print(f"{name} ÷ bare post: {ratio:.2f}")


def _by_part(found: Sequence[Round]) -> tuple[Sequence[str], Sequence[Sequence[Cost]]]:
    return ("taken in", "delivered", "bare post"), list(zip(*found, strict=True))


def _line(name: str, costs: Sequence[Cost]) -> list[str]:
    return [name, *(spread([cost[place] for cost in costs], whole) for place in range(3))]


def _ledger_pid(stack: Stack) -> int:
    with pymongo.MongoClient[dict[str, object]](stack.mongo.admin_url) as client:
        return int(client.admin.command("serverStatus")["pid"])


async def _measure(loaded: config.Config, ledger: int, rows: int, rounds: int) -> list[Round]:
    """What each part costs, each round."""
    messages = Messages()
    feed = loaded.feeds["orders"].model_copy(
        update={
            "page_size": rows,
            "poll_budget": timedelta(0),  # a poll reads one page
            "batch_size": Feed.model_fields["batch_size"].default,
        }
    )
    measured = []
    async with open_worker(loaded, messages) as services, aiohttp.ClientSession() as session:
        spare_from_collection()
        for _ in range(rounds + 1):
            messages.batches.clear()
            parts = (
                services.polling.poll(feed),
                deliver(services, messages.batches),
                _post(session, str(feed.partner.url), rows),
            )
            measured.append(Round(*[await _cost(part, ledger, rows) for part in parts]))
    return measured[1:]


async def _cost(work: Awaitable[object], ledger: int, rows: int) -> Cost:
    server, cpu, started = cpu_s([ledger]), time.process_time(), time.perf_counter()
    await work
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - started
    return Cost(cpu / rows * 1e6, (cpu_s([ledger]) - server) / rows * 1e6, rows / seconds)


async def deliver(services: Services, batches: Iterable[NewBatch]) -> None:
    """Send these batches, as many at once as a worker does."""
    free = asyncio.Semaphore(AT_ONCE)

    async def send(batch: NewBatch) -> None:
        async with free:
            await services.delivering.deliver(services.config.feeds[batch.feed], batch.id)

    await asyncio.gather(*map(send, batches))


async def _post(session: aiohttp.ClientSession, url: str, rows: int) -> None:
    numbers = iter(range(rows))

    async def post() -> None:
        for number in numbers:
            key = f"bare:{time.time_ns()}:{number}"
            headers = {"Content-Type": "application/json", "Idempotency-Key": key}
            async with session.post(url, data=BODY, headers=headers) as response:
                await response.read()

    await asyncio.gather(*(post() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    main()
