"""The comparison: every contestant, with the ledger and without, and the limits: the same work,
interleaved rounds.

`slow` (a partner that takes 50 ms) is the same with others in the ring.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from app.testbed.embedded.stack import ROOT
from bench.contestants import CONTESTANTS, Contestant
from bench.figures import cell, cpu, good, median, plain
from bench.limits import LOOPS
from bench.report import Section, say, table
from bench.rounds import Figures, run_round
from bench.scene import Job, Scene

ONE_WORKER = "Rowrelay, 1 worker"
SLOW = (
    "Rowrelay, 1 worker",
    "taskiq, aiohttp",
    "saq, aiohttp",
    "arq, aiohttp",
    "Celery prefork, 8",
    "Celery gevent, requests",
)
SLOW_ANSWER_MS, SLOW_IN_FLIGHT = 50.0, 200
SLOW_LIMITS = (
    *(name for name, loop in LOOPS.items() if loop.server == "partner"),
    "insert",
    "update",
    "update-one",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is measured once a round."""

    name: str
    ledger: bool
    limit: bool
    run: Callable[[Scene], Figures]

    @property
    def label(self) -> str:
        """For progress."""
        return self.name if self.ledger or self.limit else f"{self.name}, no ledger"


@dataclass(frozen=True, slots=True)
class Results:
    """Every round of every entry."""

    full: dict[str, list[Figures]]
    bare: dict[str, list[Figures]]
    """Without the ledger."""
    limits: dict[str, list[Figures]]

    def of(self, entry: Entry) -> list[Figures]:
        """Where the rounds of an entry are kept."""
        kept = self.limits if entry.limit else self.full if entry.ledger else self.bare
        return kept.setdefault(entry.name, [])


def compare(scene: Scene, job: Job, rounds: int, only: Sequence[str]) -> Section:
    """Everybody, and all limits."""
    entries = [*_contestants(job, only), *_loops(job, tuple(LOOPS), only)]
    results = _run(scene, entries, rounds)
    parts = [
        _job_table(results),
        _limits_table(results),
        _ledger_limits(results),
        _ratios(results),
        _notes(results),
    ]
    body = "\n\n".join(filter(None, parts))
    return Section(
        "compare",
        f"{job.rows:,} rows, partner answering at once, {scene.ledger_version()}",
        body,
        results,
    )


def slow(scene: Scene, job: Job, rounds: int, only: Sequence[str]) -> Section:
    """A partner that takes its time, and more requests in flight."""
    job = replace(job, in_flight=SLOW_IN_FLIGHT, answer_ms=SLOW_ANSWER_MS)
    contestants = [
        entry for entry in _contestants(job, only or SLOW) if only or "apart" not in entry.name
    ]
    results = _run(scene, [*contestants, *_loops(job, SLOW_LIMITS, only)], rounds)
    bound = SLOW_IN_FLIGHT / SLOW_ANSWER_MS * 1000
    told = f"{SLOW_IN_FLIGHT} requests in flight that take {SLOW_ANSWER_MS:g} ms each: {bound:,.0f} rows/s at most."
    parts = [
        _job_table(results),
        _limits_table(results),
        f"{told} {_ledger_limits(results)}",
        _notes(results),
    ]
    body = "\n\n".join(filter(None, parts))
    return Section(
        "slow", f"{job.rows:,} rows, partner answering after {SLOW_ANSWER_MS:g} ms", body, results
    )


def _contestants(job: Job, only: Sequence[str]) -> Iterator[Entry]:
    for contestant in CONTESTANTS:
        if _wanted(contestant.name, only):
            yield _entry(contestant, job)
            if contestant.without_ledger:
                yield _entry(contestant, replace(job, ledger=False))


def _entry(contestant: Contestant, job: Job) -> Entry:
    return Entry(
        contestant.name, job.ledger, False, lambda scene: run_round(scene, contestant, job)
    )


def _loops(job: Job, names: Sequence[str], only: Sequence[str]) -> Iterator[Entry]:
    for name in names:
        if _wanted(f"limit {name} {LOOPS[name].title}", only):
            yield Entry(LOOPS[name].title, False, True, _loop(name, job))


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(part.lower() in name.lower() for part in only)


def _loop(name: str, job: Job) -> Callable[[Scene], Figures]:
    def run(scene: Scene) -> Figures:
        server = LOOPS[name].server
        with scene.place(f"limit {name}", job) as place, scene.server(server, place) as (url, pid):
            command = [
                sys.executable,
                "-m",
                "bench.limits",
                name,
                "--url",
                url,
                "--rows",
                str(job.rows),
            ]
            command += ["--in-flight", str(job.in_flight), "--source", str(scene.rows(job.rows))]
            command += ["--server", str(pid)] if pid else []
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if ended.returncode:
            return Figures(job.rows, wrong=[ended.stderr[-300:]])
        told = orjson.loads(ended.stdout)
        used = {"worker": told["cpu_s"], "server": told["server_s"]}
        return Figures(
            job.rows,
            told["seconds"],
            {group: cpu_s / job.rows * 1e6 for group, cpu_s in used.items()},
        )

    return run


