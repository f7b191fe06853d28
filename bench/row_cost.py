"""What delivering a logged row costs, beside the least it could: a bare aiohttp loop posting to the same partner.

    python -m bench.row_cost [--rows 1000] [--rounds 5]

Claiming, loading, sending and recording; not polling, logging and Celery's messages, which `scripts/bench` includes.

Embedded servers, partner answering at once, rows of about 500 bytes, 100 requests in flight. Prints CPU µs a row of
both, medians of the rounds, which are interleaved, and their ratio. A first round is not counted.
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

import aiohttp
import uvloop

import config
from app.embedded.stack import Stack
from app.logs import configure_logging
from app.models import NewBatch
from app.runtime import Services, open_services, spare_from_collection

AT_ONCE = 16
"""Batches under way, as in a worker's pool of threads."""
IN_FLIGHT = 100
BODY = b'{"id":1,"text":"' + b"x" * 480 + b'"}'


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        os.environ.update(stack.variables)
        configure_logging("WARNING", "json")
        stack.start_generator(options.rows * (options.rounds + 1)).wait(timeout=120)
        rounds = uvloop.run(_measure(config.load(), options.rows, options.rounds))
    for name, costs in zip(("delivered row", "bare post"), zip(*rounds, strict=True), strict=True):
        print(f"{name:<14}{statistics.median(costs):>6.0f} µs ({min(costs):.0f} to {max(costs):.0f})")
    print(f"{'ratio':<14}{statistics.median(ours / bare for ours, bare in rounds):>6.2f}")


async def _measure(loaded: config.Config, rows: int, rounds: int) -> list[tuple[float, float]]:
    """CPU µs a row of ours and of the bare loop, each round."""
    messages, feed = Messages(), loaded.feeds["orders"]
    services = await open_services(loaded, messages)
    spare_from_collection()
    while (await services.polling.poll(feed)).stopped == "budget":
        pass
    share = rows // feed.batch_size
    measured = []
    async with aiohttp.ClientSession() as session:
        for number in range(rounds + 1):
            batches = messages.batches[number * share : (number + 1) * share]
            ours = await _cpu_us_a_row(_deliver(services, batches), rows)
            bare = await _cpu_us_a_row(_post(session, str(feed.partner.url), rows), rows)
            measured.append((ours, bare))
    await services.close()
    return measured[1:]


async def _cpu_us_a_row(work: Awaitable[None], rows: int) -> float:
    before = time.process_time()
    await work
    return (time.process_time() - before) / rows * 1e6


async def _deliver(services: Services, batches: Iterable[NewBatch]) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async def deliver(batch: NewBatch) -> None:
        async with free:
            await services.delivering.deliver(services.config.feeds[batch.feed], batch.id)

    await asyncio.gather(*map(deliver, batches))


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
