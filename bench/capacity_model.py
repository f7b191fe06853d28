"""How many rows a second an installation can take, from what a row costs: arithmetic alone.

Each part of an installation has a limit of its own; the lowest is what the whole can do. A row's
cost is taken to be the same at any load; what a worker costs the ledger and Redis while it does
nothing is added for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.report import table, whole

WORKERS = (1, 2, 4, 8, 16, 32, 64)
TARGETS = (100, 1_000, 5_000, 10_000, 20_000, 50_000)


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured. CPU in µs, a row or a worker and second; bytes a row."""

    deliver_us: float
    """Of a worker: claimed, loaded, sent, recorded."""
    take_in_us: float
    """Of the worker that polls: read and logged."""
    ledger_us: float
    ledger_commands: float
    ledger_bytes: float
    """Over its network, both ways."""
    journal_bytes: float
    redis_us: float
    partner_bytes: float
    """Sent to the partner, with the request's head."""
    page_ms: float
    """From one page of a feed to the next: read, logged, the cursor moved."""
    page_rows: int
    idle_worker_us: float
    """Of a worker that has nothing to do, a second."""
    idle_ledger_us: float
    """Of the ledger's server for it."""
    idle_ledger_commands: float
    idle_redis_us: float


@dataclass(frozen=True, slots=True)
class Site:
    """What is assumed of the installation."""

    ledger_cores: int = 8
    """Of the primary."""
    busy: float = 0.7
    """How much of a core that is paid for may be used, by workers, ledger and Redis: beyond it, work
    waits in line."""
    feeds: int = 8
    """Feeds with rows at the same time."""
    concurrency: int = 1_000
    """Requests in flight a feed: what is set as its `concurrency`."""
    partner_ms: float = 50.0
    source_ms: float = 10.0
    """What a page takes longer than here to come from a database over a network."""
    majority_ms: float = 2.0
    """What a write takes longer than here until a second member of the replica set has it."""
    network_mbit: float = 10_000.0
    """Of the ledger's primary."""


WRITES_A_PAGE = 4
"""One after the other: batches, deliveries, cursor, counts."""


def poll_rate(costs: Costs, site: Site) -> float:
    """Rows a second that one feed's polls take in, one page after the other."""
    ms = costs.page_ms + site.source_ms + WRITES_A_PAGE * site.majority_ms
    return costs.page_rows / ms * 1000


def worker_rate(costs: Costs, site: Site) -> float:
    """Rows a second that one worker takes in and delivers with a core of its own."""
    return (1e6 * site.busy - costs.idle_worker_us) / (costs.deliver_us + costs.take_in_us)


def limits(costs: Costs, site: Site, workers: int) -> dict[str, float]:
    """Part → rows a second that it could take."""
    core = 1e6 * site.busy
    return {
        "workers": workers * worker_rate(costs, site),
        "ledger": max(0.0, site.ledger_cores * core - workers * costs.idle_ledger_us)
        / costs.ledger_us,
        "polls": site.feeds * poll_rate(costs, site),
        "Redis": max(0.0, core - workers * costs.idle_redis_us) / costs.redis_us,
        "network": site.network_mbit * 1e6 / 8 * site.busy / costs.ledger_bytes,
        "partner": site.feeds * site.concurrency / site.partner_ms * 1000,
    }


def first(found: Mapping[str, float]) -> tuple[str, float]:
    """What saturates first, and at how many rows a second."""
    name = min(found, key=lambda part: found[part])
    return name, found[name]


@dataclass(frozen=True, slots=True)
class Needed:
    """What so many rows a second take."""

    workers: int
    """Processes, each with a core."""
    ledger_cores: int
    feeds: int
    """With rows at the same time, at least: one feed's polls take in no more."""
    in_flight: int
    redis: float
    """Of a core."""
    network_mbit: float
    """At the ledger."""
    journal_mb: float
    """Megabytes a second."""
    commands: float
    """Of the ledger, a second."""


