"""The queries of reconciliation on `deliveries`: states and hashes by id, and a feed's ids in
order.

Each uses the index of `_id`, reads a bounded number of documents, and takes no lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import UpdateOne

from app.core.parts import in_parts
from app.core.position import Position
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.delivery_documents import ids_of
from app.ledger.persistence import counted

_AT_ONCE = 500
"""Ids in one question: some 20 KB. A mongod takes 9 to 18 µs an id, asked for 250 or for 5,000 of
them.
"""


@dataclass(frozen=True, slots=True)
class Fact:
    """What a delivery says of its row."""

    state: State
    position: Position
    """Where the row was last seen."""
    content: int | None
    """A hash of what was logged; `None`: it had no payload, or it was logged before hashes were
    kept.
    """


class Audit:
    """Every query on `deliveries` that compares them with the source."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def count_states(self, delivery_ids: Sequence[str]) -> tuple[Counter[State], int]:
        """How many of these are in each state, and the sum of their hashes (`content` and `place`).

        The states are fewer than the ids by those not in the ledger; deliveries without a hash add
        nothing to the sum.
        """
        counts: Counter[State] = Counter()
        hashes = 0
        for ids in in_parts(delivery_ids, _AT_ONCE):
            pipeline: list[dict[str, Any]] = [
                {"$match": {"_id": {"$in": ids}}},
                {
                    "$group": {
                        "_id": "$state",
                        "n": {"$sum": 1},
                        "content": {"$sum": "$content"},
                        "place": {"$sum": "$place"},
                    }
                },
            ]
            found = await (await self._collection.aggregate(pipeline)).to_list()
            counts.update({State(document["_id"]): document["n"] for document in found})
            hashes += sum(document["content"] + document["place"] for document in found)
        return counts, hashes

    @query
    async def facts_of(self, delivery_ids: Sequence[str]) -> dict[str, Fact]:
        """What is known of each of these that is in the ledger."""
        facts: dict[str, Fact] = {}
        for ids in in_parts(delivery_ids, _AT_ONCE):
            found = self._collection.find(
                {"_id": {"$in": ids}}, {"state": 1, "position": 1, "content": 1}
            )
            facts |= {
                document["_id"]: Fact(
                    State(document["state"]), document.get("position"), document.get("content")
                )
                for document in await found.to_list()
            }
        return facts

    async def acknowledge(
        self, contents: Mapping[str, tuple[int, int | None]], by: str, now: datetime
    ) -> int:
        """Accept the rows' current content (id → hash before, hash now). Returns how many
        deliveries changed.
        """
        updates = [
            UpdateOne({"_id": known, "content": was}, _acknowledged(was, is_now, by, now))
            for known, (was, is_now) in contents.items()
        ]
        made = {"_id": {"$in": list(contents)}, "content_acknowledged.at": now}
        return await counted(self._update(updates), lambda: self._count(made)) if updates else 0

    @query
    async def _update(self, updates: Sequence[UpdateOne]) -> int:
        return (await self._collection.bulk_write(updates, ordered=False)).modified_count

    @query
    async def _count(self, wanted: Document) -> int:
        return await self._collection.count_documents(wanted)

    @query
    async def states_of(self, delivery_ids: Sequence[str]) -> dict[str, State]:
        """The state of each of these that is in the ledger."""
        states: dict[str, State] = {}
        for ids in in_parts(delivery_ids, _AT_ONCE):
            found = self._collection.find({"_id": {"$in": ids}}, {"state": 1})
            states |= {
                document["_id"]: State(document["state"]) for document in await found.to_list()
            }
        return states

    @query
    async def keys_of(self, delivery_ids: Sequence[str]) -> dict[str, str]:
        """The key of each of these that is in the ledger: for ids that hold a hash."""
        keys: dict[str, str] = {}
        for ids in in_parts(delivery_ids, _AT_ONCE):
            found = self._collection.find({"_id": {"$in": ids}}, {"key": 1})
            keys |= {document["_id"]: document["key"] for document in await found.to_list()}
        return keys

    @query
    async def ids_after(self, feed: str, after: str, limit: int) -> list[str]:
        """The feed's next ids after `after` (empty: from the first), in order: from the index
        alone.
        """
        found = self._collection.find(ids_of(feed, after), {"_id": 1}).sort("_id", 1).limit(limit)
        return [document["_id"] for document in await found.to_list()]

    @query
    async def total(self, feed: str, stride: int) -> int:
        """How many deliveries the feed has: counted from the index alone, at most `stride` a
        question.
        """
        counted, after = 0, ""
        while True:
            found = (
                self._collection.find(ids_of(feed, after), {"_id": 1})
                .sort("_id", 1)
                .skip(stride - 1)
                .limit(1)
            )
            last = await found.to_list()
            if not last:
                return counted + await self._collection.count_documents(ids_of(feed, after))
            counted += stride
            after = last[0]["_id"]


def _acknowledged(was: int, is_now: int | None, by: str, now: datetime) -> Document:
    told: Document = {"content_acknowledged": {"at": now, "by": by, "was": was}}
    if is_now is None:
        return {"$set": told, "$unset": {"content": ""}}
    return {"$set": told | {"content": is_now}}
