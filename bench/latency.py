"""Latency: from a row's insert to the moment its outcome is recorded, at a steady rate."""

from __future__ import annotations

import sqlite3
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from app.testbed.embedded.process import NotStarted, Process
from app.testbed.embedded.stack import ROOT
from bench.contestants import Rowrelay, killed
from bench.report import Section, say, spread, table, whole
from bench.rounds import WARM_UP_ROWS, Stuck, check, wait_for_outcomes
from bench.scene import SEED, Job, Place, Scene
from bench.usage import Meter

CUTS = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "most": 1.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What rows come, and how often they are looked for."""

    rate: float
    """Rows a second."""
    seconds: float
    poll_every: str

    @property
    def rows(self) -> int:
        """In one round."""
        return int(self.rate * self.seconds)


@dataclass(frozen=True, slots=True)
class Latencies:
    """One round, in ms."""

    to_partner: Mapping[str, float]
    """Percentile → from a row's insert to its arrival at the partner."""
    to_ledger: Mapping[str, float]
    """From a row's insert to its outcome being recorded."""
    cpu_us: Mapping[str, float]
    wrong: Sequence[str]


def latency(scene: Scene, load: Load, rounds: int) -> Section:
    """Measure it in as many rounds."""
    found = []
    for number in range(rounds):
        one = _measure(scene, load)
        found.append(one)
        told = f"p50 {one.to_ledger['p50']:,.0f} ms" if not one.wrong else f"failed: {one.wrong[0]}"
        say(f"round {number + 1} of {rounds}: {told}")
    good = [one for one in found if not one.wrong]
    rows = [
        _row("insert → at the partner, ms", [one.to_partner for one in good]),
        _row("insert → outcome known, ms", [one.to_ledger for one in good]),
    ]
    used = ", ".join(
        f"{group} {statistics.median(one.cpu_us[group] for one in good):,.0f}"
        for group in (good or found)[0].cpu_us
    )
    failed = "".join(f"\nFAILED: {one.wrong[0]}" for one in found if one.wrong)
    title = f"Latency at {load.rate:g} rows/s, polled every {load.poll_every}"
    body = (
        f"{table(('', *CUTS), rows)}\n\n"
        f"{load.rows:,} rows a round, partner answering at once; median (least–most) of {rounds} rounds. "
        "An outcome is known when its group begins to be written, which takes some 10 ms more. "
        f"CPU in µs a row: {used}.{failed}"
    )
    return Section("latency", title, body, found)


def _row(name: str, rounds: Sequence[Mapping[str, float]]) -> list[str]:
    return [name, *(spread([one[cut] for one in rounds], whole) for cut in CUTS)]


def _measure(scene: Scene, load: Load) -> Latencies:
    rowrelay = Rowrelay("latency", poll_every=load.poll_every, poll_budget="20s")
    with scene.place(rowrelay.name, Job(load.rows)) as place, rowrelay.start(place) as running:
        try:
            place.add_rows(1, WARM_UP_ROWS)
            wait_for_outcomes(place, WARM_UP_ROWS, Meter({"worker": []}))
            scene.partner.reset(0, WARM_UP_ROWS + 1)
            meter = Meter({**running.groups, **scene.servers})
            with killed(_generator(place, load)):
                wait_for_outcomes(place, load.rows, meter)
        except (NotStarted, Stuck) as error:
            return Latencies({}, {}, {}, [f"{error}\n{running.failure()}"])
        used = {group: used_s / load.rows * 1e6 for group, used_s in meter.used_s().items()}
        inserted = _inserted(place)
        return Latencies(
            to_partner=_percentiles(scene.partner.arrivals(), inserted),
            to_ledger=_percentiles(_recorded(place), inserted),
            cpu_us=used,
            wrong=check(place, set(inserted)),
        )


def _generator(place: Place, load: Load) -> Process:
    """Writes the rows, as applications do."""
    arguments = [
        "--database",
        str(place.source),
        "--rows",
        str(load.rows),
        "--rate",
        str(load.rate),
    ]
    argv = [
        sys.executable,
        "-m",
        "app.testbed.simulator.generator",
        *arguments,
        "--seed",
        str(SEED),
    ]
    return Process("generator", argv, cwd=ROOT, log=place.directory / "generator.log")


def _inserted(place: Place) -> dict[str, float]:
    """Delivery id → when the row was made, a moment before its transaction was committed."""
    with closing(sqlite3.connect(place.source)) as connection:
        rows = connection.execute("SELECT id, created_at FROM orders WHERE id > ?", (WARM_UP_ROWS,))
        return {f"orders:{number}": datetime.fromisoformat(at).timestamp() for number, at in rows}


def _recorded(place: Place) -> dict[str, float]:
    """Delivery id → when its outcome was recorded."""
    assert place.database is not None
    found: Iterable[dict[str, datetime]] = place.database["deliveries"].find({}, {"finished_at": 1})
    return {
        str(document["_id"]): document["finished_at"].replace(tzinfo=UTC).timestamp()
        for document in found
    }


def _percentiles(ended: Mapping[str, float], begun: Mapping[str, float]) -> dict[str, float]:
    took = sorted((ended[key] - at) * 1000 for key, at in begun.items() if key in ended)
    return (
        {name: took[min(int(len(took) * cut), len(took) - 1)] for name, cut in CUTS.items()}
        if took
        else {}
    )
