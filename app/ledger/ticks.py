"""`ticks`: one document for each periodic job and period: who works on it, and the outcome.

    {_id: "<job>|<period>", job, period, kind, start, end, state, due_at, lease {token, until, worker}, tries,
     fruitless, steps [{name, at, duration_ms, result}], started_at, finished_at, error}

A tick is inserted once (its id sees to that), claimed by a conditional update that gives a lease
and a token, and changed by the holder of that token alone. A finished tick is never reopened.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pymongo import ReturnDocument

from app.core.batches import Lease
from app.core.clock import AGREED
from app.core.errors import LeaseLost
from app.core.period import Kind, Period
from app.ledger.attempts import insert_ignoring_duplicates
from app.ledger.client import Collection, Database, Document, query, query_by_timer
from app.ledger.leases import free, runs


class TickState(StrEnum):
    """The state of a job for a period."""

    OPEN = "open"
    """Not due yet, due, or under a lease."""
    DONE = "done"
    FAILED = "failed"
    """Its tries are spent, or a later period stands for it; `error` says why."""
    SKIPPED = "skipped"
    """Never tried: `error` says why."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """A part of the job's work that need not be done again for this period."""

    name: str
    at: datetime
    duration_ms: int
    result: Mapping[str, object]
    """Small, in BSON's types."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A job and a period."""

    job: str
    period: Period
    state: TickState
    due_at: datetime
    """Not claimed before then: the period's end and what settles after it, or when a failure is
    tried again.
    """
    tries: int = 0
    """How often it has been claimed, this time included."""
    fruitless: int = 0
    """Claims since one of them finished a step."""
    lease: Lease | None = None
    previous: Lease | None = None
    """Of a claim: the lease that ran out before it."""
    steps: tuple[StepDone, ...] = ()
    """Oldest first."""
    started_at: datetime | None = None
    """When it was first claimed."""
    finished_at: datetime | None = None
    error: str | None = None
    """Why the last try failed, or why there was none."""

    @property
    def id(self) -> str:
        """Unique to the job and the period."""
        return tick_id(self.job, self.period)

    @property
    def duration_ms(self) -> int:
        """What its steps took, without the waits in between."""
        return sum(step.duration_ms for step in self.steps)

    def held(self, now: datetime) -> bool:
        """A lease runs."""
        return self.lease is not None and runs(self.lease.until, now)


def tick_id(job: str, period: Period) -> str:
    """The id of a job's tick for a period."""
    return f"{job}|{period.name}"


