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

`why` is there only where the operator gave a reason; `operation`, the mark of an operation in bulk
(`app.core.operations`), only where one made the move.

Every move repeats the selection in its filter. A delivery that has changed since it was picked
stays as it is, and repeating a move changes nothing. A cancelled delivery keeps the name of its
batch for as long as a worker may be sending it: the worker that takes the batch over finds it by
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pymongo import UpdateOne

from app.core.batches import NewBatch
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger.client import Document, query
from app.ledger.delivery_documents import delivery_id, place_hash
from app.ledger.indexes import BY_ID
from app.ledger.persistence import counted
from app.ledger.picking import Picked, Picking
from app.ledger.selection import Selection, all_of, conditions_of
from app.ledger.stamp import Stamp

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


class Selections(Picking):
    """Every query on `deliveries` that moves what an operator has selected."""

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
        wanted = _replayable(selection, state, begun) + stamp.unmarked("replays")
        return await self._move(batch.delivery_ids, wanted, change, {"batch": batch.id})

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
                "reason": _cancelled_by(stamp),
                "cancelled": stamp.document,
            },
            "$unset": {"next_attempt_at": ""},
        }
        wanted = _cancellable(selection, state, stamp.at) + stamp.unmarked("cancelled")
        return await self._move(delivery_ids, wanted, change, {"cancelled.at": stamp.at})

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


def _cancelled_by(stamp: Stamp) -> str:
    told = stamp.document
    return ": ".join([f"cancelled by {told['by']}", *filter(None, [told.get("why")])])


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
