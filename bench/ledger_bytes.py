"""What a row takes in the ledger: its documents as BSON, and what they take on disk, with the indexes.

    python -m bench.ledger_bytes [--payload 500] [--rows 20000] [--compressor zstd]

Rows like those of a shop are logged, delivered to a partner on this machine, and looked at once the
server has written a checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pymongo

from app.core.clock import utc_now
from app.core.logs import configure_logging
from app.core.parts import in_parts
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
from bench.report import table
from bench.row_cost import Messages

SECONDS = timedelta(seconds=30)
COLLECTIONS = ("deliveries", "attempts", "stats")
_WORDS = (
    "address", "blue", "carrier", "customer", "delivery", "discount", "express", "gift", "invoice",
    "item", "label", "note", "order", "paid", "parcel", "pending", "policy", "quantity", "refund",
    "return", "shipping", "small", "standard", "street", "warehouse",
)  # fmt: skip


class Size(NamedTuple):
    """What one collection takes, in bytes a row."""

    bson: float
    disk: float
    indexes: float


def main() -> None:
    """Print a table: collection; bytes a row as BSON, on disk, of its indexes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payload", type=int, default=500, help="bytes of a row as JSON")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rows-a-day", type=int, default=1_000_000)
    parser.add_argument("--compressor", choices=("snappy", "zlib", "zstd"), default="snappy")
    options = parser.parse_args()
    configure_logging("WARNING", "json")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="rowrelay-bench-") as place,
            EmbeddedMongo(Path(place)) as mongo,
        ):
            _prepare(mongo.admin_url, options.compressor)
            asyncio.run(_fill(mongo.url, options.rows, options.payload))
            sizes = _sizes(mongo.admin_url, options.rows)
    except NotStarted as error:
        sys.exit(f"bench: {error}")
    _print(sizes, options)


def _print(sizes: Mapping[str, Size], options: argparse.Namespace) -> None:
    together = Size(*map(sum, zip(*sizes.values(), strict=True)))
    lines = [
        [name, *(f"{part:,.0f}" for part in size)]
        for name, size in [*sizes.items(), ("together", together)]
    ]
    print(table(("bytes a row", "BSON", f"on disk, {options.compressor}", "indexes"), lines))
    day, disk = options.rows_a_day, together.disk + together.indexes
    print(f"\n{day:,} rows a day: {day * disk / 1e9:.2f} GB a day on disk, with indexes.")


def _prepare(url: str, compressor: str) -> None:
    """The collections, with that compressor."""
    engine = {"wiredTiger": {"configString": f"block_compressor={compressor}"}}
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        for name in COLLECTIONS:
            client.get_default_database().create_collection(name, storageEngine=engine)


async def _fill(url: str, rows: int, payload: int) -> None:
    """Log and deliver the rows."""
    async with serve() as partner:
        feed = Feed.model_validate({
            "name": "orders",
            "table": "orders",
            "key": "id",
            "cursor": {"strategy": "identity", "column": "id"},
            "partner": {"url": f"{partner.url}/v1/orders"},
        })  # fmt: skip
        ledger, messages = Ledger.at(url, SECONDS), Messages()
        terms = DeliverySettings("host:1", SECONDS, 50, timedelta(milliseconds=10))
        await ledger.prepare()
        intake = Intake(ledger, messages, message_wait=SECONDS, now=utc_now)
        async with PartnerClient([feed]) as client:
            delivering = Delivering(ledger, client, terms)
            for numbers in in_parts(range(rows), feed.page_size):
                logged = await intake.log(feed, [_row(number, payload) for number in numbers])
                await intake.send(feed, logged)
                await intake.count(feed, logged)
                for batch in messages.batches:
                    await delivering.deliver(feed, batch.id)
                messages.batches.clear()
        await ledger.close()


def _row(number: int, payload: int) -> SourceRow:
    draw = random.Random(number)
    order = {
        "id": 1_000_000 + number,
        "customer": draw.choice(_WORDS).title(),
        "amount": f"{draw.random() * 1000:.2f}",
        "sku": f"{draw.getrandbits(48):012X}",
        "created_at": f"2026-01-01T{draw.randrange(24):02}:{draw.randrange(60):02}:00.{draw.randrange(1000):03}",
        "note": "",
    }
    left = payload - len(json.dumps(order))
    order["note"] = " ".join(draw.choices(_WORDS, k=max(left, 0) // 3))[: max(left, 0)]
    return SourceRow(str(order["id"]), number + 1, json.dumps(order))


def _sizes(url: str, rows: int) -> dict[str, Size]:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        client.admin.command("fsync")
        database = client.get_default_database()
        return {name: _size(database.command("collStats", name), rows) for name in COLLECTIONS}


def _size(stats: Mapping[str, Any], rows: int) -> Size:
    on_disk = stats["storageSize"] - stats["freeStorageSize"]
    return Size(stats["size"] / rows, on_disk / rows, stats["totalIndexSize"] / rows)


if __name__ == "__main__":
    main()