class Ticks:
    """Every query on `ticks`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["ticks"]

    # --- which ticks there are

    @query
    async def plan(self, job: str, planned: Iterable[tuple[Period, datetime]]) -> int:
        """Add a tick for each (period, due at) that has none. Returns how many were new."""
        documents = [_planned(job, period, due_at) for period, due_at in planned]
        return await insert_ignoring_duplicates(self._collection, documents)

    @query
    async def latest(self, job: str, now: datetime) -> Tick | None:
        """The job's tick of the latest period that has begun; `None` where the job was never seen."""
        document = await self._collection.find_one(
            {"job": job, "start": {"$lte": now}}, sort=[("end", -1)]
        )
        return _tick(document) if document else None

    @query
    async def unplan(self, job: str, now: datetime) -> int:
        """Delete the job's ticks of periods that have not begun, and those that were finished
        before their period was over: a clock was wrong. Returns how many.
        """
        by_now = now + AGREED
        early: list[Document] = [{"start": {"$gt": by_now}}, {"state": _but(TickState.OPEN)}]
        wanted = {"job": job, "end": {"$gt": by_now}, "$or": early}
        return int((await self._collection.delete_many(wanted)).deleted_count)

    @query
    async def open(self, job: str) -> list[Tick]:
        """The job's ticks that are not finished, the oldest period first."""
        found = await self._collection.find({"job": job, "state": TickState.OPEN.value}).to_list()
        return sorted(map(_tick, found), key=lambda tick: tick.period.end)

    @query
    async def standing_for(self, job: str, end: datetime) -> Tick | None:
        """The job's tick of the first period that ends at `end` or later and was not passed over."""
        document = await self._collection.find_one(
            {"job": job, "end": {"$gte": end}, "state": _but(TickState.SKIPPED)}, sort=[("end", 1)]
        )
        return _tick(document) if document else None

    @query
    async def last(self, job: str, states: Iterable[TickState]) -> Tick | None:
        """The job's tick of the latest period that is in one of these states."""
        wanted = {"job": job, "state": {"$in": [state.value for state in states]}}
        document = await self._collection.find_one(wanted, sort=[("end", -1)])
        return _tick(document) if document else None

    @query
    async def forget(self, job: str, before: datetime) -> int:
        """Delete the finished ticks of periods that ended before then. Returns how many."""
        old = {"job": job, "end": {"$lt": before}, "state": _but(TickState.OPEN)}
        return int((await self._collection.delete_many(old)).deleted_count)

    @query
    async def hasten(self, tick: Tick, now: datetime) -> None:
        """Make a tick due now that a wrong clock put off, unless another process was faster."""
        as_read = {"_id": tick.id, "state": TickState.OPEN.value, "due_at": tick.due_at}
        await self._collection.update_one(as_read, {"$set": {"due_at": now}})

    # --- working on one

    @query
    async def claim(self, tick: Tick, worker: str, now: datetime, lease: timedelta) -> Tick | None:
        """Take a due tick for `lease`. `None`: another's lease runs, it is not due, or it is
        finished.
        """
        taken = Lease(token=secrets.token_hex(8), until=now + lease, worker=worker)
        before = await self._collection.find_one_and_update(
            {"_id": tick.id, "state": TickState.OPEN.value, "due_at": {"$lte": now}, **free(now)},
            {
                "$set": {"lease": {"token": taken.token, "until": taken.until, "worker": worker}},
                "$inc": {"tries": 1, "fruitless": 1},
                "$min": {"started_at": now},
            },
            return_document=ReturnDocument.BEFORE,
        )
        if before is None:
            return None
        found = _tick(before)
        return replace(
            found,
            lease=taken,
            previous=found.lease,
            tries=found.tries + 1,
            fruitless=found.fruitless + 1,
            started_at=found.started_at or now,
        )

    @query_by_timer
    async def renew(self, tick: Tick, until: datetime) -> None:
        """Extend the lease. Raises `LeaseLost` where it is no longer ours."""
        await self._update_held(tick, {"$set": {"lease.until": until}})

    @query
    async def note_step(self, tick: Tick, step: StepDone) -> None:
        """Record that a step is done. Raises `LeaseLost` where the lease is no longer ours."""
        document = {
            "name": step.name,
            "at": step.at,
            "duration_ms": step.duration_ms,
            "result": dict(step.result),
        }
        await self._update_held(tick, {"$push": {"steps": document}, "$set": {"fruitless": 0}})

    @query
    async def finish(self, tick: Tick, state: TickState, now: datetime, error: str | None) -> None:
        """Close it for good, as done or failed. Raises `LeaseLost` where the lease is no longer
        ours.
        """
        closed = {"state": state.value, "finished_at": now, "error": error}
        await self._update_held(tick, {"$set": closed, "$unset": {"lease": ""}})

    @query
    async def retry(self, tick: Tick, due_at: datetime, error: str) -> None:
        """Release it, to be tried again from then on. Raises `LeaseLost` where the lease is no
        longer ours.
        """
        await self._update_held(
            tick, {"$set": {"due_at": due_at, "error": error}, "$unset": {"lease": ""}}
        )

    @query
    async def release(self, tick: Tick) -> None:
        """Release it as if it had not been claimed. Raises `LeaseLost` where the lease is no longer
        ours.
        """
        await self._update_held(
            tick, {"$unset": {"lease": ""}, "$inc": {"tries": -1}, "$set": {"fruitless": 0}}
        )

    @query
    async def close_missed(self, tick: Tick, state: TickState, now: datetime, error: str) -> bool:
        """Close a tick that no worker holds, unless it was claimed since it was read. Returns
        whether it was closed.
        """
        result = await self._collection.update_one(
            {"_id": tick.id, "state": TickState.OPEN.value, "tries": tick.tries, **free(now)},
            {
                "$set": {"state": state.value, "finished_at": now, "error": error},
                "$unset": {"lease": ""},
            },
        )
        return bool(result.modified_count)

    async def _update_held(self, tick: Tick, update: Document) -> None:
        token = tick.lease.token if tick.lease else None
        result = await self._collection.update_one(
            {"_id": tick.id, "state": TickState.OPEN.value, "lease.token": token}, update
        )
        if not result.matched_count:
            raise LeaseLost(f"tick {tick.id}: its lease ran out and another worker holds it")


def _but(state: TickState) -> Document:
    """Any state but this one, by name: an index that is in order within each is then not read past
    it.
    """
    return {"$in": [other.value for other in TickState if other is not state]}


def _planned(job: str, period: Period, due_at: datetime) -> Document:
    return {
        "_id": tick_id(job, period),
        "job": job,
        "period": period.name,
        "kind": period.kind.value,
        "start": period.start,
        "end": period.end,
        "state": TickState.OPEN.value,
        "due_at": due_at,
        "tries": 0,
        "fruitless": 0,
        "steps": [],
    }


def _tick(document: Document) -> Tick:
    lease = document.get("lease")
    return Tick(
        job=document["job"],
        period=Period(
            Kind(document["kind"]), document["start"], document["end"], document["period"]
        ),
        state=TickState(document["state"]),
        due_at=document["due_at"],
        tries=document["tries"],
        fruitless=document["fruitless"],
        lease=Lease(lease["token"], lease["until"], lease["worker"]) if lease else None,
        steps=tuple(
            StepDone(s["name"], s["at"], s["duration_ms"], s["result"]) for s in document["steps"]
        ),
        started_at=document.get("started_at"),
        finished_at=document.get("finished_at"),
        error=document.get("error"),
    )
