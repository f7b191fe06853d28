"""`deliveries`: one document a source row, and the moves of the state machine (see
`docs/architecture.md`).

    {_id: "<feed>:<key>" (capture = "changes": "<feed>:<key>:<position>"), feed, key, position,
    state, batch, token,
     payload, content, place, created_at, attempts, next_attempt_at, last {at, status, error,
     in_doubt}, finished_at, reason}

`content` is a hash of what was logged, and stays when the payload goes; `place` one of the
position. Reconciliation compares both (see `app/ledger/audit.py`).

`seen_at`: when a row that was logged before was last read at another position, because it was
updated. `app/ledger/operator_moves.py` names the fields that replay and cancel add.

Each move is one conditional update, so repeating it, or making it without a lease, changes nothing.
`token` is absent until a batch is taken over; then it is the new holder's fence (see
`Batch.fence`), and the old holder's failures match no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import UpdateOne

from app.core.attempts import Result
from app.core.batches import Batch, NewBatch
from app.core.deliveries import Delivery
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger.attempts import insert_telling_duplicates
from app.ledger.client import Collection, Database, Document, query
from app.ledger.delivery_documents import (
    FIELDS_OF_A_DELIVERY,
    delivery_id,
    delivery_of,
    failure,
    ids_of,
    logged,
    place_hash,
    success,
    why_dead,
)
from app.ledger.indexes import BY_ID


class Deliveries:
    """Every query on `deliveries`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    # --- a row comes in

    @query
    async def log(
        self, filled: Iterable[tuple[NewBatch, Sequence[SourceRow]]], now: datetime
    ) -> list[str]:
        """Log each batch's rows, in the order of its ids, as `queued`. Returns the ids of those
        logged before, which stay as they are.
        """
        documents: list[Document] = []
        for batch, rows in filled:
            for known_as, row in zip(batch.delivery_ids, rows, strict=True):
                document = logged(known_as, batch.feed, row, now)
                document["state"], document["batch"] = State.QUEUED.value, batch.id
                documents.append(document)
        return await insert_telling_duplicates(self._collection, documents)

    @query
    async def log_unreadable(
        self, feed: str, rows: Iterable[SourceRow], now: datetime
    ) -> list[str]:
        """Log rows that have no payload as dead letters, each with its reason. Returns as `log`."""
        documents = [
            logged(delivery_id(feed, row), feed, row, now)
            | {"state": State.DEAD.value, "reason": why_dead(row), "finished_at": now}
            for row in rows
        ]
        return await insert_telling_duplicates(self._collection, documents)

    @query
    async def log_skipped(
        self, feed: str, rows: Iterable[tuple[SourceRow, str]], now: datetime
    ) -> list[str]:
        """Log rows that the feed's filter leaves out as `skipped`, each with its reason. Returns as
        `log`.
        """
        documents = [
            logged(delivery_id(feed, row), feed, row, now)
            | {"state": State.SKIPPED.value, "reason": reason, "finished_at": now}
            for row, reason in rows
        ]
        return await insert_telling_duplicates(self._collection, documents)

    @query
    async def note_seen(self, feed: str, rows: Iterable[SourceRow], now: datetime) -> None:
        """Note where rows stand now that were logged at another position: what is compared by
        position needs it.
        """
        updates = [
            UpdateOne(
                {"_id": delivery_id(feed, row), "position": {"$ne": row.position}},
                {
                    "$set": {
                        "position": row.position,
                        "place": place_hash(row.position),
                        "seen_at": now,
                    }
                },
            )
            for row in rows
        ]
        await self._collection.bulk_write(updates, ordered=False)

    # --- a batch is sent

    @query
    async def load(self, batch: Batch, delivery_ids: Sequence[str] | None = None) -> list[Delivery]:
        """What in the batch, or among these of it, is still queued and ours to send.

        Asks by id and by batch: none is ever in two. All come in one answer, which ends with 101
        documents where nobody says how many are wanted.
        """
        wanted = _sendable(batch, delivery_ids)
        found = self._collection.find(wanted, FIELDS_OF_A_DELIVERY).hint(BY_ID)
        found.batch_size(len(wanted["_id"]["$in"]) + 1)
        return [delivery_of(document) for document in await found.to_list()]

    @query
    async def sizes(self, batch: Batch) -> dict[str, int]:
        """The bytes of payload of each delivery that `load` would give: measured by the server,
        which reads them.
        """
        pipeline: list[dict[str, Any]] = [
            {"$match": _sendable(batch)},
            {"$project": {"n": {"$strLenBytes": {"$ifNull": ["$payload", ""]}}}},
        ]
        found = await self._collection.aggregate(pipeline, hint=dict(BY_ID))
        return {document["_id"]: document["n"] for document in await found.to_list()}

    @query
    async def succeed(
        self, batch: Batch, delivery_ids_by_status: Mapping[int, Sequence[str]], now: datetime
    ) -> int:
        """Record successes, whatever state the deliveries are in: that a partner has a row is a
        fact.

        One that another lease holds by now keeps the name of its batch, so that what that lease may
        have sent stays known. Returns how many became `delivered`; a second record of the same
        success counts none.
        """
        ours: Document = {"batch": batch.id, "token": batch.fence}
        return await self._succeed(ours, delivery_ids_by_status, now)

    @query
    async def succeed_before(
        self, batch: Batch, delivery_ids_by_status: Mapping[int, Sequence[str]], now: datetime
    ) -> int:
        """Record successes of the leases before ours, found on record as the batch is taken over;
        else as `succeed`.
        """
        before_us: Document = {"batch": batch.id, "token": {"$not": {"$gte": batch.fence}}}
        return await self._succeed(before_us, delivery_ids_by_status, now)

    async def _succeed(
        self, held: Document, delivery_ids_by_status: Mapping[int, Sequence[str]], now: datetime
    ) -> int:
        """First those that are held as described, which leave their batch; then what is left."""
        moved = 0
        for status, ids in delivery_ids_by_status.items():
            wanted: Document = {"_id": {"$in": list(ids)}, "state": {"$ne": State.DELIVERED.value}}
            update = success(status, now)
            left = update | {"$unset": update["$unset"] | {"batch": "", "token": ""}}
            leaving = (
                await self._collection.update_many(wanted | held, left, hint=BY_ID)
            ).modified_count
            others = 0
            if leaving < len(ids):
                others = (
                    await self._collection.update_many(wanted, update, hint=BY_ID)
                ).modified_count
            moved += leaving + others
        return moved

    @query
    async def fail(self, batch: Batch, results: Sequence[Result], now: datetime) -> int:
        """Record failures as `retrying` or `dead`, where the batch still holds the delivery under
        our lease, and count the attempt where one was made.

        Returns how many were recorded; the others were settled, or taken over, by someone else.
        """
        if not results:
            return 0
        updates = [
            UpdateOne(_held(batch, result.delivery.id), failure(result, now), hint=BY_ID)
            for result in results
        ]
        written = await self._collection.bulk_write(updates, ordered=False)
        return written.modified_count

    # --- a batch is taken over

    @query
    async def unsettled(self, batch: Batch) -> dict[str, str]:
        """What still names the batch: delivery id → lease that may have sent it last.

        Queued ones; and ones that were cancelled, or whose success came late, while another lease
        held them.
        """
        found = self._collection.find(
            {"_id": {"$in": list(batch.delivery_ids)}, "batch": batch.id}, {"token": 1}
        )
        return {
            document["_id"]: _sender(document.get("token"), batch)
            for document in await found.to_list()
        }

    @query
    async def fence(self, batch: Batch, now: datetime) -> None:
        """Fence off former holders, and count their attempt: from now on only our lease can record
        a failure.

        Changes nothing where a later holder was faster.
        Cancelled deliveries leave the batch: they are not sent any more.
        """
        last = {"at": now, "error": "outcome unknown: the worker's lease ran out", "in_doubt": True}
        named: Document = {"_id": {"$in": list(batch.delivery_ids)}, "batch": batch.id}
        await self._collection.update_many(
            named | {"state": State.QUEUED.value, "token": {"$not": {"$gte": batch.fence}}},
            {"$set": {"token": batch.fence, "last": last}, "$inc": {"attempts": 1}},
            hint=BY_ID,
        )
        await self._collection.update_many(
            named | {"state": State.CANCELLED.value},
            {"$set": {"last": last}, "$inc": {"attempts": 1}, "$unset": {"batch": "", "token": ""}},
        )

    @query
    async def accepted_since(self, feed: str, since: datetime) -> bool:
        """Whether a success of the feed was recorded after that moment. Served by the index
        `settled`.
        """
        wanted = {"state": State.DELIVERED.value, "feed": feed, "finished_at": {"$gt": since}}
        return await self._collection.find_one(wanted, {"_id": 1}) is not None

    # --- by id

    @query
    async def known(self, ids: Sequence[str]) -> int:
        """How many of these ids are in the ledger."""
        return await self._collection.count_documents({"_id": {"$in": list(ids)}})

    @query
    async def ids(self, feed: str) -> dict[str, State]:
        """Every delivery of the feed and its state: for comparing with another list, whole."""
        found = self._collection.find(ids_of(feed), {"state": 1})
        return {document["_id"]: State(document["state"]) async for document in found}

    @query
    async def get(self, delivery_id: str) -> Document | None:
        """One delivery, whole, as stored; `None` where there is none of that id."""
        return await self._collection.find_one({"_id": delivery_id})


def _sendable(batch: Batch, delivery_ids: Sequence[str] | None = None) -> Document:
    ids = batch.delivery_ids if delivery_ids is None else delivery_ids
    return {
        "_id": {"$in": list(ids)},
        "batch": batch.id,
        "state": State.QUEUED.value,
        "token": batch.fence,
    }


def _sender(token: str | None, batch: Batch) -> str:
    """The token of the lease under which a delivery of the batch may have been sent last."""
    return batch.first.token if token in (None, batch.inherited) else token.rpartition("-")[2]


def _held(batch: Batch, delivery_id: str) -> Document:
    return {
        "_id": delivery_id,
        "state": State.QUEUED.value,
        "batch": batch.id,
        "token": batch.fence,
    }
