"""What only an operator does with deliveries: replay, cancel and acknowledge, by a selection.

Fields of a delivery that these moves write, beside those of `app/ledger/deliveries.py`:

    replayed_at   when it was last replayed: its age counts from here
    replay_count  how often it was replayed
    replays       [{at, by, why, was}], the last `REPLAYS_KEPT`; `was` is the state it was in
    cancelled     {at, by, why}, when it was last cancelled
    acknowledged  {at, by, why}, while a dead letter counts as settled: its retention counts from here
    withdrawn     {at, by, why}, when that was last undone
    reread        {at, by, why}, when its row was last read again, because it had no payload
    kept_from     the moment that retention counts from, where it is not `finished_at`

`why` is there only where the operator gave a reason.

Every move repeats the selection in its filter. A delivery that has changed since it was picked
stays as it is, and repeating a move changes nothing. A cancelled delivery keeps the name of its
batch for as long as a worker may be sending it: the worker that takes the batch over finds it by
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.cursor import AsyncCursor

from app.core.batches import NewBatch
from app.core.clock import LONG_AGO
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.delivery_documents import delivery_id, place_hash
from app.ledger.indexes import BY_ID, MOMENTS
from app.ledger.persistence import counted
from app.ledger.selection import Selection, all_of, conditions_of

REPLAYS_KEPT = 20


_OF_A_SETTLED_ONE = (
    "token",
    "next_attempt_at",
    "finished_at",
    "reason",
    "restored_at",
    "acknowledged",
    "kept_from",
)


_HAS_PAYLOAD: Document = {"payload": {"$gt": ""}}


_NEVER_READ: Document = {"payload": ""}
"""One that retention has dropped is absent instead."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who made a move, when, and why, where a reason was given."""

    by: str
    at: datetime
    why: str | None = None

    @property
    def document(self) -> Document:
        """As it is stored: `why` only where there is one."""
        return {"at": self.at, "by": self.by} | ({"why": self.why} if self.why else {})


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of the selected deliveries are of one kind."""

    feed: str
    state: State
    has_payload: bool
    count: int
    acknowledged: bool = False
    """Dead and acknowledged."""
    never_read: bool = False
    """Its row could not be read: it never had a payload."""


@dataclass(frozen=True, slots=True)
class Picked:
    """A delivery about to be moved."""

    id: str
    feed: str
    batch: str | None
    place: datetime
    """Its moment in the index of its state."""
    reason: str = ""
    """Why it is dead, skipped or cancelled."""


class Selections:
    """Every query on `deliveries` that an operator's selection makes."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def counts(self, selection: Selection) -> list[Counted]:
        """How many are selected, by feed, state and whether they still have a payload. Reads each."""
        counted = []
        for state in selection.states:
            pipeline: list[dict[str, Any]] = [
                {"$match": all_of(conditions_of(selection, state))},
                {"$group": {"_id": _ALIKE, "n": {"$sum": 1}}},
            ]
            by_id: dict[str, Any] = {"hint": dict(BY_ID)} if selection.ids else {}
            found = await (await self._collection.aggregate(pipeline, **by_id)).to_list()
            counted += [_counted(document, state) for document in found]
        return counted

    @query
    async def sample(self, selection: Selection, limit: int) -> list[Document]:
        """A few of the selected deliveries, without their payload."""
        found: list[Document] = []
        for state in selection.states:
            chosen = self._find(selection, all_of(conditions_of(selection, state)), {"payload": 0})
            found += await chosen.limit(limit).to_list()
        return found[:limit]

    @query
    async def beside(self, selection: Selection) -> dict[str, int]:
        """Named ids that are in none of the selected states: their state, or that they are unknown
        → how many.
        """
        if not selection.ids:
            return {}
        found = await self._collection.find(
            {"_id": {"$in": list(selection.ids)}}, {"state": 1}
        ).to_list()
        others: dict[str, int] = {}
        for document in found:
            if document["state"] not in selection.states:
                others[document["state"]] = others.get(document["state"], 0) + 1
        unknown = len(set(selection.ids)) - len(found)
        return others | ({"not in the ledger": unknown} if unknown else {})

    @query
    async def to_replay(
        self,
        selection: Selection,
        state: State,
        begun: datetime,
        after: Picked | None,
        size: int,
        *,
        without: Iterable[str] = (),
    ) -> list[Picked]:
        """The next deliveries that can be replayed after `after`, at most `size`; none replayed
        since `begun`, and none in `without`, which were passed over.
        """
        conditions = _replayable(selection, state, begun) + _but(without)
        return await self._pick(selection, conditions, state, after, size)

    async def replay(
        self, selection: Selection, state: State, begun: datetime, batch: NewBatch, stamp: Stamp
    ) -> int:
        """Move the batch's deliveries back to `queued`, with a fresh count of attempts. Returns how
        many moved.
        """
        entry = stamp.document | {"was": state.value}
        change: Document = {
            "$set": {
                "state": State.QUEUED.value,
                "batch": batch.id,
                "attempts": 0,
                "replayed_at": stamp.at,
            },
            "$inc": {"replay_count": 1},
            "$push": {"replays": {"$each": [entry], "$slice": -REPLAYS_KEPT}},
            "$unset": dict.fromkeys(_OF_A_SETTLED_ONE, ""),
        }
        return await self._move(
            batch.delivery_ids, _replayable(selection, state, begun), change, {"batch": batch.id}
        )

    @query
    async def to_reread(
        self,
        selection: Selection,
        begun: datetime,
        after: Picked | None,
        size: int,
        *,
        without: Iterable[str],
    ) -> list[Picked]:
        """The next dead letters whose rows could not be read, after `after` and not in `without`,
        at most `size`.
        """
        conditions = _never_read(selection, begun) + _but(without)
        return await self._pick(selection, conditions, State.DEAD, after, size)

    @query
    async def give_payload(self, feed: str, rows: Iterable[SourceRow], stamp: Stamp) -> None:
        """Store the payloads of dead letters whose rows can be read now. Those that have changed
        since stay as they are.
        """
        await self._tell_reread(
            {
                delivery_id(feed, row): {
                    "payload": row.payload,
                    "content": row.content,
                    "position": row.position,
                    "place": place_hash(row.position),
                }
                for row in rows
            },
            stamp,
        )

    @query
    async def give_reason(self, reasons: Mapping[str, str], stamp: Stamp) -> None:
        """Store why dead letters whose rows were read again stay dead: id → reason."""
        await self._tell_reread(
            {known: {"reason": reason} for known, reason in reasons.items()}, stamp
        )

    async def _tell_reread(self, fields: Mapping[str, Document], stamp: Stamp) -> None:
        told: Document = {"reread": stamp.document}
        updates = [
            UpdateOne(
                {"_id": known, "state": State.DEAD.value, **_NEVER_READ}, {"$set": changed | told}
            )
            for known, changed in fields.items()
        ]
        if updates:
            await self._collection.bulk_write(updates, ordered=False)

    @query
    async def to_cancel(
        self, selection: Selection, state: State, begun: datetime, after: Picked | None, size: int
    ) -> list[Picked]:
        """The next deliveries that can be cancelled after `after`, at most `size`; none logged
        since `begun`.
        """
        return await self._pick(
            selection, _cancellable(selection, state, begun), state, after, size
        )

    async def cancel(
        self, selection: Selection, state: State, delivery_ids: Sequence[str], stamp: Stamp
    ) -> int:
        """Move these to `cancelled`, if logged before the stamp. Returns how many moved."""
        change: Document = {
            "$set": {
                "state": State.CANCELLED.value,
                "finished_at": stamp.at,
                "reason": f"cancelled by {stamp.by}{f': {stamp.why}' if stamp.why else ''}",
                "cancelled": stamp.document,
            },
            "$unset": {"next_attempt_at": ""},
        }
        return await self._move(
            delivery_ids,
            _cancellable(selection, state, stamp.at),
            change,
            {"cancelled.at": stamp.at},
        )

    @query
    async def let_go(self, delivery_ids: Iterable[str], batch_ids: Iterable[str]) -> None:
        """Detach cancelled deliveries from batches that no worker has held since they were
        cancelled.
        """
        await self._collection.update_many(
            {
                "_id": {"$in": list(delivery_ids)},
                "state": State.CANCELLED.value,
                "batch": {"$in": list(batch_ids)},
            },
            {"$unset": {"batch": "", "token": ""}},
        )

    @query
    async def to_acknowledge(
        self, selection: Selection, begun: datetime, after: Picked | None, size: int, *, undo: bool
    ) -> list[Picked]:
        """The next dead letters to acknowledge, or with `undo` to withdraw, after `after`, at most
        `size`.
        """
        return await self._pick(
            selection, _acknowledgeable(selection, begun, undo=undo), State.DEAD, after, size
        )

    async def acknowledge(
        self, selection: Selection, delivery_ids: Sequence[str], stamp: Stamp, *, undo: bool
    ) -> int:
        """Acknowledge these dead letters, or withdraw that. Returns how many changed."""
        made = stamp.document
        change: Document = {"$set": {"acknowledged": made, "kept_from": stamp.at}}
        if undo:
            change = {"$set": {"withdrawn": made}, "$unset": {"acknowledged": "", "kept_from": ""}}
        marked = {"withdrawn.at" if undo else "acknowledged.at": stamp.at}
        return await self._move(
            delivery_ids, _acknowledgeable(selection, stamp.at, undo=undo), change, marked
        )

    async def _move(
        self,
        delivery_ids: Sequence[str],
        conditions: list[Document],
        change: Document,
        moved: Document,
    ) -> int:
        """Change these where the conditions hold. Returns how many; if the answer was lost, how
        many match `moved`.
        """
        named: Document = {"_id": {"$in": list(delivery_ids)}}
        return await counted(
            self._change(all_of([named, *conditions]), change), lambda: self._count(named | moved)
        )

    @query
    async def _change(self, wanted: Document, change: Document) -> int:
        return (await self._collection.update_many(wanted, change, hint=BY_ID)).modified_count

    @query
    async def _count(self, wanted: Document) -> int:
        return await self._collection.count_documents(wanted, hint=BY_ID)

    async def _pick(
        self,
        selection: Selection,
        conditions: list[Document],
        state: State,
        after: Picked | None,
        size: int,
    ) -> list[Picked]:
        """Read on from `after`, feed by feed in the order of the state's index: first the rest of
        its feed.

        Deliveries that share its place are read again: those moved are gone. Named ids are read in
        order.
        """
        field = MOMENTS[state]
        if selection.ids:
            order, parts = [("_id", 1)], [[{"_id": {"$gt": after.id}}] if after else []]
        else:
            order, parts = [("feed", 1), (field, 1)], _parts_behind(after, field)
        picked: list[Picked] = []
        for part in parts:
            wanted = all_of([*part, *conditions])
            found = self._find(
                selection, wanted, {"feed": 1, "batch": 1, "reason": 1, field: 1}
            ).sort(order)
            documents = await found.limit(size - len(picked)).to_list()
            picked += [
                Picked(d["_id"], d["feed"], d.get("batch"), d[field], d.get("reason", ""))
                for d in documents
            ]
            if len(picked) == size:
                break
        return picked

    def _find(
        self, selection: Selection, wanted: Document, fields: Document
    ) -> AsyncCursor[Document]:
        """Named deliveries are found by id, all others by their state's index."""
        found = self._collection.find(wanted, fields)
        return found.hint(BY_ID) if selection.ids else found


