"""What a poll that finds nothing costs, on a small table and on a large one: it should be the same.

    python -m bench.poll_cost [--small 10000] [--large 10000000] [--polls 300] [--rounds 5]

Prints, a strategy: the median time of a poll on each SQLite table, and the ratio of the two. Rounds
are interleaved over the tables. The large table takes about a minute and 1 GB of the temporary
directory.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.core.cursors import Cursor
from app.feeds.feed import Feed
from app.source.engine import open_engine
from app.source.reader import Source

COLUMNS = {"identity": "id", "rowversion": "rv", "timestamp": "at"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)

BUILD = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, rv INTEGER, at TEXT, note TEXT);
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})
INSERT INTO orders SELECT n, n, strftime('%Y-%m-%d %H:%M:%f', 1700000000 + n / 1000.0, 'unixepoch'), 'row' FROM numbers;
CREATE INDEX orders_rv ON orders (rv);
CREATE INDEX orders_at ON orders (at);
"""


def build(path: Path, rows: int) -> None:
    """Make the table of a bench, with an index for each strategy."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + BUILD.format(rows=rows)
        )


def feed(strategy: str) -> Feed:
    cursor = {"strategy": strategy, "column": COLUMNS[strategy], "start": "now"}
    partner = {"url": "https://partner.example/"}
    return Feed.model_validate(
        {"name": strategy, "table": "orders", "key": "id", "cursor": cursor, "partner": partner}
    )


async def at_the_end(source: Source, strategy: str) -> Cursor:
    """A cursor that has read everything."""
    page = await source.read_page(feed(strategy), Cursor(strategy), NOW)
    return replace(Cursor(strategy), position=page.position)


async def time_polls(source: Source, cursor: Cursor, polls: int) -> list[float]:
    """How long each of these polls took, in µs."""
    spec, took = feed(cursor.feed), []
    for _ in range(polls):
        started = time.perf_counter()
        page = await source.read_page(spec, cursor, NOW)
        took.append((time.perf_counter() - started) * 1e6)
        assert not page.rows
    return took


async def measure(
    paths: dict[int, Path], strategy: str, polls: int, rounds: int
) -> dict[int, float]:
    """Rows → median µs of a poll that finds nothing."""
    sources = {
        rows: Source(open_engine(f"sqlite:///{path}", timedelta(seconds=5)))
        for rows, path in paths.items()
    }
    took: dict[int, list[float]] = {rows: [] for rows in paths}
    cursors = {rows: await at_the_end(source, strategy) for rows, source in sources.items()}
    for source, cursor in zip(sources.values(), cursors.values(), strict=True):
        await time_polls(source, cursor, 20)
    for _ in range(rounds):
        for rows, source in sources.items():
            took[rows] += await time_polls(source, cursors[rows], polls)
    for source in sources.values():
        await source.close()
    return {rows: statistics.median(times) for rows, times in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--polls", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {rows: Path(folder) / f"{rows}.db" for rows in (wanted.small, wanted.large)}
        for rows, path in paths.items():
            build(path, rows)
        for strategy in COLUMNS:
            found = asyncio.run(measure(paths, strategy, wanted.polls, wanted.rounds))
            small, large = found[wanted.small], found[wanted.large]
            print(
                f"{strategy:<11} {wanted.small:>10,} rows: {small:6.0f} µs   "
                f"{wanted.large:>10,} rows: {large:6.0f} µs   ratio {large / small:.2f}"
            )


if __name__ == "__main__":
    main()
