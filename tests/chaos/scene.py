"""One run: a stack with rows flowing through it, what a fault can reach, and the books at the end."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pymongo
from pymongo.errors import PyMongoError

from app.core.states import OPEN_STATES
from app.testbed.embedded.process import Process
from app.testbed.embedded.server import Server
from app.testbed.embedded.source import connect
from app.testbed.embedded.stack import ROOT, Stack
from tests.chaos.replica_set import ChaosSet
from tests.support.wait import wait_until

FEED = "orders"
OPEN = {"$in": [state.value for state in OPEN_STATES]}


@dataclass(slots=True)
class Scene:
    """A stack under way. Faults use its methods; `ended` says when the last one was over."""

    stack: Stack
    rows: int
    client: pymongo.MongoClient[dict[str, Any]]
    rate: float = 0.0
    """Rows a second; 0: all at once."""
    feeds: tuple[str, ...] = (FEED,)
    """Those whose books are balanced; others may run beside them. Each reads the table of its name.
    """
    replica_set: ChaosSet | None = None
    """What the ledger is on, where it is not the stack's own server."""
    kills: int = 0
    ended: datetime | None = None
    doomed: list[Process] = field(default_factory=list)

    @property
    def members(self) -> ChaosSet:
        """The replica set of a cell that asks for one."""
        assert self.replica_set is not None, "this cell has no replica set"
        return self.replica_set

    @property
    def patience(self) -> float:
        """Seconds that the rows may take beyond their own pace, on a machine that has other work
        too.
        """
        return 120 + self.rows / 50

    @property
    def deliveries(self) -> pymongo.collection.Collection[dict[str, Any]]:
        return self.client.get_default_database()["deliveries"]

    def _orders(self, **wanted: Any) -> int:
        """Deliveries of the feeds whose books are balanced."""
        return self.deliveries.count_documents({"feed": {"$in": self.feeds}, **wanted})

    @property
    def attempts(self) -> pymongo.collection.Collection[dict[str, Any]]:
        return self.client.get_default_database()["attempts"]

    def in_source(self) -> int:
        """Rows that the source has now."""
        return len(self.source_ids())

    def source_ids(self) -> set[str]:
        """The deliveries that the rows in the source must have."""
        with closing(connect(self.stack.database)) as source:
            return {
                f"{feed}:{key}"
                for feed in self.feeds
                for (key,) in source.execute(f"SELECT id FROM {feed}")  # noqa: S608 - names of ours
            }

    def delivered(self) -> int:
        """Deliveries the ledger says are delivered; -1 while it does not answer."""
        try:
            return self._orders(state="delivered")
        except PyMongoError:
            return -1

    def start_rows(self) -> None:
        """Let the rows flow."""
        self.stack.start_generator(self.rows, rate=self.rate, pattern="late-commit")

    def wait_for_ready(self, worker: Process) -> None:
        """Until the worker takes messages."""
        wait_until(
            lambda: " ready." in worker.log.read_text(),
            timeout=60,
            message=f"{worker.name} to be ready",
        )

    def wait_for_share(self, share: float) -> None:
        """Until so much of the rows is delivered."""
        wait_until(
            lambda: self.delivered() >= share * self.rows, self.patience, f"{share:.0%} delivered"
        )

    def let_rows_flow(self) -> Process:
        """A worker; rows, once it takes messages; and the moment when a fifth of them is delivered.

        So the fault meets rows under way, and others come while it lasts.
        """
        worker = self.stack.start_worker()
        self.wait_for_ready(worker)
        self.start_rows()
        self.wait_for_share(0.2)
        return worker

    def start_doomed_worker(self, moment: str, number: int) -> Process:
        """A worker that kills itself at the `number`-th occurrence of the moment (see
        `tests.chaos.doomed`).
        """
        name = f"doomed{len(self.doomed) + 1}"
        argv = [
            sys.executable,
            "-m",
            "tests.chaos.doomed",
            moment,
            str(number),
            "--",
            "worker",
            "--hostname",
            f"{name}@%h",
        ]
        log = self.stack.directory / f"{name}.log"
        process = Process(name, argv, env=self.stack.environment, cwd=ROOT, log=log).start()
        self.doomed.append(process)
        return process

    def wait_for_death(self, process: Process) -> None:
        """Until the process has ended by SIGKILL."""
        wait_until(lambda: not process.alive, timeout=60, message=f"the death of {process.name}")
        assert process.returncode == 137, process.failure()
        self.kills += 1

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.kill()
        self.kills += 1

    def kill_and_restart(self, server: Server) -> None:
        """SIGKILL a server, and start it again a while later."""
        server.kill()
        self.kills += 1
        time.sleep(3)  # the outage itself
        server.restart()
        self.fault_is_over()

    def freeze(self, process: Process, seconds: float) -> None:
        """Stop a process for a while, with its connections open."""
        process.signal(signal.SIGSTOP)
        time.sleep(seconds)  # the outage itself
        process.signal(signal.SIGCONT)

    def fault_is_over(self) -> None:
        """From here on the time of recovery counts."""
        self.ended = datetime.now(UTC)

    def faults(self, **rates: object) -> None:
        """Tell the partner how to behave; with nothing said it behaves."""
        with self.stack.partner() as partner:
            partner.put(
                "/_simulator/faults", content=orjson.dumps(rates, option=orjson.OPT_NON_STR_KEYS)
            ).raise_for_status()

    def settled(self, before: datetime | None = None) -> bool:
        """Whether all rows (or all logged before a moment) are settled."""
        of_feeds = {"feed": {"$in": self.feeds}, "state": OPEN}
        wanted: dict[str, Any] = of_feeds | ({"created_at": {"$lt": before}} if before else {})
        try:
            return self.deliveries.count_documents(wanted, limit=1) == 0 and (
                before is not None or self._orders() == self.rows
            )
        except PyMongoError:
            return False

    def stop_doomed(self) -> None:
        """Stop what is left of the doomed workers."""
        for process in self.doomed:
            process.stop(timeout=3)


