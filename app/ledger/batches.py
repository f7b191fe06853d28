"""`batches`: what is owed now, one small document for up to `batch_size` deliveries.

    {_id, feed, ids, n, bytes, visible_at, parked_at, lease {token, until, worker}, first {token,
    until, worker}, fence,
     tries, changed}

A batch is inserted before its deliveries name it, and deleted only by the holder of its lease when
none of them is still queued in it. `visible_at` is from when on it is due. Until then it is taken
care of: its message is under way, its deliveries are still being logged, the throttle parks it, or
a lease runs. A due batch that no worker holds may be claimed by any worker with room. `parked_at`
is when it was last put off for its endpoint, perhaps for longer than a lease. `first` is the lease
since which the batch was never released: it sent the deliveries not fenced since. `fence` is what
the deliveries carried when it was released. `n` is the number of its ids, and `bytes` the size of
its rows, where known when it was made. `changed`: an operator may have moved some of its
deliveries, so that who claims it reads them, even if it has them in memory.

A batch document stays below `IDS_BYTES` and a little: ids of long keys make it end sooner.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection as Names
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pymongo import ReturnDocument

from app.core.attempts import HOLD_LIMIT
from app.core.batches import Batch, Lease, NewBatch
from app.core.clock import AGREED
from app.core.errors import LeaseLost
from app.core.parts import in_parts
from app.ledger.attempts import insert_ignoring_duplicates
from app.ledger.client import Collection, Database, Document, query, query_by_timer
from app.ledger.indexes import ANY_FEED
from app.ledger.leases import LONGEST, free, lapsed
from app.ledger.merge import Order, feeds_in, first_of_each
from app.ledger.together import Together, delete_each

IDS_BYTES = 900_000
"""Of ids in one batch, unless a single one has more."""
_ID_BYTES = 16
"""BSON's overhead for an id in a list."""
EXISTING_AT_ONCE = 10_000
"""Batches asked for in one question: far below the 16 MB of a command."""


def new_batch(feed: str, delivery_ids: Iterable[str], content_bytes: int | None = None) -> NewBatch:
    """A batch that is not yet in the ledger, under an id of its own."""
    return NewBatch(f"{feed}-{secrets.token_hex(8)}", feed, tuple(delivery_ids), content_bytes)


def new_batches(feed: str, delivery_ids: Sequence[str], size: int) -> Iterator[NewBatch]:
    """Batches of at most `size` of these each, whose rows' content is not known."""
    for part in in_parts(delivery_ids, size, (id_bytes, IDS_BYTES)):
        yield new_batch(feed, part)


def id_bytes(delivery_id: str) -> int:
    """What a delivery's id takes in a batch."""
    return len(delivery_id) + _ID_BYTES  # all ASCII: keys are percent-encoded


