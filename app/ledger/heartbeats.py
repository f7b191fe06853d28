"""`progress`: the last heartbeat of each worker and beat, written every few seconds; and of
watchdogs whose checks fail.

    {_id: "<role>:<name>", role, name, host, pid, started_at, marked_at, stopping, running, taken,
    queues,
     broker_seconds, consumer_seconds, loop_seconds, moved_seconds, waiting_seconds, sent_seconds,
     clock_seconds, dropped {<reason>: n}, tasks {<task>: {done, failed, seconds, buckets [n]}},
     troubles [{task, feed, subject, error, failures, since, at}], holds [{feed, batches, rows}],
     short_of, configuration {feeds, read_at, kept_since, kept_because, left}}

The `…_seconds` are ages at `marked_at`, by the monotonic clock. A process that stops removes its
document; that of a killed one stays until `KEPT` has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.unforeseen import Trouble
from app.ledger.client import Collection, Database, Document, query_by_timer

KEPT = timedelta(hours=1)
"""How long a silent process is still reported. After that it counts as gone on purpose."""

DURATION_BOUNDS = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0)
"""Upper bounds in seconds of the buckets that a task's runs are counted in; one more holds what
took longer.
"""


class Role(StrEnum):
    """What a process is for."""

    WORKER = "worker"
    BEAT = "beat"
    WATCH = "watch"
    """A watchdog: writes heartbeats only while its checks fail."""


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """How the runs of one task went since the process started."""

    done: int = 0
    """Runs that ended, failed ones included."""
    failed: int = 0
    seconds: float = 0.0
    """Total duration."""
    buckets: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS) + 1)
    """Runs by how long they took, each in one bucket."""


@dataclass(frozen=True, slots=True)
class Held:
    """A feed's work in progress in a worker."""

    feed: str
    batches: int
    rows: int
    """Claimed, and not yet recorded."""


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration that a process runs with, and why it may be an old one."""

    feeds: str
    """The hash of feeds.toml as it was written: see `config.Config`."""
    read_at: datetime
    kept_since: datetime | None = None
    """When a reload first found a configuration that cannot be used."""
    kept_because: str | None = None
    left: tuple[str, ...] = ()
    """Settings that have changed since the process started: it keeps the old values."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a process reported at `marked_at`. An age of `None` does not apply, or is unknown."""

    role: Role
    name: str
    """`celery@host` for a worker, `beat@host` for beat, `watch@host-pid` for a watchdog."""
    host: str
    pid: int
    started_at: datetime
    marked_at: datetime
    stopping: bool = False
    """It was told to stop, and finishes its work."""
    broker_seconds: float | None = None
    """How long Redis has answered this process without a break; `None`: it does not now."""
    consumer_seconds: float | None = None
    """Worker: since its consumer asked Redis for work, or was fully occupied."""
    loop_seconds: float | None = None
    """Worker: how long its event loop has not answered; 0: it does."""
    moved_seconds: float | None = None
    """Worker: since a task began, ended, or got an answer from the ledger."""
    waiting_seconds: float | None = None
    """Worker: how long messages have waited in one of its queues while it had room and took none.
    """
    sent_seconds: float | None = None
    """Beat: since it sent a message."""
    running: int = 0
    """Tasks in progress."""
    taken: int = 0
    """Messages taken from the queues."""
    clock_seconds: float | None = None
    """By how much its machine's clock is ahead of the ledger server's; negative: behind."""
    queues: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Worker: reason → messages from Redis that it dropped, as unreadable or not ours."""
    tasks: Mapping[str, TaskTimes] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    """Unforeseen failures."""
    short_of: str | None = None
    """Worker: what it has too little of."""
    holds: tuple[Held, ...] = ()
    """Worker: its work in progress, by feed."""
    configuration: Configured | None = None
    """`None` for a watchdog."""


class Heartbeats:
    """Every query on `progress`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["progress"]

    @query_by_timer
    async def put(self, heartbeat: Heartbeat) -> None:
        """Store a heartbeat, in place of the process's previous one."""
        document = asdict(heartbeat) | {"role": heartbeat.role.value}
        await self._collection.replace_one(
            {"_id": _id(heartbeat.role, heartbeat.name)}, document, upsert=True
        )

    @query_by_timer
    async def leave(self, role: Role, name: str, pid: int) -> None:
        """Delete the heartbeat of a process that stops. A successor of the same name keeps its own."""
        await self._collection.delete_one({"_id": _id(role, name), "pid": pid})

    @query_by_timer
    async def forget(self, before: datetime) -> None:
        """Delete the heartbeats of processes not heard from since then."""
        await self._collection.delete_many({"marked_at": {"$lt": before}})

    @query_by_timer
    async def since(
        self, moment: datetime, role: Role | None = None, host: str | None = None
    ) -> list[Heartbeat]:
        """The heartbeats since then, by role and name; of one role and host, where given."""
        wanted: Document = {"marked_at": {"$gte": moment}}
        if role:
            wanted["role"] = role.value
        if host:
            wanted["host"] = host
        return sorted(
            map(_heartbeat, await self._collection.find(wanted, {"_id": 0}).to_list()),
            key=lambda heartbeat: (heartbeat.role, heartbeat.name),
        )


def _id(role: Role, name: str) -> str:
    return f"{role.value}:{name}"


def _heartbeat(document: Document) -> Heartbeat:
    """Fields of other versions: missing ones take their default, unknown ones are ignored."""
    known = {
        name: value for name, value in document.items() if name in Heartbeat.__dataclass_fields__
    }
    tasks = {
        name: TaskTimes(**{**times, "buckets": tuple(times["buckets"])})
        for name, times in known["tasks"].items()
    }
    troubles = tuple(Trouble(**trouble) for trouble in known.get("troubles", ()))
    holds = tuple(Held(**held) for held in known.get("holds", ()))
    plain = {"role": Role(known["role"]), "tasks": tasks, "queues": tuple(known["queues"])}
    read = {
        "troubles": troubles,
        "holds": holds,
        "configuration": _configured(known.get("configuration")),
    }
    return Heartbeat(**known | plain | read)


def _configured(document: Document | None) -> Configured | None:
    return Configured(**document | {"left": tuple(document["left"])}) if document else None
