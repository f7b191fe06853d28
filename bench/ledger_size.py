"""What the ledger's questions cost with few and with many old deliveries behind them: it should be
the same.

Each step is timed over the ledger's own code, in this process, in turn on a ledger with 10,000
delivered rows and on one with many more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from app.core.batches import Batch, NewBatch
from app.core.clock import utc_now
from app.core.rows import SourceRow
from app.delivery.sweep import Sweeping
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.delivery_documents import delivery_id
from app.source.engine import open_engine
from app.source.reader import Source
from bench.report import Section, medians, say, spread, table, whole
from bench.scene import Document, Job, Place, Scene

SMALL = 10_000
BATCH = 100
FILL = 1000
SECONDS = timedelta(seconds=30)
LEASE = timedelta(minutes=1)

Step: TypeAlias = tuple[str, float]
"""Name, and how long it took in µs."""

FEED = Feed.model_validate({
    "name": "orders",
    "table": "orders",
    "key": "id",
    "cursor": {"strategy": "identity", "column": "id"},
    "partner": {"url": "https://partner.example/"},
})  # fmt: skip


class NoQueue:
    """Takes every message, and holds none."""

    async def publish(self, batches: Sequence[NewBatch]) -> None:
        """Forget it."""

    async def depth(self) -> int:
        """Empty."""
        return 0

    async def sift(self, existing: object) -> None:
        """Nothing to clear."""


def ledger_size(scene: Scene, old: int, rounds: int, steps: int = 30) -> Section:
    """Time each question `steps` times a round on both ledgers."""
    with scene.place("small", Job(0)) as small, scene.place("large", Job(0)) as large:
        for place, count in ((small, SMALL), (large, old)):
            asyncio.run(_prepare(place))
            _fill(place, count)
        took = asyncio.run(_measure({SMALL: small, old: large}, rounds, steps))
    rows = [_row(name, took, old) for name in took[SMALL]]
    columns = ("step, µs", f"{SMALL:,} old deliveries", f"{old:,} old deliveries", "ratio")
    body = f"{table(columns, rows)}\n\nMedians of {steps} times a round; median (least–most) of {rounds} rounds."
    return Section(
        "ledger-size", f"The ledger with {SMALL:,} and with {old:,} old deliveries", body, took
    )


def _row(name: str, took: dict[int, dict[str, list[float]]], old: int) -> list[str]:
    small, large = took[SMALL][name], took[old][name]
    ratio = medians({"large": large})["large"] / medians({"small": small})["small"]
    return [name, spread(small, whole), spread(large, whole), f"{ratio:.2f}"]


async def _prepare(place: Place) -> None:
    ledger = Ledger.at(place.ledger_url, SECONDS)
    await ledger.prepare()
    await ledger.close()


def _fill(place: Place, count: int) -> None:
    """Deliveries as they are months later: delivered, their payload purged."""
    assert place.database is not None
    say(f"writing {count:,} old deliveries")
    for start in range(0, count, FILL):
        place.database["deliveries"].insert_many(
            map(_old, range(start, min(start + FILL, count))), ordered=False
        )


def _old(number: int) -> Document:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return {
        "_id": f"orders:old-{number:09}", "feed": "orders", "key": f"old-{number:09}", "position": number,
        "created_at": at, "attempts": 1, "state": "delivered", "finished_at": at, "last": {"at": at, "status": 200},
    }  # fmt: skip


async def _measure(
    places: dict[int, Place], rounds: int, steps: int
) -> dict[int, dict[str, list[float]]]:
    """Old deliveries → step → the median µs of each round. One step on one ledger, then on the
    other.
    """
    took: dict[int, dict[str, list[float]]] = {old: {} for old in places}
    async with AsyncExitStack() as opened:
        probes = {
            old: await opened.enter_async_context(_probe(place)) for old, place in places.items()
        }
        for probe in probes.values():
            await _once(probe, 0)
        for number in range(rounds):
            this: dict[int, dict[str, list[float]]] = {old: {} for old in places}
            for turn in range(steps):
                for old, probe in probes.items():
                    for name, us in await _once(probe, 1 + number * steps + turn):
                        this[old].setdefault(name, []).append(us)
            for old, steps_of in this.items():
                for name, us in medians(steps_of).items():
                    took[old].setdefault(name, []).append(us)
            say(f"round {number + 1} of {rounds}")
    return took


Probe: TypeAlias = Callable[[str, Sequence[SourceRow]], AsyncIterator[Step]]


async def _once(probe: Probe, number: int) -> list[Step]:
    rows = [
        SourceRow(f"new-{number}-{place}", place, '{"note":"' + "x" * 480 + '"}')
        for place in range(BATCH)
    ]
    return [step async for step in probe(f"bench-{number}", rows)]


@asynccontextmanager
async def _probe(place: Place) -> AsyncIterator[Probe]:
    """The steps of a delivery's life on this ledger."""
    ledger = Ledger.at(place.ledger_url, SECONDS)
    source = Source(open_engine(f"sqlite:///{place.source}", SECONDS))
    polling = Polling(source, ledger, NoQueue(), message_wait=LEASE)
    sweeping = Sweeping(ledger, NoQueue(), {"orders": FEED}, lease=LEASE, limit=1000)

    async def steps(worker: str, rows: Sequence[SourceRow]) -> AsyncIterator[Step]:
        batch = new_batch("orders", [delivery_id("orders", row) for row in rows])
        yield await _timed("poll that finds nothing", polling.poll(FEED))
        yield await _timed("sweep that finds nothing", sweeping.sweep())
        await ledger.batches.insert([batch], utc_now() + LEASE)
        yield await _timed(f"log {BATCH} rows", ledger.deliveries.log([(batch, rows)], utc_now()))
        claimed: list[Batch | None] = []
        yield await _timed("claim a batch", _claim(ledger, batch, worker, claimed))
        held = claimed[0]
        assert held is not None
        yield await _timed(f"load its {BATCH} rows", ledger.deliveries.load(held))
        delivered = {200: list(batch.delivery_ids)}
        yield await _timed(
            f"record {BATCH} successes", ledger.deliveries.succeed(held, delivered, utc_now())
        )
        yield await _timed("settle the batch", ledger.batches.settle(held))

    try:
        yield steps
    finally:
        await source.close()
        await ledger.close()


async def _claim(ledger: Ledger, batch: NewBatch, worker: str, claimed: list[Batch | None]) -> None:
    claimed.append(await ledger.batches.claim(batch.id, batch.feed, worker, utc_now(), LEASE))


async def _timed(name: str, work: Awaitable[object]) -> Step:
    started = time.perf_counter()
    await work
    return name, (time.perf_counter() - started) * 1e6
