"""`progress`: one document a worker or beat, in which it says every few seconds how far it got; and one a watchdog
whose checks fail.

    {_id: "<role>:<name>", role, name, host, pid, started_at, marked_at, stopping, running, taken, queues,
     broker_seconds, consumer_seconds, loop_seconds, moved_seconds, waiting_seconds, sent_seconds,
     clock_seconds, dropped {<reason>: n},
     tasks {<task>: {done, failed, seconds, buckets [n]}}, troubles [{task, feed, subject, error, failures, since, at}],
     holds [{feed, batches, rows}], short_of, configuration {feeds, read_at, kept_since, kept_because, left}}

The `…_seconds` are ages at `marked_at`, by a clock that never goes back. A process that stops takes its document with
it; of one that was killed it stays until `KEPT` has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.unforeseen import Trouble
from app.ledger.client import Collection, Database, Document, query_by_timer

KEPT = timedelta(hours=1)
"""How long a process that says nothing more is still looked for. After that it is taken for gone on purpose."""

DURATION_BOUNDS = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0)
"""Upper bounds in seconds of the buckets that a task's runs are counted in; one more holds what took longer."""


class Role(StrEnum):
    """What a process is for."""

    WORKER = "worker"
    BEAT = "beat"
    WATCH = "watch"
    """A watchdog: marks only while its checks fail."""


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """How the runs of one task went, since the process started."""

    done: int = 0
    """Runs that ended, failed ones included."""
    failed: int = 0
    seconds: float = 0.0
    """What all of them took together."""
    buckets: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS) + 1)
    """Runs by how long they took, each in one bucket."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker has under way of one feed."""

    feed: str
    batches: int
    rows: int
    """Claimed, and not recorded yet."""


@dataclass(frozen=True, slots=True)
class Configured:
    """The configuration that a process runs with."""

    feeds: str
    """The hash of feeds.toml as it was written: see `config.Config`."""
    read_at: datetime
    kept_since: datetime | None = None
    """When it was first told to read it anew, and what it found could not be used."""
    kept_because: str | None = None
    left: tuple[str, ...] = ()
    """Settings that have changed since the process started, and that it goes on with as they were."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a process said of itself at `marked_at`. `None` in place of an age: it does not apply, or is not known."""

    role: Role
    name: str
    """`celery@host` for a worker, `beat@host` for beat, `watch@host-pid` for a watchdog."""
    host: str
    pid: int
    started_at: datetime
    marked_at: datetime
    stopping: bool = False
    """It was told to stop, and finishes what it has."""
    broker_seconds: float | None = None
    """For how long Redis has answered this process without a break; `None`: it does not now."""
    consumer_seconds: float | None = None
    """Worker: since its consumer asked Redis for work, or had its hands full."""
    loop_seconds: float | None = None
    """Worker: for how long its event loop has not answered; 0 where it does."""
    moved_seconds: float | None = None
    """Worker: since a task began, ended, or had an answer from the ledger."""
    waiting_seconds: float | None = None
    """Worker: for how long messages have waited in a queue of its while it had room and took none."""
    sent_seconds: float | None = None
    """Beat: since it sent a message."""
    running: int = 0
    """Tasks under way."""
    taken: int = 0
    """Messages taken from the queues."""
    clock_seconds: float | None = None
    """By how much its machine's clock is ahead of the ledger server's; negative: behind."""
    queues: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Worker: why → messages from Redis that it could not read, or that were none of its business."""
    tasks: Mapping[str, TaskTimes] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    """What fails, and nobody foresaw."""
    short_of: str | None = None
    """Worker: what it has too little of for as long as it runs."""
    holds: tuple[Held, ...] = ()
    """Worker: the feeds that it has batches of under way."""
    configuration: Configured | None = None
    """`None` of a process that does not say: a watchdog."""


class Heartbeats:
    """Every query on `progress`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["progress"]

    @query_by_timer
    async def put(self, mark: Heartbeat) -> None:
        """Write down where the process stands, in place of what it said before."""
        document = asdict(mark) | {"role": mark.role.value}
        await self._collection.replace_one({"_id": _id(mark.role, mark.name)}, document, upsert=True)

    @query_by_timer
    async def leave(self, role: Role, name: str, pid: int) -> None:
        """The process stops, and is not to be looked for. One that has taken its name already stays."""
        await self._collection.delete_one({"_id": _id(role, name), "pid": pid})

    @query_by_timer
    async def forget(self, before: datetime) -> None:
        """Delete what processes said that have not been heard of since then."""
        await self._collection.delete_many({"marked_at": {"$lt": before}})

    @query_by_timer
    async def since(self, moment: datetime, role: Role | None = None, host: str | None = None) -> list[Heartbeat]:
        """The processes heard of since then, by name; of one role and host, where given."""
        wanted: Document = {"marked_at": {"$gte": moment}}
        if role:
            wanted["role"] = role.value
        if host:
            wanted["host"] = host
        return sorted(
            map(_mark, await self._collection.find(wanted, {"_id": 0}).to_list()),
            key=lambda mark: (mark.role, mark.name),
        )


def _id(role: Role, name: str) -> str:
    return f"{role.value}:{name}"


def _mark(document: Document) -> Heartbeat:
    """A field that an older or newer version does not have takes its default, or is left out."""
    known = {name: value for name, value in document.items() if name in Heartbeat.__dataclass_fields__}
    tasks = {name: TaskTimes(**{**times, "buckets": tuple(times["buckets"])}) for name, times in known["tasks"].items()}
    troubles = tuple(Trouble(**trouble) for trouble in known.get("troubles", ()))
    holds = tuple(Held(**held) for held in known.get("holds", ()))
    plain = {"role": Role(known["role"]), "tasks": tasks, "queues": tuple(known["queues"])}
    read = {"troubles": troubles, "holds": holds, "configuration": _configured(known.get("configuration"))}
    return Heartbeat(**known | plain | read)


def _configured(document: Document | None) -> Configured | None:
    return Configured(**document | {"left": tuple(document["left"])}) if document else None
