"""What the sweep puts into new batches: retries that are due, and queued deliveries whose batch is
gone. Their fields: `app/ledger/deliveries.py`.

Each move is one conditional update on the state that was found: of two sweeps one takes a delivery.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from app.core.batches import NewBatch
from app.core.clock import AGREED
from app.core.states import State
from app.ledger.client import Collection, Database, query
from app.ledger.indexes import BY_ID, in_state
from app.ledger.merge import Order, fair_first_of, feeds_in


class Requeueing:
    """Every query on `deliveries` that the sweep makes."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def due_retries(
        self,
        now: datetime,
        limit: int,
        paused: Sequence[str] = (),
        *,
        among: Container[str] | None = None,
    ) -> list[tuple[str, str]]:
        """Retries whose time has come, at most `limit`, as (feed, delivery id): the oldest, and
        some of each feed. `among`: of these feeds only."""
        waiting = in_state(State.RETRYING)
        feeds = await feeds_in(self._collection, waiting, without=paused, among=among)
        due = {"state": State.RETRYING.value, "next_attempt_at": {"$lte": now}}
        documents = await fair_first_of(
            self._collection, Order(due, "next_attempt_at", {"feed": 1}), feeds, limit
        )
        return [(document["feed"], document["_id"]) for document in documents]

    @query
    async def hasten(self, now: datetime, longest: timedelta) -> int:
        """Let retries be due that wait for longer than the `longest` that any does. Returns how
        many.
        """
        put_off = in_state(State.RETRYING, moment={"$gt": now + longest + AGREED})
        return int(
            (
                await self._collection.update_many(put_off, {"$set": {"next_attempt_at": now}})
            ).modified_count
        )

    @query
    async def hasten_failed_later(self, now: datetime) -> int:
        """Let retries be due that failed at a moment which has yet to come. Returns how many.

        Reads every retry that is not due.
        """
        later = in_state(State.RETRYING, moment={"$gt": now + AGREED})
        put_off = {**later, "last.at": {"$gt": now + AGREED}}
        return int(
            (
                await self._collection.update_many(put_off, {"$set": {"next_attempt_at": now}})
            ).modified_count
        )

    @query
    async def requeue_due(self, batch: NewBatch, now: datetime) -> int:
        """Move due retries into the batch. One that another sweep took first stays where it is."""
        result = await self._collection.update_many(
            {
                "_id": {"$in": list(batch.delivery_ids)},
                "state": State.RETRYING.value,
                "next_attempt_at": {"$lte": now},
            },
            {
                "$set": {"state": State.QUEUED.value, "batch": batch.id},
                "$unset": {"next_attempt_at": ""},
            },
            hint=BY_ID,
        )
        return result.modified_count

    @query
    async def queued_batches(self, logged_before: datetime) -> set[str]:
        """The batches that deliveries logged before then, and still queued, name."""
        pipeline: list[dict[str, Any]] = [
            {"$match": in_state(State.QUEUED, moment={"$lte": logged_before})},
            {"$group": {"_id": "$batch"}},
        ]
        return {
            document["_id"]
            for document in await (await self._collection.aggregate(pipeline)).to_list()
        }

    @query
    async def queued_in(self, batch_ids: Iterable[str], limit: int) -> list[tuple[str, str]]:
        """Queued deliveries that name one of these batches, a feed's oldest first, as (feed,
        delivery id).
        """
        wanted = in_state(State.QUEUED) | {"batch": {"$in": list(batch_ids)}}
        found = self._collection.find(wanted, {"feed": 1}).sort([("feed", 1), ("created_at", 1)])
        documents = await found.limit(limit).to_list()
        return [(document["feed"], document["_id"]) for document in documents]

    @query
    async def adopt(self, batch: NewBatch, orphaned_from: Iterable[str]) -> int:
        """Move deliveries whose batch is gone into this one. One that has a living batch again
        stays there.
        """
        result = await self._collection.update_many(
            {
                "_id": {"$in": list(batch.delivery_ids)},
                "state": State.QUEUED.value,
                "batch": {"$in": list(orphaned_from)},
            },
            {"$set": {"batch": batch.id}, "$unset": {"token": ""}},
            hint=BY_ID,
        )
        return result.modified_count