class Batches:
    """Every query on `batches`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["batches"]
        self._settled = Together(partial(delete_each, self._collection))

    @query
    async def insert(self, batches: Sequence[NewBatch], visible_at: datetime) -> None:
        """Add new batches; from `visible_at` on the sweep publishes them, should their messages be
        lost.
        """
        documents = [_document(batch, visible_at) for batch in batches]
        await insert_ignoring_duplicates(self._collection, documents)

    @query
    async def claim(
        self, batch_id: str, feed: str, worker: str, now: datetime, lease: timedelta
    ) -> Batch | None:
        """Take the feed's batch for `lease`. `None`: another's lease runs, it is settled, or it is
        none of the feed's.

        The id comes from Redis, where anyone may have put it.
        """
        taken = _new_lease(worker, now + lease)
        named: Document = {"_id": {"$eq": batch_id}, "feed": feed}
        fresh = await self._take(named | {"lease": None}, taken, first=True)
        if fresh:
            return _claimed(fresh, taken, first=taken)
        left = await self._take(named | {"$or": lapsed(now)}, taken)
        return _claimed(left, taken, first=_lease(left["first"])) if left else None

    @query
    async def note_changed(self, batch_ids: Iterable[str]) -> None:
        """An operator is about to move deliveries of these batches."""
        await self._collection.update_many(
            {"_id": {"$in": list(batch_ids)}}, {"$set": {"changed": True}}
        )

    @query
    async def claim_next(
        self, feed: str, worker: str, now: datetime, lease: timedelta
    ) -> Batch | None:
        """Claim the feed's longest due batch that no worker holds, for `lease`; `None`: there is
        none.
        """
        taken = _new_lease(worker, now + lease)
        waiting = {"feed": feed, "visible_at": {"$lte": now}, "lease": None}
        before = await self._take(waiting, taken, first=True, sort=[("visible_at", 1)])
        return _claimed(before, taken, first=taken) if before else None

    @query
    async def park(
        self, batch_id: str, feed: str, until: datetime, now: datetime
    ) -> NewBatch | None:
        """Park a batch that no worker holds until then; the sweep publishes it. `None`: as for
        `claim`.
        """
        parked = await self._collection.find_one_and_update(
            {"_id": {"$eq": batch_id}, "feed": feed, **free(now)},
            {"$set": {"visible_at": until, "parked_at": now}},
            projection={"feed": 1, "ids": 1},
        )
        return NewBatch(parked["_id"], parked["feed"], tuple(parked["ids"])) if parked else None

    @query
    async def show(self, batch_ids: Sequence[str], now: datetime) -> None:
        """Make batches due from `now` on: all their deliveries are logged. Leased ones stay as they
        are, and what has been due for longer keeps its turn.
        """
        await self._collection.update_many(
            {"_id": {"$in": list(batch_ids)}, "lease": None}, {"$min": {"visible_at": now}}
        )

    @query_by_timer
    async def renew(self, batch: Batch, until: datetime) -> None:
        """Extend the lease. Raises `LeaseLost` where it is no longer ours."""
        await self._update_held(batch, {"$set": {"lease.until": until, "visible_at": until}})

    @query
    async def release(self, batch: Batch, visible_at: datetime, now: datetime) -> None:
        """Release the batch with what is still queued in it. Raises `LeaseLost` where it is no
        longer ours.
        """
        left = {"visible_at": visible_at, "parked_at": now, "fence": batch.fence}
        await self._update_held(batch, {"$set": left, "$unset": {"lease": ""}})

    @query
    async def settle(self, batch: Batch) -> None:
        """Delete the batch: nothing in it is queued any more. A no-op where the lease is no longer
        ours.
        """
        await self._settled.ask({"_id": batch.id, "lease.token": batch.lease.token})

    @query
    async def due(
        self,
        now: datetime,
        each: int,
        paused: Sequence[str] = (),
        *,
        among: Container[str] | None = None,
    ) -> list[NewBatch]:
        """Of each feed the `each` batches that have been due the longest; oldest first. No worker
        holds them, or the lease has run out. `among`: of these feeds only.

        Without their ids, which are many: only how many there are is known of them.
        """
        feeds = await feeds_in(self._collection, {}, without=paused, among=among)
        order = Order({"visible_at": {"$lte": now}}, "visible_at", {"feed": 1, "n": 1})
        documents = await first_of_each(self._collection, order, feeds, each)
        return [NewBatch(d["_id"], d["feed"], (), count=d.get("n", 0)) for d in documents]

    @query
    async def hasten(self, now: datetime) -> int:
        """Let the sweep see what a clock that was wrong has put off. Returns how many batches that
        were.

        A batch waits for no longer than a lease, unless it was parked, or given back, for its
        endpoint; and for that no longer than a hold can last. Reads what waits for longer than a
        lease.
        """
        later = {"feed": ANY_FEED, "visible_at": {"$gt": now + LONGEST}}
        never: list[Document] = [
            {"lease": {"$ne": None}},
            {"parked_at": {"$not": {"$lte": now + AGREED}}},
            {"visible_at": {"$gt": now + HOLD_LIMIT + LONGEST}},
        ]
        put_off = {**later, "$or": never}
        return int(
            (
                await self._collection.update_many(put_off, {"$set": {"visible_at": now}})
            ).modified_count
        )

    @query
    async def existing(self, batch_ids: Iterable[str]) -> set[str]:
        """Which of these batches are in the ledger."""
        there: set[str] = set()
        for part in in_parts(batch_ids, EXISTING_AT_ONCE):
            found = await self._collection.find({"_id": {"$in": part}}, {"_id": 1}).to_list()
            there |= {document["_id"] for document in found}
        return there

    @query
    async def held(self, batch_ids: Iterable[str]) -> set[str]:
        """Which of these batches a worker holds, or held when it died: what was in them may be on
        its way.
        """
        held = {"_id": {"$in": list(batch_ids)}, "lease": {"$ne": None}}
        return {
            document["_id"] for document in await self._collection.find(held, {"_id": 1}).to_list()
        }

    @query
    async def owed(self, feed: str) -> int:
        """How many deliveries the feed's batches hold: an upper bound of what is queued, read from
        few documents.
        """
        pipeline: list[dict[str, Any]] = [
            {"$match": {"feed": feed}},
            {"$group": {"_id": None, "n": {"$sum": {"$size": "$ids"}}}},
        ]
        return await self._sum(pipeline)

    @query
    async def overdue(self, now: datetime, feeds: Names[str] | None = None) -> int:
        """Batches, of these feeds where given, whose time has come: their message was lost, their
        lease ran out, or the sweep has yet to come."""
        of = ANY_FEED if feeds is None else {"$in": sorted(feeds)}
        return await self._collection.count_documents({"feed": of, "visible_at": {"$lte": now}})

    @query
    async def feeds(self) -> list[str]:
        """The feeds that have a batch."""
        return await feeds_in(self._collection, {})

    @query
    async def drop_due(self, feed: str, now: datetime) -> int:
        """Delete the feed's batches whose time has come: for a feed of which nothing is owed any
        more, and that no worker works on. Returns how many."""
        return (
            await self._collection.delete_many({"feed": feed, "visible_at": {"$lte": now}})
        ).deleted_count

    @query
    async def leased(self, feed: str, now: datetime) -> int:
        """How many deliveries the feed's batches under a running lease hold: what workers are at
        now.

        A lease runs until `visible_at`; for a batch that no worker holds, that is when the sweep
        publishes it.
        """
        pipeline: list[dict[str, Any]] = [
            {
                "$match": {
                    "feed": feed,
                    "visible_at": {"$gt": now},
                    "lease.until": {"$gt": now, "$lte": now + LONGEST},
                }
            },
            {"$group": {"_id": None, "n": {"$sum": {"$size": "$ids"}}}},
        ]
        return await self._sum(pipeline)

    async def _sum(self, pipeline: list[dict[str, Any]]) -> int:
        found = await (await self._collection.aggregate(pipeline)).to_list()
        return int(found[0]["n"]) if found else 0

    async def _take(
        self,
        wanted: Document,
        taken: Lease,
        *,
        first: bool = False,
        sort: list[tuple[str, int]] | None = None,
    ) -> Document | None:
        """Set the lease on the batch that is as `wanted`, the first in `sort`; return the batch as
        it was before.

        `first`: no worker has held it before.
        """
        lease = {"token": taken.token, "until": taken.until, "worker": taken.worker}
        held = {"lease": lease, "visible_at": taken.until} | ({"first": lease} if first else {})
        update = {"$set": held, "$inc": {"tries": 1}}
        before = ReturnDocument.BEFORE
        return await self._collection.find_one_and_update(
            wanted, update, sort=sort, return_document=before
        )

    async def _update_held(self, batch: Batch, update: Document) -> None:
        result = await self._collection.update_one(
            {"_id": batch.id, "lease.token": batch.lease.token}, update
        )
        if not result.matched_count:
            raise LeaseLost(f"batch {batch.id}: its lease ran out and another worker holds it")


def _document(batch: NewBatch, visible_at: datetime) -> Document:
    ids = list(batch.delivery_ids)
    document: Document = {
        "_id": batch.id,
        "feed": batch.feed,
        "ids": ids,
        "n": len(ids),
        "visible_at": visible_at,
    }
    known = {} if batch.content_bytes is None else {"bytes": batch.content_bytes}
    return document | {"tries": 0} | known


def _claimed(before: Document, taken: Lease, first: Lease) -> Batch:
    return Batch(
        id=before["_id"],
        feed=before["feed"],
        delivery_ids=tuple(before["ids"]),
        lease=taken,
        first=first,
        tries=before["tries"] + 1,
        previous=_lease(before["lease"]) if before.get("lease") else None,
        due_since=before["visible_at"],
        inherited=before.get("fence"),
        content_bytes=before.get("bytes"),
        changed=before.get("changed", False),
    )


def _new_lease(worker: str, until: datetime) -> Lease:
    return Lease(token=secrets.token_hex(6), until=until, worker=worker)


def _lease(document: Document) -> Lease:
    return Lease(document["token"], document["until"], document["worker"])
