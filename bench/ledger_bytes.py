"""What a row takes in the ledger: the BSON size of its documents, for a payload of a given size.

    python -m bench.ledger_bytes [--payload 500] [--rows-a-day 1000000]

A few rows are logged, delivered to a partner on this machine, and looked at. A server compresses
documents on disk, and adds its indexes: measure yours with `db.stats()`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
from pymongo import AsyncMongoClient

from app.core.batches import NewBatch
from app.core.clock import utc_now
from app.core.rows import SourceRow
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.intake.intake import Intake
from app.ledger import Ledger
from app.partner.client import PartnerClient
from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.servers import EmbeddedMongo
from app.testbed.simulator.partner import serve
from bench.ledger_size import NoQueue
from bench.report import table

ROWS = 100
SECONDS = timedelta(seconds=30)


class Kept(NoQueue):
    """Holds the batches it was sent."""

    def __init__(self) -> None:
        self.batches: list[NewBatch] = []

    async def publish(self, batches: Sequence[NewBatch]) -> None:
        """Keep them."""
        self.batches += batches


def main() -> None:
    """Print a table: collection, bytes a document, documents a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payload", type=int, default=500, help="bytes of a row as JSON")
    parser.add_argument("--rows-a-day", type=int, default=1_000_000)
    options = parser.parse_args()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="rowrelay-bench-") as place,
            EmbeddedMongo(Path(place)) as mongo,
        ):
            sizes = asyncio.run(_measure(mongo.url, options.payload))
    except NotStarted as error:
        sys.exit(f"bench: {error}")
    row = sum(sizes.values())
    lines = [[name, f"{size:,.0f}"] for name, size in sizes.items()]
    print(table(("collection", "bytes a row, BSON"), [*lines, ["together", f"{row:,.0f}"]]))
    day = options.rows_a_day
    print(
        f"\n{day:,} rows a day: {day * row / 1e9:.2f} GB a day before compression and without indexes,"
    )
    print(
        f"of which {day * options.payload / 1e9:.2f} GB are payloads, dropped after `payload_days`."
    )


async def _measure(url: str, payload: int) -> dict[str, float]:
    """Deliver some rows; collection → bytes a row."""
    async with serve() as partner:
        feed = Feed.model_validate({
            "name": "orders",
            "table": "orders",
            "key": "id",
            "cursor": {"strategy": "identity", "column": "id"},
            "partner": {"url": f"{partner.url}/v1/orders"},
        })  # fmt: skip
        ledger, queue = Ledger.at(url, SECONDS), Kept()
        await ledger.prepare()
        await _deliver(feed, ledger, queue, payload)
        await ledger.close()
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        return {name: await _bytes(database[name]) for name in ("deliveries", "attempts", "stats")}


async def _deliver(feed: Feed, ledger: Ledger, queue: Kept, payload: int) -> None:
    empty = '{"note":""}'
    text = f'{{"note":"{"x" * max(payload - len(empty), 0)}"}}'
    rows = [SourceRow(str(1_000_000 + number), number, text) for number in range(1, ROWS + 1)]
    intake = Intake(ledger, queue, message_wait=SECONDS, now=utc_now)
    logged = await intake.log(feed, rows)
    await intake.send(feed, logged)
    await intake.count(feed, logged)
    async with PartnerClient([feed]) as partner:
        delivering = Delivering(
            ledger, partner, DeliverySettings("host:1", SECONDS, 50, timedelta(milliseconds=10))
        )
        for batch in queue.batches:
            await delivering.deliver(feed, batch.id)


async def _bytes(collection: Any) -> float:
    return sum([len(bson.encode(found)) async for found in collection.find()]) / ROWS


if __name__ == "__main__":
    main()
