"""How many rows a second an installation takes, and what is used up first: from costs measured
here.

    python -m bench.capacity [--rows 10000] [--rounds 3] [--ledger-cores 8] [--members 3] … [--write]

Measures on embedded servers what a row costs each part, with one process that polls and one that
sends to a partner that takes 50 ms; how long one feed's page takes, with nobody sending; what
workers cost that have nothing to do; and what a row costs with several. Then prints, for 1 to 64
workers, what each part could take, and for some rates what they need. Everything else, as the
ledger's cores and latencies between machines, is assumed: see the options, and docs/performance.md,
"Capacity".
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from app.feeds.feed import Feed
from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.replica_set import EmbeddedReplicaSet
from bench.capacity_model import Costs, Site, costs_table, limits_table, needed_table
from bench.contestants import Rowrelay, Running
from bench.report import Section, header, publish, say, table, whole
from bench.rounds import STUCK_SECONDS, Figures, Stuck, run_round, warm_up
from bench.scene import Job, Place, Scene
from bench.usage import Meter

ANSWER_MS = 50.0
IDLE_SECONDS = 10.0
IDLE_WORKERS = (1, 5)
"""What one more costs is the difference, by the workers more."""

CROWD, CROWD_IN_FLIGHT = (1, 2, 4, 6), 20
"""Workers; 400 rows/s each at most, so that the machine has room for them all."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the ledger's server and the partner have counted."""

    commands: float
    network_bytes: float
    journal_bytes: float
    partner_bytes: float

    def since(self, before: Counters, rows: float) -> Counters:
        """The difference, by so many."""
        return Counters(
            *(
                (getattr(self, one.name) - getattr(before, one.name)) / rows
                for one in fields(Counters)
            )
        )


def counters(scene: Scene) -> Counters:
    """As they stand."""
    status = scene.mongo.admin.command("serverStatus")
    network = status["network"]
    commands = status["metrics"]["commands"].values()
    return Counters(
        sum(one["total"] for one in commands if isinstance(one, dict) and "total" in one),
        network["bytesIn"] + network["bytesOut"],
        status["wiredTiger"]["log"]["log bytes written"],
        scene.partner.wait(0, 0)["bytes"],
    )


