"""What delivering a logged row costs, beside the least it could: a bare aiohttp loop posting to the
same partner.

    python -m bench.row_cost [--rows 1000] [--rounds 5]

Claiming, loading, sending and recording; not polling, logging and Celery's messages, which
`scripts/bench` includes.

Embedded servers, partner answering at once, rows of about 500 bytes, 100 requests in flight. Prints
CPU µs a row and rows a second of both, medians of the rounds, which are interleaved, and the ratio
of CPU. A first round is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import uvloop

import config
from app.core.batches import NewBatch
from app.core.logs import configure_logging
from app.runtime.loop import spare_from_collection
from app.runtime.worker import Services, open_worker
from app.testbed.embedded.stack import Stack

AT_ONCE = 16
"""Batches under way, as in a worker's pool of threads."""
IN_FLIGHT = 100
BODY = b'{"id":1,"text":"' + b"x" * 480 + b'"}'


class Cost(NamedTuple):
    """What a round came to."""

    cpu_us: float
    """A row, of this process."""
    rows_per_s: float


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
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        os.environ.update(stack.variables)
        configure_logging("WARNING", "json")
        stack.start_generator(rows * (rounds + 1)).wait(timeout=120)
        found = uvloop.run(_measure(config.load(), rows, rounds))
    for name, costs in zip(("delivered row", "bare post"), zip(*found, strict=True), strict=True):
        cpu, rate = [cost.cpu_us for cost in costs], [cost.rows_per_s for cost in costs]
        print(
            f"{name:<14}{statistics.median(cpu):>6.0f} µs ({min(cpu):.0f} to {max(cpu):.0f})"
            f"{statistics.median(rate):>8.0f} rows/s ({min(rate):.0f} to {max(rate):.0f})"
        )
    print(
        f"{'ratio':<14}{statistics.median(ours.cpu_us / bare.cpu_us for ours, bare in found):>6.2f}"
    )


async def _measure(loaded: config.Config, rows: int, rounds: int) -> list[tuple[Cost, Cost]]:
    """What ours and the bare loop cost, each round."""
    messages, feed = Messages(), loaded.feeds["orders"]
    share = rows // feed.batch_size
    measured = []
    async with open_worker(loaded, messages) as services, aiohttp.ClientSession() as session:
        spare_from_collection()
        while (await services.polling.poll(feed)).stopped == "budget":
            pass
        for number in range(rounds + 1):
            batches = messages.batches[number * share : (number + 1) * share]
            ours = await _cost(deliver(services, batches), rows)
            bare = await _cost(_post(session, str(feed.partner.url), rows), rows)
            measured.append((ours, bare))
    return measured[1:]


async def _cost(work: Awaitable[None], rows: int) -> Cost:
    cpu, started = time.process_time(), time.perf_counter()
    await work
    return Cost((time.process_time() - cpu) / rows * 1e6, rows / (time.perf_counter() - started))


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