@dataclass(frozen=True, slots=True)
class Books:
    """What a run came to."""

    rows: int
    kills: int
    requests: int
    duplicates: int
    recovery_s: float
    wrong: tuple[str, ...]
    """Promises broken; nothing where all held."""
    lost: int
    """Rows of the source that were not delivered."""


def recover(scene: Scene) -> float:
    """Wait until all is settled. Returns the seconds from the fault's end until what was logged by
    then was settled.
    """
    ended = scene.ended or datetime.now(UTC)
    wait_until(lambda: scene.settled(before=ended), scene.patience, "recovery")
    recovered = (datetime.now(UTC) - ended).total_seconds()
    wait_until(scene.settled, scene.patience, "every row to be settled")
    _wait_for_batches(scene)
    return recovered


def _wait_for_batches(scene: Scene) -> None:
    batches = scene.client.get_default_database()["batches"]

    def none_left() -> bool:
        with suppress(PyMongoError):
            return batches.count_documents({"feed": {"$in": scene.feeds}}) == 0
        return False

    wait_until(none_left, timeout=60, message="no batch to be left")


def balance(scene: Scene, recovery_s: float) -> Books:
    """Check the promises by key, over source, ledger and partner."""
    in_source, of_feeds = scene.source_ids(), {"feed": {"$in": scene.feeds}}
    states = {
        document["_id"]: document["state"]
        for document in scene.deliveries.find(of_feeds, {"state": 1})
    }
    of_feed = {"_id": {"$regex": f"^({'|'.join(scene.feeds)}):"}}
    made = [(_delivery_of(a), a["outcome"]) for a in scene.attempts.find(of_feed, {"outcome": 1})]
    attempts = Counter(delivery_id for delivery_id, _ in made)
    unknown = Counter(delivery_id for delivery_id, outcome in made if outcome == "unknown")
    with scene.stack.partner() as partner:
        counts = partner.get("/_simulator/counts").json()
        lines = partner.get("/_simulator/keys").iter_lines()
        accepted = {line["key"]: int(line["count"]) for line in map(orjson.loads, lines)}
    delivered = {delivery_id for delivery_id, state in states.items() if state == "delivered"}
    wrong = {
        "rows lost": in_source - states.keys(),
        "rows nobody wrote": states.keys() - in_source,
        "not delivered": states.keys() - delivered,
        "delivered, but never accepted": delivered - accepted.keys(),
        "accepted, but not delivered": accepted.keys() - delivered,
        "accepted more often than attempts are on record": {
            k for k, n in accepted.items() if n > attempts[k]
        },
        "accepted again, and no attempt before was unknown": {
            k for k, n in accepted.items() if n - 1 > unknown[k]
        },
    }
    told = [
        f"{len(ids)} {what}: {', '.join(sorted(ids)[:5])}" for what, ids in wrong.items() if ids
    ]
    if counts["requests"] > attempts.total():
        told.append(
            f"{counts['requests']} requests at the partner, {attempts.total()} attempts on record"
        )
    lost = len(in_source - (delivered & accepted.keys()))
    return Books(
        len(in_source),
        scene.kills,
        counts["requests"],
        counts["duplicates"],
        recovery_s,
        tuple(told),
        lost,
    )


def _delivery_of(attempt: dict[str, Any]) -> str:
    return str(attempt["_id"]).rpartition("#")[0]


def directory_of(root: Path, name: str) -> Path:
    """A new directory for one run."""
    directory = root / f"{name}-{time.monotonic_ns()}"
    directory.mkdir()
    return directory
