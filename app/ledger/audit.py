"""What reconciliation asks of `deliveries`: states by id, and the ids of a feed in their order.

Each question goes by `_id`, reads a bounded number of documents, and takes no lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from app.ledger.client import Collection, Database, query
from app.models import State

_AT_ONCE = 500
"""Ids in one question: some 20 KB. A mongod takes 9 to 18 µs an id, asked for 250 or for 5,000 of them."""


class Audit:
    """Every query on `deliveries` that compares them with the source."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def count_states(self, delivery_ids: Sequence[str]) -> Counter[State]:
        """How many of these are in each state. Their sum falls short of the ids by what is not in the ledger."""
        counts: Counter[State] = Counter()
        for ids in _parts(delivery_ids):
            pipeline: list[dict[str, Any]] = [
                {"$match": {"_id": {"$in": ids}}},
                {"$group": {"_id": "$state", "n": {"$sum": 1}}},
            ]
            found = await (await self._collection.aggregate(pipeline)).to_list()
            counts.update({State(document["_id"]): document["n"] for document in found})
        return counts

    @query
    async def states_of(self, delivery_ids: Sequence[str]) -> dict[str, State]:
        """The state of each of these that is in the ledger."""
        states: dict[str, State] = {}
        for ids in _parts(delivery_ids):
            found = self._collection.find({"_id": {"$in": ids}}, {"state": 1})
            states |= {document["_id"]: State(document["state"]) for document in await found.to_list()}
        return states

    @query
    async def ids_after(self, feed: str, after: str, limit: int) -> list[str]:
        """The feed's next ids behind `after` (empty: from the first), in their order: from the index alone."""
        found = self._collection.find(_of_feed(feed, after), {"_id": 1}).sort("_id", 1).limit(limit)
        return [document["_id"] for document in await found.to_list()]

    @query
    async def total(self, feed: str, stride: int) -> int:
        """How many deliveries the feed has: counted from the index alone, at most `stride` a question."""
        counted, after = 0, ""
        while True:
            found = self._collection.find(_of_feed(feed, after), {"_id": 1}).sort("_id", 1).skip(stride - 1).limit(1)
            last = await found.to_list()
            if not last:
                return counted + await self._collection.count_documents(_of_feed(feed, after))
            counted += stride
            after = last[0]["_id"]


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield list(ids[start : start + _AT_ONCE])


def _of_feed(feed: str, after: str) -> dict[str, Any]:
    """Ids begin with `<feed>:`, and `;` follows `:`."""
    return {"_id": {"$gt": after or f"{feed}:", "$lt": f"{feed};"}}
