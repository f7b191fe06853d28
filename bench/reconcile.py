"""What a reconciliation costs: of a feed whose rows all have their delivery, and nothing differs.

    python -m bench.reconcile [--rows 200000] [--rounds 3]

Prints, a round: the seconds on the wall, and the CPU seconds of this process. The rests that the
source is given are part of the time on the wall.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from sqlite3 import connect

from app.core.batches import NewBatch
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.reconcile import Reconciling
from app.source.engine import open_engine
from app.source.reader import Source
from app.testbed.embedded.servers import EmbeddedMongo

BUILD = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, amount TEXT, status TEXT, created_at TEXT);
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})
INSERT INTO orders SELECT n, 'customer ' || n % 1000, n || '.50', 'new', '2026-01-01T10:00:00' FROM numbers;
"""
FEED = Feed.model_validate(
    {
        "name": "orders",
        "table": "orders",
        "key": "id",
        "cursor": {"strategy": "identity", "column": "id"},
        "page_size": 2000,
        "poll_budget": "1h",
        "max_backlog": 100_000_000,
        "partner": {"url": "https://partner.example/"},
    }
)


class NoQueue:
    """Takes messages, and sends none."""

    async def publish(self, batches: Sequence[NewBatch]) -> None:
        del batches

    async def depth(self) -> int:
        return 0


async def measure(url: str, path: Path, rounds: int) -> list[tuple[float, float]]:
    """Seconds on the wall and of this process's CPU, a round. Raises `AssertionError` where
    anything is missing.
    """
    ledger = Ledger.at(url, timedelta(seconds=10))
    source = Source(open_engine(f"sqlite:///{path}", timedelta(seconds=10)))
    wait = timedelta(minutes=1)
    taken: list[tuple[float, float]] = []
    try:
        await ledger.prepare()
        await Polling(source, ledger, NoQueue(), message_wait=wait).poll(FEED)
        for _ in range(rounds):
            started, cpu = time.perf_counter(), time.process_time()
            certificate = await Reconciling(source, ledger, NoQueue(), message_wait=wait).reconcile(
                FEED, dry_run=True
            )
            taken.append((time.perf_counter() - started, time.process_time() - cpu))
            assert certificate.complete
    finally:
        await source.close()
        await ledger.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="What a reconciliation costs.")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        with closing(connect(path)) as connection:
            connection.executescript(BUILD.format(rows=wanted.rows))
        with EmbeddedMongo(Path(folder) / "mongo") as mongo:
            taken = asyncio.run(measure(mongo.url, path, wanted.rounds))
    for wall, cpu in taken:
        print(f"{wanted.rows:,} rows: {wall:.2f} s, of which CPU here {cpu:.2f} s")
    print(f"median: {statistics.median(wall for wall, _ in taken):.2f} s")


if __name__ == "__main__":
    main()
