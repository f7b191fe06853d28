"""`operations`: one document an operation in bulk; `operation_deliveries`: one a delivery of its frozen
set.

    operations            {_id, kind, feed, chosen, request, pace {rate, canary, stop_ratio}, by, why, created_at,
                           state, walk, size, round, round_at, phase, reached, reached_at,
                           outcomes [{what, count}], moved_anew, waiting, asked, paused {by, because}, closing,
                           history [{at, by, what, why}], started_at, finished_at, lease {token, until, worker},
                           holds, version}
    operation_deliveries  {_id: "<operation>.<walk>|<state>|<delivery id>", outcome, round}

The id of a delivery of the set holds the state that it was in, so that the set is gone through state
by state, in the order of ids, by the index of `_id` alone. `walk` is the token of the lease under
which the set was written down: what another attempt left, or still writes, is no part of it. `holds`
is the feed while an operation is under way; a unique index on it sees to there being one a feed.

No state without an exit:

    state      who moves it on                            to
    freezing   the runner, once the set is written        frozen; abandoned, if nothing is selected, or too much
               a runner that dies: its lease lapses       (the next one writes the set anew)
               an operator                                abandoned
    frozen     an operator                                running, abandoned
               a runner, after `EXPIRES` unstarted        abandoned
    running    the runner, at the end of a chunk          done; paused: failures, an obstacle, or as an operator asked;
                                                          abandoned, as an operator asked
               a runner that dies: its lease lapses       (the next one goes on at `reached`)
    paused     an operator                                running, abandoned
    done, abandoned                                       (deleted after `KEPT`)

Changes that a runner makes name its lease's token, those of operators the state that they know: all
are conditional updates whose count is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo import DESCENDING, ReturnDocument
from pymongo import errors as driver

from app.core.errors import LeaseLost
from app.core.operations import (
    ENDED,
    MOVED,
    WORKED_ON,
    Ask,
    ClosingSum,
    Happened,
    Operation,
    OperationState,
    Paused,
    Phase,
)
from app.core.states import State
from app.ledger.attempts import insert_ignoring_duplicates
from app.ledger.client import Collection, Database, Document, query
from app.ledger.ids import ids_under
from app.ledger.leases import free
from app.ledger.operation_documents import (
    closing_document,
    document_of,
    entry_of,
    operation_of,
)

HISTORY = 200
"""Entries that an operation keeps, the latest."""
EXPIRES = timedelta(days=7)
"""A set that nobody started is abandoned after so long: what it holds has moved on."""
KEPT = timedelta(days=90)
"""An operation that has ended is deleted after so long, with its set."""
DELETED_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class InSet:
    """A delivery of a frozen set."""

    id: str
    """The delivery's."""
    state: State
    """That it was in."""
    outcome: str | None
    """`None`: it was not reached yet."""

    @property
    def place(self) -> str:
        """Where it stands in the set."""
        return f"{self.state.value}|{self.id}"