def main() -> None:
    """Measure and print."""
    options = _options()
    load = os.getloadavg()[0]
    site = Site(**{one.name: getattr(options, one.name) for one in fields(Site)})
    try:
        with (
            tempfile.TemporaryDirectory(prefix="rowrelay-bench-") as directory,
            _ledger(options) as mongo_url,
            Scene(Path(directory), mongo_url=mongo_url) as scene,
        ):
            costs = measure(scene, options.rows, options.rounds)
            crowd = measure_crowd(scene, options.rows // CROWD[-1])
            command = shlex.join(["python", "-m", "bench.capacity", *sys.argv[1:]])
            head = header(scene, command, load)
    except (NotStarted, Stuck) as error:
        sys.exit(f"bench: {error}")
    publish(section(costs, site, crowd), head, write=options.write, json_file=options.json)


@contextmanager
def _ledger(options: argparse.Namespace) -> Iterator[str | None]:
    """The URL of the ledger server to measure; `None`: the usual embedded one."""
    if options.mongo_url or options.members == 1:
        yield options.mongo_url
        return
    with EmbeddedReplicaSet(members=options.members) as members:
        members.primary()
        yield members.admin_url


def section(costs: Costs, site: Site, crowd: str = "") -> Section:
    """The tables, with what was assumed; `crowd`: what `measure_crowd` gave."""
    body = "\n\n".join(
        [
            costs_table(costs, site),
            f"Does a row cost more where more workers share the work? {CROWD_IN_FLIGHT} requests in flight a worker, "
            f"on the {os.cpu_count()} cores of this machine:\n\n{crowd}",
            _assumed(site),
            f"What each part could take, with one feed:\n\n{limits_table(costs, replace(site, feeds=1))}",
            f"And with {site.feeds} feeds:\n\n{limits_table(costs, site)}",
            f"What to buy:\n\n{needed_table(costs, site)}",
        ]
    )
    return Section("capacity", "Capacity", body, {"costs": costs, "site": site})


def _assumed(site: Site) -> str:
    return (
        f"Assumed: a core for each worker, {site.ledger_cores} for the ledger's primary and one for Redis, of "
        f"which {site.busy:.0%} may be used; `concurrency` "
        f"{site.concurrency} a feed, to a partner that takes {site.partner_ms:g} ms; a page takes "
        f"{site.source_ms:g} ms more from a database over a network than here, and each of its writes "
        f"{site.majority_ms:g} ms more to reach a second member of a replica set; {site.network_mbit:,.0f} Mbit/s "
        "at the ledger. A row costs each part the same at any load."
    )


def measure(scene: Scene, rows: int, rounds: int) -> Costs:
    """The medians of so many rounds."""
    idle = [_idle(scene, workers) for workers in IDLE_WORKERS]
    more = IDLE_WORKERS[1] - IDLE_WORKERS[0]
    each = {name: max(0.0, (idle[1][name] - idle[0][name]) / more) for name in idle[0]}
    say(f"a worker that has nothing to do: {each['ledger']:,.0f} µs a second of the ledger's")
    found = []
    for number in range(rounds):
        found.append({**_rows(scene, rows), "page_ms": _page_ms(scene, rows)})
        say(f"round {number + 1} of {rounds}: {found[-1]['deliver_us']:,.0f} µs a row to deliver")
    return Costs(
        **{name: statistics.median(one[name] for one in found) for name in found[0]},
        page_rows=Feed.model_fields["page_size"].default,
        idle_worker_us=each["worker"],
        idle_ledger_us=each["ledger"],
        idle_ledger_commands=each["commands"],
        idle_redis_us=each["redis"],
    )


def _round(scene: Scene, rowrelay: Rowrelay, job: Job) -> tuple[Figures, Counters]:
    """One round, and what was counted, by the rows. Raises `Stuck` where it failed."""
    told: list[Counters] = []

    @contextmanager
    def counted(_place: Place, _running: Running) -> Iterator[None]:
        before = counters(scene)
        yield
        told.append(counters(scene).since(before, job.rows))

    figures = run_round(scene, rowrelay, job, counted)
    if figures.wrong:
        raise Stuck(figures.wrong[0])
    return figures, told[0]


def measure_crowd(scene: Scene, rows: int) -> str:
    """What a row costs with more and more workers, each of which sends as little as one alone."""
    lines = []
    for workers in CROWD:
        job = Job(rows * workers, in_flight=CROWD_IN_FLIGHT, answer_ms=ANSWER_MS)
        figures, told = _round(scene, Rowrelay(f"capacity, {workers}", workers=workers), job)
        say(f"{workers} workers with {CROWD_IN_FLIGHT} in flight: {figures.rows_per_s:,.0f} rows/s")
        costs = [figures.rows_per_s, figures.cpu_us["worker"], figures.cpu_us["ledger"]]
        lines.append([str(workers), *map(whole, [*costs, 1000 * told.commands])])
    return table(
        ("workers", "rows/s", "worker CPU, µs a row", "ledger's, µs", "its commands, 1,000 rows"),
        lines,
    )


def _rows(scene: Scene, rows: int) -> dict[str, float]:
    """What a row costs, with the poller apart."""
    poller_apart = Rowrelay("capacity", poller=True)
    figures, told = _round(scene, poller_apart, Job(rows, answer_ms=ANSWER_MS))
    return {
        "deliver_us": figures.cpu_us["worker"],
        "take_in_us": figures.cpu_us["producer"],
        "ledger_us": figures.cpu_us["ledger"],
        "redis_us": figures.cpu_us["redis"],
        "ledger_commands": told.commands,
        "ledger_bytes": told.network_bytes,
        "journal_bytes": told.journal_bytes,
        "partner_bytes": told.partner_bytes,
    }


def _page_ms(scene: Scene, rows: int) -> float:
    """How long one feed's page takes, where nobody sends: that is all that polls do meanwhile."""
    poller = Rowrelay("capacity, polls", workers=0, poller=True)
    with scene.place(poller.name, Job(rows)) as place, poller.start(place) as running:
        page: int = Feed.model_fields["page_size"].default
        _take_in(place, running, 1, page)
        return _take_in(place, running, page + 1, page + rows) * 1000 / (rows / page)


def _take_in(place: Place, running: Running, first: int, last: int) -> float:
    """Have these rows taken in. Returns how many seconds later the ledger had the last."""
    assert place.database is not None
    place.add_rows(first, last)
    started = time.monotonic()
    running.go(first, last)
    while place.database["deliveries"].estimated_document_count() < last:
        if time.monotonic() > started + STUCK_SECONDS:
            raise Stuck(f"rows up to {last} were not taken in within {STUCK_SECONDS:g} s")
        time.sleep(0.005)
    return time.monotonic() - started


def _idle(scene: Scene, workers: int) -> dict[str, float]:
    """What a second of so many workers costs that have nothing to do: CPU in µs, commands."""
    rowrelay = Rowrelay("capacity, idle", workers=workers)
    with scene.place(rowrelay.name, Job(0)) as place, rowrelay.start(place) as running:
        warm_up(place, running)
        before, meter = counters(scene), Meter({**running.groups, **scene.servers})
        time.sleep(IDLE_SECONDS)
        used = meter.used_s()
        return {
            "worker": used["worker"] * 1e6 / IDLE_SECONDS,
            "ledger": used["ledger"] * 1e6 / IDLE_SECONDS,
            "redis": used["redis"] * 1e6 / IDLE_SECONDS,
            "commands": counters(scene).since(before, IDLE_SECONDS).commands,
        }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    for one in fields(Site):
        name = f"--{one.name.replace('_', '-')}"
        parser.add_argument(name, type=type(one.default), default=one.default)
    parser.add_argument(
        "--mongo-url", metavar="URL", help="a ledger server that runs; else an embedded one"
    )
    parser.add_argument(
        "--members",
        type=int,
        choices=range(1, 8),
        default=1,
        help="of the embedded ledger's replica set; the primary's costs are measured",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into docs/performance.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
