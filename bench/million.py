"""Many rows through one worker: does its memory stay flat, and is it as fast in the end as at the
start?
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.testbed.embedded.process import NotStarted
from app.testbed.simulator.generator import generate
from bench.contestants import Rowrelay, Running
from bench.report import Section, say, table
from bench.rounds import STUCK_SECONDS, Stuck, check, held
from bench.scene import SEED, Job, Place, Scene
from bench.usage import cpu_s, memory_mib

LOOK_SECONDS = 1.0
SAY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at a moment."""

    seconds: float
    """Since the first row reached the partner."""
    rows: int
    """At the partner."""
    memory_mib: float
    """Of the worker."""
    worker_s: float
    """CPU it has used."""
    ledger_s: float
    """CPU that the ledger server has used; 0 for one on another machine."""


def million(scene: Scene, rows: int) -> Section:
    """Deliver so many rows, which are all in the source from the start, and watch."""
    rowrelay = Rowrelay("million", poll_every="1s", poll_budget="20s")
    with scene.place(rowrelay.name, Job(rows)) as place:
        generate(place.source, rows, seed=SEED)
        with rowrelay.start(place) as running:
            try:
                samples, wrong = _watch(scene, running, rows), [""]
                wrong = _settled(place)
            except (NotStarted, Stuck) as error:
                return Section(
                    "million", "Many rows", f"FAILED: {error}\n{running.failure()}", None
                )
        return Section(
            "million", f"{rows:,} rows through one worker", _tell(samples, rows, wrong), samples
        )


def _watch(scene: Scene, running: Running, rows: int) -> list[Sample]:
    """Look every second until all rows are at the partner. Raises `Stuck`."""
    samples: list[Sample] = []
    started = said_at = moved_at = time.monotonic()
    while not samples or samples[-1].rows < rows:
        counts = scene.partner.wait(rows, LOOK_SECONDS)
        now = time.monotonic()
        if not counts["unique"]:
            started = now
        worker, ledger = running.groups["worker"], scene.servers["ledger"]
        sample = Sample(
            now - started, counts["unique"], memory_mib(worker), cpu_s(worker), cpu_s(ledger)
        )
        if not samples or sample.rows > samples[-1].rows:
            moved_at = now
        elif now - moved_at > STUCK_SECONDS:
            raise Stuck(
                f"{sample.rows:,} of {rows:,} rows reached the partner, and no more for {STUCK_SECONDS:g} s"
            )
        if now - said_at > SAY_SECONDS:
            say(f"{sample.rows:,} rows in {sample.seconds:,.0f} s, {sample.memory_mib:,.0f} MiB")
            said_at = now
        samples.append(sample)
    return samples


def _settled(place: Place) -> list[str]:
    """Wait for the last batches; then what is wrong with the run."""
    assert place.database is not None
    give_up = time.monotonic() + STUCK_SECONDS
    while held(place.database) and time.monotonic() < give_up:
        time.sleep(0.1)
    return check(place, place.ids())


def _tell(samples: Sequence[Sample], rows: int, wrong: Sequence[str]) -> str:
    first, last = _part(samples, 0, rows / 10), _part(samples, rows * 9 / 10, rows)
    slope, start, end = memory_slope(samples, rows)
    parts = table(
        ("", "rows/s", "worker CPU, µs a row", "ledger server's CPU, µs a row"),
        [["first tenth", *first], ["last tenth", *last], ["all", *_part(samples, 0, rows)]],
    )
    told = (
        f"Memory of the worker: {start:,.0f} MiB after the first tenth, {end:,.0f} MiB in the end; "
        f"slope {slope:+.2f} MiB per 100,000 rows (least squares over the last nine tenths)."
    )
    return "\n\n".join([parts, told, *(f"FAILED: {one}" for one in wrong)])


def _part(samples: Sequence[Sample], low: float, high: float) -> list[str]:
    """Rows/s and CPU a row between two counts of rows."""
    begin = [samples[0], *(one for one in samples if one.rows <= low)][-1]
    end = next(one for one in samples if one.rows >= high)
    rows = end.rows - begin.rows
    if not rows:
        return ["–"] * 3
    spent = (end.worker_s - begin.worker_s, end.ledger_s - begin.ledger_s)
    return [
        f"{rows / (end.seconds - begin.seconds):,.0f}",
        *(f"{one / rows * 1e6:,.0f}" for one in spent),
    ]


def memory_slope(samples: Sequence[Sample], rows: int) -> tuple[float, float, float]:
    """MiB per 100,000 rows by least squares, without the first tenth; then the first and the last
    MiB of that part.
    """
    kept = [one for one in samples if one.rows >= rows / 10]
    if len(kept) < 2:
        return 0.0, kept[0].memory_mib, kept[-1].memory_mib
    fit = statistics.linear_regression(
        [one.rows / 100_000 for one in kept], [one.memory_mib for one in kept]
    )
    return fit.slope, kept[0].memory_mib, kept[-1].memory_mib
