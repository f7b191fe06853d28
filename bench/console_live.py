"""What a live overview costs: the console's memory, and the latency of rows that are delivered meanwhile.

    python -m bench.console_live [--seconds 3600] [--slice 120] [--rate 30] [--readers 20] [--old 5000000]

A real worker, beat and console over embedded servers, and a generator that writes `--rate` rows a second;
behind them as many old deliveries as `--old`, 10,000 of them dead. Slices of time alternate: in one `--readers`
watch the overview over sockets, half as pages and half as programs, and each comes and goes at its own pace; in
the next nobody does. So both are measured under the same conditions. Prints the latency of rows, from
logged to delivered, in both kinds of slices: of all rows, and the median over the slices; what the readers
were sent; and the console's memory, looked at once a minute, with its slope by least squares.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pymongo import MongoClient

from app.core.clock import utc_now
from app.ledger import Ledger
from app.testbed.embedded.demo_console import DemoConsole, start_console
from app.testbed.embedded.stack import Stack
from bench.console_ledger import Size, fill
from bench.live import latencies
from bench.usage import cpu_s, memory_mib

PATHS = ("/overview/events", "/api/v1/events")
STAYS_SECONDS = (3.0, 45.0)
"""How long a reader watches before it goes, and comes again."""
SETTLES_SECONDS = 5
"""Of the beginning of a slice, which are not counted."""
WARM_MINUTES = 5
"""After which memory is looked at."""
DEAD = 10_000


@dataclass(slots=True)
class Slice:
    """A part of the time."""

    watched: bool
    start: datetime
    end: datetime
    ms: list[float] = field(default_factory=list)
    """Of each row."""


@dataclass(slots=True)
class Told:
    """What the readers were sent."""

    events: int = 0
    sent: int = 0
    """Bytes."""
    visits: int = 0
    reader_seconds: float = 0.0


@dataclass(slots=True)
class Watching:
    """How it goes."""

    told: Told = field(default_factory=Told)
    slices: list[Slice] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Minutes since the start, and MiB."""
    console_s: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})
    """CPU of the console, watched and not."""


