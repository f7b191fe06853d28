"""What the report of a day costs with few deliveries behind it and with many: it should be the
same.

    python -m bench.report_cost [--small 100000] [--large 10000000] [--rounds 15]

Fills the statistics of three days, 1,440 documents each: one with the few deliveries, the same with
every count multiplied, and one with the many as workers would have counted them, whose minutes hold
more kinds of things (latency buckets, reasons), up to a bound. Compiles each day's reports (all
feeds, and the one) in turn. Prints the median time to read the documents, to compile, to draw the
page of all feeds, and to do all that `compile` does: kept in the ledger, six files written. The
server is the embedded one.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from app.core.parts import in_parts
from app.core.period import Period, parse_period
from app.ledger import Ledger
from app.reports.compile import compile_reports
from app.reports.page import page
from app.reports.reporting import Reporting
from app.testbed.embedded.servers import EmbeddedMongo
from tests.support.buckets import day_of

ZONE = ZoneInfo("UTC")
DAYS = ("2026-03-02", "2026-03-04", "2026-03-06")
Took = dict[str, list[float]]


def multiplied(value: Any, factor: int) -> Any:
    """A bucket's part with every count in it so many times as high."""
    if isinstance(value, dict):
        return {name: multiplied(part, factor) for name, part in value.items()}
    return value * factor if isinstance(value, int) and not isinstance(value, bool) else value


async def filled(ledger: Ledger, day: str, deliveries: int, factor: int = 1) -> Period:
    """A day of the feed `orders` with so many deliveries, times `factor`."""
    period = parse_period(day, ZONE)
    documents = [
        multiplied(bucket, factor)
        for bucket in day_of("orders", deliveries, bad=True, start=period.start)
    ]
    for part in in_parts(documents, 100):
        await ledger._database["stats"].insert_many(part)  # noqa: SLF001 - generated
    return period


async def timed(took: list[float], work: Callable[[], Awaitable[Any]]) -> Any:
    started = time.perf_counter()
    done = await work()
    took.append((time.perf_counter() - started) * 1000)
    return done


async def once(ledger: Ledger, period: Period, folder: Path, now: datetime, took: Took) -> int:
    """One round. Returns how many deliveries the day has."""

    async def read() -> Any:
        return await ledger.stats.between("orders", period.start, period.end)

    buckets = await timed(took["read"], read)
    started = time.perf_counter()
    reports = compile_reports(period, ZONE, {"orders": buckets}, {}, period.end)
    took["compile"].append((time.perf_counter() - started) * 1000)
    started = time.perf_counter()
    page(reports[0])
    took["page"].append((time.perf_counter() - started) * 1000)
    reporting = Reporting(ledger, ["orders"], zone=ZONE, folder=folder, now=lambda: now)
    await timed(took["all"], lambda: reporting.compile(period))
    return reports[0].totals.delivered


async def measure(url: str, folder: Path, small: int, large: int, rounds: int) -> None:
    """Fill the days, then compile them in turn, and print the medians."""
    ledger = Ledger.at(url, timedelta(seconds=5))
    await ledger.prepare()
    days = {"few": (small, 1), "the same, multiplied": (small, large // small), "many": (large, 1)}
    periods = [
        await filled(ledger, day, *size) for day, size in zip(DAYS, days.values(), strict=True)
    ]
    now = periods[-1].end + timedelta(hours=1)
    took: list[Took] = [defaultdict(list) for _ in periods]
    delivered = [0] * len(periods)
    for turn in range(rounds + 1):
        for place in _in_turn(turn, len(periods)):
            found = took[place] if turn else defaultdict(list)
            delivered[place] = await once(ledger, periods[place], folder, now, found)
    await ledger.close()
    _print(list(days), delivered, took)


def _in_turn(turn: int, count: int) -> list[int]:
    """The days, another one first each time."""
    return [(turn + place) % count for place in range(count)]


def _print(names: list[str], delivered: list[int], took: list[Took]) -> None:
    rounds = len(took[0]["all"])
    print(
        f"median ms of {rounds:<10}  {'deliveries':>10}  {'read':>5}  {'compile':>7}  {'page':>5}  {'all of it':>9}"
    )
    medians = [{part: statistics.median(times) for part, times in found.items()} for found in took]
    for name, count, median in zip(names, delivered, medians, strict=True):
        parts = f"{median['read']:>5.0f}  {median['compile']:>7.0f}  {median['page']:>5.0f}  {median['all']:>9.0f}"
        print(f"{name:<23}  {count:>10,}  {parts}   ratio {median['all'] / medians[0]['all']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedMongo(Path(folder) / "mongo") as server:
        asyncio.run(measure(server.url, Path(folder), wanted.small, wanted.large, wanted.rounds))


if __name__ == "__main__":
    main()