def _run(scene: Scene, entries: Sequence[Entry], rounds: int) -> Results:
    """All entries once a round. Each round begins with another one, so that none always follows the
    same.
    """
    results = Results({}, {}, {})
    for entry in entries:
        results.of(entry)
    for number in range(rounds):
        turn = number * len(entries) // rounds
        for entry in [*entries[turn:], *entries[:turn]]:
            figures = entry.run(scene)
            told = (
                f"FAILED: {figures.wrong}" if figures.wrong else f"{figures.rows_per_s:,.0f} rows/s"
            )
            say(f"round {number + 1} of {rounds}: {entry.label}: {told}")
            results.of(entry).append(figures)
    return results


# --- telling


_COLUMNS = (
    "contestant", "rows/s, no ledger", "rows/s, full job", "worker CPU, no ledger", "worker CPU, full job",
    "producer and beat", "ledger server", "Redis", "partner", "cores busy", "memory MiB", "duplicates",
)  # fmt: skip


def _job_table(results: Results) -> str:
    if not results.full:
        return ""
    return table(_COLUMNS, (_job_row(name, results) for name in results.full))


def _job_row(name: str, results: Results) -> list[str]:
    full, bare = results.full[name], results.bare.get(name, [])
    return [
        name,
        cell(bare, lambda one: one.rows_per_s),
        cell(full, lambda one: one.rows_per_s),
        cell(bare, cpu("worker")),
        cell(full, cpu("worker")),
        plain(full, cpu("producer", "beat")),
        plain(full, cpu("ledger")),
        plain(full, cpu("redis")),
        plain(full, cpu("partner")),
        plain(full, lambda one: one.cores_busy, ".2f"),
        plain(full, lambda one: one.memory_mib),
        plain([*full, *bare], lambda one: one.requests - one.unique),
    ]


def _limits_table(results: Results) -> str:
    if not results.limits:
        return ""
    rows = (
        [
            name,
            cell(figures, lambda one: one.rows_per_s),
            cell(figures, cpu("worker")),
            cell(figures, cpu("server")),
        ]
        for name, figures in results.limits.items()
    )
    return table(("limit", "rows/s", "its own CPU", "the server's CPU"), rows)


def _ledger_limits(results: Results) -> str:
    """What the ledger server could take of one insert and one update a row, and of nothing else."""
    rate = {
        name: median(results.limits.get(LOOPS[name].title, []), lambda one: one.rows_per_s)
        for name in LOOPS
    }
    if not all(rate[name] for name in ("insert", "update", "update-one")):
        return ""
    bulk, single = (
        1 / (1 / rate["insert"] + 1 / rate[update]) for update in ("update", "update-one")
    )
    return (
        f"The ledger server's limit for one insert and one update a row: {bulk:,.0f} rows/s by insert_many and "
        f"update_many, {single:,.0f} rows/s by insert_many and update_one."
    )


def _ledger_busy(one: Figures) -> float:
    """How much of a core the ledger server used."""
    return one.cpu_us.get("ledger", 0.0) * one.rows_per_s / 1e6


def _ratios(results: Results) -> str:
    """How Rowrelay stands to the best of each kind, and to the limit."""
    ours = results.full.get(ONE_WORKER, [])
    if not good(ours):
        return ""
    fast = {name: figures for name, figures in results.full.items() if name.endswith(", aiohttp")}
    prefork = {
        name: figures for name, figures in results.full.items() if name.startswith("Celery prefork")
    }
    rows = [
        *_against("best peer with aiohttp", ours, fast),
        *_against("best Celery prefork", ours, prefork),
    ]
    bare = results.limits.get(LOOPS["aiohttp"].title, [])
    if good(bare):
        times = median(ours, cpu("worker")) / median(bare, cpu("worker"))
        rows.append(["worker CPU a row, Rowrelay ÷ bare aiohttp post", f"{times:.2f}"])
    rows.append(
        ["cores that the ledger server used meanwhile", f"{median(ours, _ledger_busy):.2f}"]
    )
    return table((ONE_WORKER, ""), rows)


def _against(
    kind: str, ours: Sequence[Figures], theirs: Mapping[str, Sequence[Figures]]
) -> Iterator[list[str]]:
    unfailed = {name: figures for name, figures in theirs.items() if good(figures)}
    if not unfailed:
        return
    rates = {
        name: median(figures, lambda one: one.rows_per_s) for name, figures in unfailed.items()
    }
    best = max(rates, key=lambda name: rates[name])
    yield [
        f"rows/s, Rowrelay ÷ {kind} ({best})",
        f"{median(ours, lambda one: one.rows_per_s) / rates[best]:.2f}",
    ]
    for group, title in (("worker", "worker CPU a row"), ("ledger", "ledger server's CPU a row")):
        used = {name: median(figures, cpu(group)) for name, figures in unfailed.items()}
        least, own = min(used, key=lambda name: used[name]), median(ours, cpu(group))
        if own and used[least]:
            yield [f"{title}, {kind} ({least}) ÷ Rowrelay", f"{used[least] / own:.2f}"]


def _notes(results: Results) -> str:
    """What went wrong, and the unit."""
    notes = [
        "CPU in µs a row, memory of the worker processes at its peak; median (least–most) of the rounds."
    ]
    for kind in (results.full, results.bare, results.limits):
        failed = [(name, one) for name, figures in kind.items() for one in figures if one.wrong]
        notes += [f"FAILED: {name}: {one.wrong[0].splitlines()[0]}" for name, one in failed]
    return "\n".join(notes)
