"""Two worker processes against one: with the machine used up, with cores to spare, and by CPU
accounting.

On two cores one worker, the ledger server and the partner leave little for a second worker, and
then two against one says nothing about how the work is shared. So the same is measured where it can
be seen:

- a partner that takes 50 ms, and so many requests in flight a worker that one uses a quarter of a
  core; each worker is pinned to a core of its own, and the servers to what is left;
- each worker in a control group that gives it a quarter of a core, the partner answering at once:
  so it is the worker's CPU that limits, while the servers have room.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from bench.contestants import Rowrelay, Running
from bench.cores import can_limit, cores, limited, pin, pin_apart
from bench.figures import cell, cpu, good, median, plain
from bench.report import Section, say, table, whole
from bench.rounds import Around, Figures, as_it_is, run_round
from bench.scene import Job, Place, Scene

ANSWER_MS, IN_FLIGHT = 50.0, 60
"""1,200 rows/s a worker at most."""
PART_OF_A_CORE = 0.25
WORKERS = (1, 2)


@dataclass(frozen=True, slots=True)
class Case:
    """One worker against two under the same conditions."""

    title: str
    change: Callable[[Job], Job]
    """The job for one worker. Two have twice as many rows, but where the machine is used up."""
    around: Around = as_it_is
    twice: bool = True
    workers: Sequence[int] = WORKERS


@contextmanager
def _pinned(place: Place, running: Running) -> Iterator[None]:
    """Each worker on a core of its own."""
    servers = place.scene.servers
    pin_apart(running.groups["worker"], servers)
    try:
        yield
    finally:
        for pids in servers.values():
            pin(pids, cores())


@contextmanager
def _in_parts(_place: Place, running: Running) -> Iterator[None]:
    """Each worker with a part of a core."""
    with limited(running.groups["worker"], PART_OF_A_CORE):
        yield


@contextmanager
def _beside_a_loop(_place: Place, _running: Running) -> Iterator[None]:
    """A program that does nothing, and takes the last of the cores for it."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            pin([busy.pid], cores()[-1:])
            yield
        finally:
            busy.kill()


USED_UP = Case("partner answering at once", lambda job: job, twice=False)
BESIDE_A_LOOP = Case("the same, beside a busy loop", lambda job: job, _beside_a_loop, workers=(1,))
PINNED = Case(
    f"partner of {ANSWER_MS:g} ms, {IN_FLIGHT} in flight a worker",
    lambda job: replace(job, rows=job.rows // 2, in_flight=IN_FLIGHT, answer_ms=ANSWER_MS),
    _pinned,
)
IN_PARTS = Case(
    f"{PART_OF_A_CORE:g} of a core a worker",
    lambda job: replace(job, rows=job.rows // 2),
    _in_parts,
)

Found: TypeAlias = dict[str, dict[int, list[Figures]]]
"""Case → workers → rounds."""


def two(scene: Scene, job: Job, rounds: int, only: Sequence[str]) -> Section:
    """Two workers against one, in each case."""
    cases = [USED_UP, BESIDE_A_LOOP, PINNED, *([IN_PARTS] if can_limit() else [])]
    cases = [case for case in cases if not only or any(part in case.title for part in only)]
    found: Found = {case.title: {workers: [] for workers in case.workers} for case in cases}
    for number in range(rounds):
        for case in cases:
            for workers in case.workers[:: 1 if number % 2 else -1]:
                figures = _run(scene, case, job, workers)
                found[case.title][workers].append(figures)
                said = f"FAILED: {figures.wrong}" if figures.wrong else f"{figures.rows_per_s:,.0f}"
                say(f"round {number + 1} of {rounds}: {case.title}, {workers}: {said} rows/s")
    body = "\n\n".join(filter(None, [_table(found), _ratios(found), _notes(job, cases, found)]))
    return Section("two", "Two worker processes against one", body, found)


def _run(scene: Scene, case: Case, job: Job, workers: int) -> Figures:
    of_one = case.change(job)
    rows = of_one.rows * (workers if case.twice else 1)
    contestant = Rowrelay(f"Rowrelay, {workers} workers", workers=workers)
    return run_round(scene, contestant, replace(of_one, rows=rows), case.around)


def _table(found: Found) -> str:
    columns = (
        "", "workers", "rows/s", "worker CPU", "beat", "ledger server", "Redis", "partner",
        "cores busy", "memory MiB",
    )  # fmt: skip
    return table(
        columns,
        (
            [title, str(workers), *_line(figures)]
            for title, by_workers in found.items()
            for workers, figures in by_workers.items()
        ),
    )


def _line(figures: Sequence[Figures]) -> list[str]:
    return [
        cell(figures, lambda one: one.rows_per_s),
        cell(figures, cpu("worker")),
        *(plain(figures, cpu(group)) for group in ("beat", "ledger", "redis", "partner")),
        plain(figures, lambda one: one.cores_busy, ".2f"),
        plain(figures, lambda one: one.memory_mib),
    ]


def _ratios(found: Found) -> str:
    """Two workers against one: what they did, and what their CPU says they could do."""
    lines = [
        [title, *_against(*(by_workers[workers] for workers in WORKERS))]
        for title, by_workers in found.items()
        if [len(good(figures)) > 0 for figures in by_workers.values()] == [True, True]
    ]
    columns = (
        "two workers ÷ one", "rows/s", "worker CPU a row", "ledger server's CPU a row",
        "one worker with a core of its own, rows/s", "two with a core each", "ratio",
    )  # fmt: skip
    return table(columns, lines) if lines else ""


def _against(one: Sequence[Figures], both: Sequence[Figures]) -> list[str]:
    def ratio(value: Callable[[Figures], float]) -> str:
        return f"{median(both, value) / median(one, value):.2f}"

    alone, together = (1e6 / median(figures, cpu("worker")) for figures in (one, both))
    return [
        ratio(lambda figures: figures.rows_per_s),
        ratio(cpu("worker")),
        ratio(cpu("ledger")),
        whole(alone),
        whole(2 * together),
        f"{2 * together / alone:.2f}",
    ]


def _notes(job: Job, cases: Sequence[Case], found: Found) -> str:
    notes = [
        f"{job.rows:,} rows; with a partner of {ANSWER_MS:g} ms or a part of a core two workers send these, and one "
        "half of them. CPU in µs a row, memory of the worker processes at its peak; median (least–most) of the rounds.",
        "With a core each: 1 s divided by the worker's CPU a row, times the workers; the ledger server, Redis and the "
        "partner are taken to have cores of their own.",
        f"Partner of {ANSWER_MS:g} ms: each worker pinned to a core, the servers to {_left()}; two workers have twice "
        "as many requests in flight.",
    ]
    if IN_PARTS not in cases:
        notes.append("Part of a core: not measured; it takes a control group, so Linux and root.")
    failed = [
        f"FAILED: {title}, {workers} workers: {one.wrong[0].splitlines()[0]}"
        for title, by_workers in found.items()
        for workers, figures in by_workers.items()
        for one in figures
        if one.wrong
    ]
    return "\n".join([*notes, *failed])


def _left() -> str:
    return "the others" if len(cores()) > max(WORKERS) else "both, since there are no others"
