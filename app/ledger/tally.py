"""How many deliveries of each feed are in each state, for metrics: cheap for what is open or dead, by its index."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from app.clock import LONG_AGO
from app.ledger.client import Collection, Database, query
from app.models import State

INDEXED = {State.QUEUED: "created_at", State.RETRYING: "next_attempt_at", State.DEAD: "finished_at"}
"""The states that have an index of their own, and its field (see `indexes.py`)."""


class Tally:
    """Queries that count."""

    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database["deliveries"]
        self._batches: Collection = database["batches"]

    @query
    async def indexed(self) -> dict[str, dict[State, int]]:
        """Feed → queued, retrying and dead: exact, and read from no other delivery."""
        counts: dict[str, dict[State, int]] = defaultdict(dict)
        for state, field in INDEXED.items():
            pipeline: list[dict[str, Any]] = [
                {"$match": {"state": state.value, field: {"$gte": LONG_AGO}}},
                {"$group": {"_id": "$feed", "n": {"$sum": 1}}},
            ]
            for document in await (await self._deliveries.aggregate(pipeline)).to_list():
                counts[document["_id"]][state] = document["n"]
        return dict(counts)

    @query
    async def deliveries(self) -> int:
        """How many there are in all, as the collection itself has counted them: costs nothing, nearly exact."""
        return await self._deliveries.estimated_document_count()

    @query
    async def overdue_batches(self, now: datetime) -> int:
        """Batches whose time has come: their message was lost, their lease ran out, or the sweep has yet to come."""
        return await self._batches.count_documents({"visible_at": {"$lte": now}})