class Operations:
    """Every query on `operations` and `operation_deliveries`."""

    def __init__(self, database: Database) -> None:
        self._operations: Collection = database["operations"]
        self._sets: Collection = database["operation_deliveries"]

    # --- made and looked at

    @query
    async def add(self, operation: Operation) -> None:
        """Store a new operation; a no-op where there is one of its id."""
        await insert_ignoring_duplicates(self._operations, [document_of(operation)])

    @query
    async def get(self, operation_id: str) -> Operation | None:
        """One operation."""
        found = await self._operations.find_one({"_id": operation_id})
        return operation_of(found) if found else None

    @query
    async def page(
        self,
        limit: int,
        after: tuple[datetime, str] | None = None,
        *,
        states: Sequence[OperationState] = (),
        feed: str | None = None,
    ) -> list[Operation]:
        """The newest, at most `limit`, behind the one made then and of that id."""
        wanted: Document = {}
        if after:
            wanted["$or"] = [
                {"created_at": {"$lt": after[0]}},
                {"created_at": after[0], "_id": {"$lt": after[1]}},
            ]
        if states:
            wanted["state"] = {"$in": [state.value for state in states]}
        if feed:
            wanted["feed"] = feed
        newest = [("created_at", DESCENDING), ("_id", DESCENDING)]
        found = await self._operations.find(wanted).sort(newest).limit(limit).to_list()
        return [operation_of(document) for document in found]

    @query
    async def under_way(self, feed: str) -> Operation | None:
        """The feed's operation that runs or is paused."""
        found = await self._operations.find_one({"holds": feed})
        return operation_of(found) if found else None

    # --- a runner's lease

    @query
    async def claim(
        self,
        worker: str,
        token: str,
        now: datetime,
        lease: timedelta,
        only: str | None = None,
    ) -> Operation | None:
        """Take the oldest operation that is to be worked on and that nobody holds, under that token;
        `None`: there is none. `only`: of that id. When repeated, it finds its own lease."""
        document = await self._operations.find_one_and_update(
            {
                **({"_id": only} if only else {}),
                "state": {"$in": [state.value for state in WORKED_ON]},
                "$or": [*free(now)["$or"], {"lease.token": token}],
            },
            {"$set": {"lease": {"token": token, "until": now + lease, "worker": worker}}},
            sort=[("created_at", 1)],
            return_document=ReturnDocument.AFTER,
        )
        return operation_of(document) if document else None

    @query
    async def renew(self, operation: Operation, until: datetime, waiting: str = "") -> Operation:
        """Extend the lease, and say what is waited for. Returns the operation as it is now; raises
        `LeaseLost` where it is no longer ours, or not to be worked on any more."""
        return await self._held(
            operation, {"$set": {"lease.until": until, "waiting": waiting}}, WORKED_ON
        )

    @query
    async def release(self, operation: Operation) -> None:
        """Give the lease back; a no-op where it is no longer ours."""
        await self._operations.update_one(_ours(operation), {"$set": {"lease": None}})

    # --- the set is written down

    @query
    async def add_to_set(
        self, operation: Operation, walk: str, found: Iterable[tuple[State, str]]
    ) -> int:
        """Write (state, delivery id) down as of the set. Returns how many are new."""
        prefix = _prefix(operation.id, walk)
        documents: list[Document] = [
            {"_id": f"{prefix}{state.value}|{delivery}"} for state, delivery in found
        ]
        return await insert_ignoring_duplicates(self._sets, documents)

    @query
    async def size_of(self, operation: Operation, walk: str) -> int:
        """How many are written down under that token."""
        return await self._sets.count_documents({"_id": ids_under(_prefix(operation.id, walk))})

    @query
    async def freeze(
        self, operation: Operation, walk: str, size: int, happened: Happened
    ) -> Operation:
        """The set is whole. Raises `LeaseLost`."""
        frozen = {
            "state": OperationState.FROZEN.value, "walk": walk, "size": size, "lease": None, "waiting": "",
        }  # fmt: skip
        return await self._held(
            operation, _told({"$set": frozen}, happened), [OperationState.FREEZING]
        )

    # --- what a runner records

    @query
    async def in_order(self, operation: Operation, size: int, after: str) -> list[InSet]:
        """The next of the set, at most `size`, behind that place."""
        prefix = _prefix(operation.id, operation.walk)
        wanted = ids_under(prefix, prefix + after if after else "")
        found = await self._sets.find({"_id": wanted}).sort("_id", 1).limit(size).to_list()
        return [_in_set(document, prefix) for document in found]

    @query
    async def tell(
        self,
        operation: Operation,
        outcomes: Mapping[str, Sequence[InSet]],
        moved_anew: Sequence[InSet] = (),
    ) -> None:
        """Write what became of these down: outcome → deliveries. `moved_anew`: those of them that
        were moved in this round."""
        prefix = _prefix(operation.id, operation.walk)
        for outcome, some in outcomes.items():
            ids = [prefix + one.place for one in some]
            await self._sets.update_many({"_id": {"$in": ids}}, {"$set": {"outcome": outcome}})
        if ids := [prefix + one.place for one in moved_anew]:
            await self._sets.update_many(
                {"_id": {"$in": ids}}, {"$set": {"round": operation.round}}
            )

    @query
    async def record(
        self,
        operation: Operation,
        reached: InSet,
        outcomes: Mapping[str, int],
        now: datetime,
        until: datetime,
    ) -> Operation:
        """How far it has come, with all outcomes and `operation.moved_anew` up to there, and extend the
        lease. Raises `LeaseLost`."""
        told = {
            "reached": reached.place,
            "reached_at": now,
            "outcomes": [{"what": what, "count": count} for what, count in outcomes.items()],
            "moved_anew": operation.moved_anew,
            "waiting": "",
            "lease.until": until,
        }
        return await self._held(operation, {"$set": told}, [OperationState.RUNNING])

    @query
    async def enter(self, operation: Operation, phase: Phase, happened: Happened) -> Operation:
        """Go on to that phase. Raises `LeaseLost`."""
        change = _told({"$set": {"phase": phase.value}}, happened)
        return await self._held(operation, change, [OperationState.RUNNING])

    @query
    async def pause(self, operation: Operation, paused: Paused, happened: Happened) -> Operation:
        """Stand still until an operator goes on. Raises `LeaseLost`."""
        change: Document = {
            "state": OperationState.PAUSED.value,
            "paused": {"by": paused.by.value, "because": paused.because},
            "asked": None, "lease": None, "waiting": "",
        }  # fmt: skip
        return await self._held(
            operation, _told({"$set": change}, happened), [OperationState.RUNNING]
        )

    @query
    async def end(
        self, operation: Operation, state: OperationState, closing: ClosingSum, happened: Happened
    ) -> Operation:
        """Nothing more is done. Raises `LeaseLost`, also where an operator's word on an operation that
        nobody works on came first."""
        change: Document = {
            "$set": {
                "state": state.value, "closing": closing_document(closing), "finished_at": happened.at,
                "asked": None, "lease": None, "waiting": "",
            },
            "$unset": {"holds": ""},
        }  # fmt: skip
        return await self._held(operation, _told(change, happened), [operation.state])

    async def _held(
        self, operation: Operation, change: Document, states: Sequence[OperationState]
    ) -> Operation:
        wanted = _ours(operation) | {"state": {"$in": [state.value for state in states]}}
        found = await self._operations.find_one_and_update(
            wanted, change, return_document=ReturnDocument.AFTER
        )
        if found is None:
            raise LeaseLost(f"operation {operation.id}: somebody else moved it on")
        return operation_of(found)

    # --- what operators do

    @query
    async def start(self, operation: Operation, phase: Phase, happened: Happened) -> bool:
        """Begin, or go on: from the state that it is known to be in. `False`: it has moved on since, or
        another operation of its feed is under way."""
        change: Document = {
            "state": OperationState.RUNNING.value, "holds": operation.feed, "phase": phase.value, "paused": None,
            "asked": None, "lease": None,
        }  # fmt: skip
        if operation.started_at is None:
            change |= {"started_at": happened.at}
        return await self._moved_on(operation, _told({"$set": change}, happened))

    @query
    async def begin_anew(self, operation: Operation, phase: Phase, happened: Happened) -> bool:
        """Go on from the beginning of the set, in a new round; else as `start`."""
        change: Document = {
            "state": OperationState.RUNNING.value, "holds": operation.feed, "phase": phase.value, "paused": None,
            "asked": None, "lease": None, "round": operation.round + 1, "round_at": happened.at, "reached": "",
            "outcomes": [], "moved_anew": 0,
        }  # fmt: skip
        return await self._moved_on(operation, _told({"$set": change}, happened))

    @query
    async def ask(self, operation: Operation, asked: Ask, happened: Happened) -> bool:
        """Ask the runner to stop it at the end of its chunk; one that is paused is given to the runner
        for that. `False`: it has moved on since."""
        change: Document = {"asked": asked.value, "state": OperationState.RUNNING.value}
        return await self._moved_on(operation, _told({"$set": change}, happened))

    async def _moved_on(self, operation: Operation, change: Document) -> bool:
        """Where it is still as it is known."""
        known = {"_id": operation.id, "state": operation.state.value, "version": operation.version}
        try:
            moved = await self._operations.update_one(known, change)
        except driver.DuplicateKeyError:  # of `holds`
            return False
        return bool(moved.matched_count)

    # --- sums

    @query
    async def last_moved(
        self, operation: Operation, limit: int, *, anew: bool = False
    ) -> list[str]:
        """The deliveries that were acted on last, at most `limit`; `anew`: in this round."""
        prefix = _prefix(operation.id, operation.walk)
        wanted = ids_under(prefix) | {"$lte": prefix + operation.reached}
        this_round: Document = {"round": operation.round} if anew else {}
        last = (
            self._sets.find({"_id": wanted, "outcome": MOVED} | this_round, {"outcome": 1})
            .sort("_id", DESCENDING)
            .limit(limit)
        )
        return [_in_set(document, prefix).id for document in await last.to_list()]

    @query
    async def moved(self, operation: Operation, size: int, after: str) -> list[InSet]:
        """The next of the set that were acted on, at most `size`, behind that place."""
        prefix = _prefix(operation.id, operation.walk)
        wanted = {"_id": ids_under(prefix, prefix + after if after else ""), "outcome": MOVED}
        found = await self._sets.find(wanted).sort("_id", 1).limit(size).to_list()
        return [_in_set(document, prefix) for document in found]

    @query
    async def outcomes(self, operation: Operation) -> dict[str, int]:
        """What the set itself says of those that were reached: outcome → how many. Reads each."""
        wanted = {
            "_id": ids_under(_prefix(operation.id, operation.walk)),
            "outcome": {"$gt": ""},
        }
        pipeline: list[Document] = [
            {"$match": wanted},
            {"$group": {"_id": "$outcome", "n": {"$sum": 1}}},
        ]
        found = await (await self._sets.aggregate(pipeline)).to_list()
        return {document["_id"]: document["n"] for document in found}

    # --- kept for a while

    @query
    async def unstarted(self, before: datetime, limit: int) -> list[Operation]:
        """Frozen ones that were made before then and never started."""
        wanted = {"state": OperationState.FROZEN.value, "created_at": {"$lt": before}}
        found = await self._operations.find(wanted).limit(limit).to_list()
        return [operation_of(document) for document in found]

    @query
    async def old(self, before: datetime, limit: int) -> list[Operation]:
        """Those that ended before then."""
        ended = [state.value for state in ENDED]
        wanted = {"state": {"$in": ended}, "finished_at": {"$lt": before}}
        found = await self._operations.find(wanted).limit(limit).to_list()
        return [operation_of(document) for document in found]

    @query
    async def delete_some(self, operation: Operation) -> bool:
        """Delete some of an operation that has ended: its set first, of every attempt to write it down.
        `True`: it is gone."""
        of_it = {"_id": ids_under(f"{operation.id}.")}
        found = await self._sets.find(of_it, {"_id": 1}).limit(DELETED_AT_ONCE).to_list()
        if found:
            await self._sets.delete_many({"_id": {"$in": [document["_id"] for document in found]}})
            return False
        await self._operations.delete_one({"_id": operation.id})
        return True


def _prefix(operation_id: str, walk: str) -> str:
    return f"{operation_id}.{walk}|"


def _in_set(document: Document, prefix: str) -> InSet:
    state, _, delivery = document["_id"].removeprefix(prefix).partition("|")
    return InSet(delivery, State(state), document.get("outcome"))


def _ours(operation: Operation) -> Document:
    """Under our lease; of an operation that nobody works on, as it is known."""
    if operation.lease:
        return {"_id": operation.id, "lease.token": operation.lease.token}
    return {"_id": operation.id, "version": operation.version}


def _told(change: Document, happened: Happened) -> Document:
    """The change with its entry in the history, as one more version."""
    pushed = {"history": {"$each": [entry_of(happened)], "$slice": -HISTORY}}
    return change | {"$push": pushed, "$inc": {"version": 1}}