def needed(costs: Costs, site: Site, rows: float) -> Needed:
    """What so many rows a second take."""
    core = 1e6 * site.busy
    workers = math.ceil(rows / worker_rate(costs, site))
    return Needed(
        workers=workers,
        ledger_cores=math.ceil((rows * costs.ledger_us + workers * costs.idle_ledger_us) / core),
        feeds=math.ceil(rows / poll_rate(costs, site)),
        in_flight=math.ceil(rows * site.partner_ms / 1000),
        redis=(rows * costs.redis_us + workers * costs.idle_redis_us) / 1e6,
        network_mbit=rows * costs.ledger_bytes * 8 / 1e6,
        journal_mb=rows * costs.journal_bytes / 1e6,
        commands=rows * costs.ledger_commands + workers * costs.idle_ledger_commands,
    )


def limits_table(costs: Costs, site: Site, many: Sequence[int] = WORKERS) -> str:
    """What each part could take, with so many workers, and which is the first to be used up."""
    parts = list(limits(costs, site, 1))
    columns = ["workers", *(f"{part}, rows/s" for part in parts), "all together", "used up first"]
    return table(columns, (_limits_line(limits(costs, site, one), one) for one in many))


def _limits_line(found: Mapping[str, float], workers: int) -> list[str]:
    name, rate = first(found)
    return [str(workers), *(whole(one) for one in found.values()), whole(rate), name]


def needed_table(costs: Costs, site: Site, rates: Sequence[int] = TARGETS) -> str:
    """What to buy."""
    columns = (
        "rows/s", "workers, a core each", "cores of the ledger's primary", "feeds at least",
        f"requests in flight at {site.partner_ms:g} ms", "Redis, of a core", "ledger's network, Mbit/s",
        "journal, MB/s", "ledger commands/s",
    )  # fmt: skip
    return table(columns, _needed_lines(costs, site, rates))


def _needed_lines(costs: Costs, site: Site, rates: Sequence[int]) -> Iterator[list[str]]:
    for rate in rates:
        one = needed(costs, site, rate)
        yield [
            *map(whole, (rate, one.workers, one.ledger_cores, one.feeds, one.in_flight)),
            f"{one.redis:.2f}",
            whole(one.network_mbit),
            f"{one.journal_mb:.1f}",
            whole(one.commands),
        ]


def costs_table(costs: Costs, site: Site) -> str:
    """What was measured."""
    lines = [
        ("worker: claim, load, send, record a row", f"{costs.deliver_us:,.0f} µs"),
        ("worker: read and log a row", f"{costs.take_in_us:,.0f} µs"),
        ("ledger's server, a row", f"{costs.ledger_us:,.0f} µs"),
        ("ledger commands, 1,000 rows", f"{1000 * costs.ledger_commands:,.0f}"),
        ("ledger's network, a row", f"{costs.ledger_bytes:,.0f} bytes"),
        ("ledger's journal, a row", f"{costs.journal_bytes:,.0f} bytes"),
        ("Redis, a row", f"{costs.redis_us:,.1f} µs"),
        ("to the partner, a row", f"{costs.partner_bytes:,.0f} bytes"),
        (f"one feed's page of {costs.page_rows:,} rows, read and logged", f"{costs.page_ms:,.0f} ms"),
        ("so one feed's polls take in, here", f"{costs.page_rows / costs.page_ms * 1000:,.0f} rows/s"),
        ("and with the latencies assumed", f"{poll_rate(costs, site):,.0f} rows/s"),
        ("a worker that has nothing to do: itself, a second", f"{costs.idle_worker_us:,.0f} µs"),
        ("for it, the ledger's server", f"{costs.idle_ledger_us:,.0f} µs"),
        ("for it, ledger commands", f"{costs.idle_ledger_commands:,.1f}"),
        ("for it, Redis", f"{costs.idle_redis_us:,.0f} µs"),
    ]  # fmt: skip
    return table(("measured here", ""), lines)
