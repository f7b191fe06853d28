"""One round of one contestant: warm up, begin, watch, check, measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from app.testbed.embedded.process import NotStarted
from bench.contestants import Contestant, Running
from bench.scene import Database, Document, Job, Place, Scene
from bench.usage import Meter

WARM_UP_ROWS = 500
"""Rows sent before the measurement, so that processes have opened their clients and run their code."""
WARM_UP_AGAIN_ROWS = 2_000
"""Sent again, while not every process has had its part in sending."""
WARM_UPS = 10
LOOK_SECONDS = 0.25
"""How often memory is looked at."""
PROBE_SECONDS = 0.01
"""How often the ledger is asked for the last outcomes."""
STUCK_SECONDS = 60.0
"""A contestant that gets nothing new to the partner for so long has failed."""


class Stuck(Exception):
    """A contestant stopped getting on."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one round gave. `wrong` is empty where every row was delivered and recorded; else there
    are no figures.
    """

    rows: int
    seconds: float = 0.0
    """From the first poll, or the first job sent, to the last outcome recorded."""
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    """Group of processes → µs of CPU a row."""
    memory_mib: float = 0.0
    """The most that the workers held."""
    requests: int = 0
    """At the partner."""
    unique: int = 0
    wrong: Sequence[str] = ()

    @property
    def rows_per_s(self) -> float:
        """Throughput."""
        return self.rows / self.seconds

    @property
    def cores_busy(self) -> float:
        """How many cores all processes kept busy together, but for the benchmark's own."""
        return sum(self.cpu_us.values()) * self.rows_per_s / 1e6


Around: TypeAlias = Callable[[Place, Running], AbstractContextManager[None]]
"""What holds while a round is measured, as cores given to processes."""


@contextmanager
def as_it_is(_place: Place, _running: Running) -> Iterator[None]:
    """Nothing is done to the processes."""
    yield


def run_round(scene: Scene, contestant: Contestant, job: Job, around: Around = as_it_is) -> Figures:
    """Run one round. A contestant that fails gives figures that say why."""
    with scene.place(contestant.name, job) as place, contestant.start(place) as running:
        try:
            sent = warm_up(place, running)
            scene.partner.reset(job.answer_ms, sent + 1)
            with around(place, running):
                figures = _measure(place, running, sent + 1)
            return replace(figures, wrong=check(place, _ids(sent + 1, job.rows)))
        except (NotStarted, Stuck) as error:
            return Figures(job.rows, wrong=[f"{error}\n{running.failure()}"])


def warm_up(place: Place, running: Running) -> int:
    """Send rows until every process has had its part. Returns how many. Raises `Stuck`."""
    meter, sent = Meter({"worker": running.groups["worker"]}), 0
    for _ in range(WARM_UPS):
        more = WARM_UP_AGAIN_ROWS if sent else WARM_UP_ROWS
        place.add_rows(sent + 1, sent + more)
        running.go(sent + 1, sent + more)
        sent += more
        wait_for_outcomes(place, sent, meter)
        if running.is_warm():
            return sent
    raise Stuck(f"after {sent} rows not every worker has had its part in sending")


def _measure(place: Place, running: Running, first: int) -> Figures:
    job, scene = place.job, place.scene
    last = first + job.rows - 1
    place.add_rows(first, last)
    meter = Meter({**running.groups, **(scene.servers)})
    started = time.monotonic()
    running.go(first, last)
    counts = wait_for_outcomes(place, job.rows, meter)
    seconds = time.monotonic() - started
    used = meter.used_s()
    return Figures(
        rows=job.rows,
        seconds=seconds,
        cpu_us={name: used_s / job.rows * 1e6 for name, used_s in used.items()},
        memory_mib=meter.peak_mib,
        requests=counts["requests"],
        unique=counts["unique"],
    )


def _ids(first: int, rows: int) -> set[str]:
    return {f"orders:{number}" for number in range(first, first + rows)}


def wait_for_outcomes(place: Place, rows: int, meter: Meter) -> Document:
    """Return once so many rows have reached the partner, and the outcomes of the last are in the
    ledger.

    The partner tells which keys came last: only their outcomes can be missing. Asking for those
    costs the ledger server little, and is done only in the end. Raises `Stuck`.
    """
    unique, moved_at = -1, time.monotonic()
    while True:
        counts = place.scene.partner.wait(rows, LOOK_SECONDS)
        meter.look("worker")
        if counts["unique"] >= rows:
            break
        if counts["unique"] > unique:
            unique, moved_at = counts["unique"], time.monotonic()
        elif time.monotonic() - moved_at > STUCK_SECONDS:
            raise Stuck(
                f"{unique} of {rows} rows reached the partner, and no more for {STUCK_SECONDS:g} s"
            )
    _wait_for_the_last(place, counts["last"])
    return counts


def _wait_for_the_last(place: Place, keys: Sequence[str]) -> None:
    """Those of a peer are the last keys; Rowrelay's are in the batches that a worker holds."""
    database = place.database
    if database is None:
        return
    delivered = {"_id": {"$in": list(keys)}, "state": "delivered"}
    give_up = time.monotonic() + STUCK_SECONDS
    while held(database) or len(list(database["deliveries"].find(delivered, {"_id": 1}))) < len(
        keys
    ):
        if time.monotonic() > give_up:
            raise Stuck(
                f"the ledger lacks outcomes {STUCK_SECONDS:g} s after the partner had every row"
            )
        time.sleep(PROBE_SECONDS)


def held(database: Database) -> bool:
    """Whether a worker holds a batch. One that nobody holds when the partner has every row is
    empty: a poll that came second made it."""
    return database["batches"].find_one({"lease": {"$ne": None}}) is not None


def check(place: Place, ids: set[str]) -> list[str]:
    """What is wrong with a run: differences between what was sent, what the partner saw, and what
    the ledger says.
    """
    wrong = _difference("at the partner", set(place.scene.partner.arrivals()), ids)
    if place.database is not None:
        found = place.database["deliveries"].find({"state": "delivered"}, {"_id": 1})
        wrong += _difference(
            "delivered in the ledger", {document["_id"] for document in found}, place.ids()
        )
    return wrong


def _difference(where: str, found: set[str], wanted: set[str]) -> list[str]:
    if found == wanted:
        return []
    return [
        f"{len(found & wanted)} of {len(wanted)} rows {where}, and {len(found - wanted)} that are none of them"
    ]