_ALIKE: Document = {
    "feed": "$feed",
    "has_payload": {"$gt": ["$payload", ""]},
    "never_read": {"$eq": ["$payload", ""]},
    "acknowledged": {"$gt": ["$acknowledged.at", LONG_AGO]},
}


def _counted(document: Document, state: State) -> Counted:
    alike = document["_id"]
    acknowledged = state is State.DEAD and alike["acknowledged"]
    never_read = state is State.DEAD and alike["never_read"]
    return Counted(
        alike["feed"], state, alike["has_payload"], document["n"], acknowledged, never_read
    )


def _but(ids: Iterable[str]) -> list[Document]:
    """Excludes these."""
    left_out = list(ids)
    return [{"_id": {"$nin": left_out}}] if left_out else []


def _replayable(selection: Selection, state: State, begun: datetime) -> list[Document]:
    """A run replays nothing twice, even if it dies again; and nothing that is acknowledged."""
    open_ones = [{"acknowledged": None}] if state is State.DEAD else []
    return [
        *conditions_of(selection, state),
        *open_ones,
        _HAS_PAYLOAD,
        {"replayed_at": {"$not": {"$gte": begun}}},
    ]


def _never_read(selection: Selection, begun: datetime) -> list[Document]:
    """Deliveries that die during the run were not meant."""
    return [
        *conditions_of(selection, State.DEAD),
        {"acknowledged": None},
        {"finished_at": {"$lte": begun}},
        _NEVER_READ,
    ]


def _acknowledgeable(selection: Selection, begun: datetime, *, undo: bool) -> list[Document]:
    """Deliveries that die during the run were not meant."""
    marked: Document = {"acknowledged.at": {"$lte": begun}} if undo else {"acknowledged": None}
    return [*conditions_of(selection, State.DEAD), {"finished_at": {"$lte": begun}}, marked]


def _cancellable(selection: Selection, state: State, begun: datetime) -> list[Document]:
    """Deliveries logged during the run were not meant: a busy feed would keep it running."""
    return [*conditions_of(selection, state), {"created_at": {"$lte": begun}}]


def _parts_behind(after: Picked | None, field: str) -> list[list[Document]]:
    """What follows, as conditions: from its moment on in its own feed, then all later feeds."""
    if after is None:
        return [[]]
    return [[{"feed": after.feed}, {field: {"$gte": after.place}}], [{"feed": {"$gt": after.feed}}]]