def main() -> None:
    """Run it, and print."""
    given = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="rowrelay-") as directory,
        Stack(Path(directory), temporary=True, settings={"LOG_LEVEL": "WARNING"}) as stack,
    ):
        print(stack.mongo.description, flush=True)
        if given.old:
            fill(stack.mongo.url, Size(given.old, min(DEAD, given.old // 10)))
        asyncio.run(_prepared(stack.mongo.url))
        console = start_console(stack)
        stack.start_worker()
        stack.start_beat()
        seconds = given.seconds + 60
        stack.start_generator(round(seconds * given.rate), rate=given.rate)
        print(f"{given.old:,} old deliveries, {given.rate:g} rows a second", flush=True)
        found = asyncio.run(_run(console, given))
        _fill(found.slices, stack.mongo.url)
        _print(found, given.readers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--slice", type=float, default=120, help="seconds of each slice")
    parser.add_argument("--rate", type=float, default=30, help="rows a second")
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--old", type=int, default=5_000_000, help="deliveries behind it")
    return parser.parse_args()


async def _prepared(url: str) -> None:
    ledger = Ledger.at(url, timedelta(seconds=30))
    await ledger.prepare()
    await ledger.close()


async def _run(console: DemoConsole, given: argparse.Namespace) -> Watching:
    found, begun = Watching(), time.monotonic()
    pid = [console.pid]
    async with _client(console) as client, asyncio.TaskGroup() as beside:
        await _log_in(client, console)
        await asyncio.sleep(SETTLES_SECONDS)
        looking = beside.create_task(_look(found, pid, begun))
        number = 0
        while time.monotonic() < begun + given.seconds:
            watched, before = number % 2 == 0, cpu_s(pid)
            one = Slice(watched, utc_now(), utc_now())
            await _slice(client, found.told, given.readers if watched else 0, given.slice)
            one.end = utc_now()
            found.slices.append(one)
            found.console_s[watched] += cpu_s(pid) - before
            number += 1
        looking.cancel()
    return found


def _client(console: DemoConsole) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(
        base_url=console.url,
        headers={"Origin": console.url},
        timeout=60,
        limits=limits,
        trust_env=False,
    )


async def _log_in(client: httpx.AsyncClient, console: DemoConsole) -> None:
    answer = await client.post("/login", data={"name": console.name, "password": console.password})
    assert answer.status_code == 303, answer.text


async def _look(found: Watching, pid: Sequence[int], begun: float) -> None:
    """The console's memory, once a minute."""
    while True:
        found.memory.append(((time.monotonic() - begun) / 60, memory_mib(pid)))
        await asyncio.sleep(60)


async def _slice(client: httpx.AsyncClient, told: Told, readers: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    reading = [_read_on(client, told, number, until) for number in range(readers)]
    await asyncio.gather(asyncio.sleep(seconds), *reading)


async def _read_on(client: httpx.AsyncClient, told: Told, number: int, until: float) -> None:
    """One reader, who comes and goes."""
    dice = random.Random(number)
    while (left := until - time.monotonic()) > 0:
        begun = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, dice.uniform(*STAYS_SECONDS))):
                await _read(client, told, PATHS[number % len(PATHS)])
        told.visits += 1
        told.reader_seconds += time.monotonic() - begun


async def _read(client: httpx.AsyncClient, told: Told, path: str) -> None:
    async with client.stream("GET", path) as answer:
        answer.raise_for_status()
        async for part in answer.aiter_raw():
            told.sent += len(part)
            told.events += part.count(b"event: ")


def _fill(slices: Sequence[Slice], url: str) -> None:
    """Put each row's latency into its slice."""
    wanted: dict[str, Any] = {
        "state": "delivered", "feed": "orders", "finished_at": {"$gte": slices[0].start},
    }  # fmt: skip
    fields = {"created_at": 1, "finished_at": 1}
    with MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        rows = client.get_default_database()["deliveries"].find(wanted, fields).to_list()
    for one in slices:
        start = one.start + timedelta(seconds=SETTLES_SECONDS)
        those = [row for row in rows if start <= row["created_at"] < one.end]
        one.ms = latencies(those)


def _print(found: Watching, readers: int) -> None:
    head = ("slices", 8), ("rows", 10), ("p50 ms", 9), ("p95 ms", 9), ("p95 of a slice, median", 25)
    print(" " * 10 + "".join(f"{name:>{width}}" for name, width in (*head, ("console CPU", 13))))
    for watched in (True, False):
        _print_kind(found, watched)
    told = found.told
    a_reader = told.sent / max(told.reader_seconds, 1)
    print(
        f"{readers} readers came and went {told.visits:,} times; they were told {told.events:,} times, "
        f"{told.sent / max(told.events, 1):,.0f} bytes each, {a_reader:,.0f} bytes a second and reader"
    )
    _print_memory(found.memory)


def _print_kind(found: Watching, watched: bool) -> None:
    those = [one for one in found.slices if one.watched is watched and len(one.ms) > 20]
    if not those:
        return
    every = [ms for one in those for ms in one.ms]
    of_slices = statistics.median(_p95(one.ms) for one in those)
    seconds = sum((one.end - one.start).total_seconds() for one in those)
    name = "watched" if watched else "not"
    cpu = f"{100 * found.console_s[watched] / seconds:.1f} %"
    print(
        f"{name:<10}{len(those):>8}{len(every):>10,}{statistics.median(every):>9.0f}{_p95(every):>9.0f}"
        f"{of_slices:>25.0f}{cpu:>13}"
    )


def _p95(ms: Sequence[float]) -> float:
    return statistics.quantiles(ms, n=20)[18]


def _print_memory(memory: Sequence[tuple[float, float]]) -> None:
    warm = [one for one in memory if one[0] >= WARM_MINUTES] or memory
    line = f"memory of the console: {memory[0][1]:.1f} MiB at the start"
    if len(warm) > 2:
        slope = statistics.linear_regression([at for at, _ in warm], [mib for _, mib in warm]).slope
        line += (
            f", {warm[0][1]:.1f} after {warm[0][0]:.0f} minutes, {warm[-1][1]:.1f} after {warm[-1][0]:.0f}; "
            f"slope from there {60 * slope:+.2f} MiB an hour"
        )
    print(line)
    print("MiB each minute:", " ".join(f"{mib:.1f}" for _, mib in memory), flush=True)


if __name__ == "__main__":
    main()
