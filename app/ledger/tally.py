"""How many deliveries of each feed are in each state, for metrics: cheap for what is open or dead, by its index."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from app.ledger.client import Collection, Database, query
from app.ledger.indexes import in_state
from app.models import State

INDEXED = (State.QUEUED, State.RETRYING, State.DEAD)
"""States that few deliveries are in, however many are done with: they are counted whenever somebody asks."""


class Tally:
    """Queries that count."""

    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database["deliveries"]

    @query
    async def indexed(self) -> dict[str, dict[State, int]]:
        """Feed → queued, retrying and dead: exact, and read from no other delivery."""
        counts: dict[str, dict[State, int]] = defaultdict(dict)
        for state in INDEXED:
            pipeline: list[dict[str, Any]] = [
                {"$match": in_state(state)},
                {"$group": {"_id": "$feed", "n": {"$sum": 1}}},
            ]
            for document in await (await self._deliveries.aggregate(pipeline)).to_list():
                counts[document["_id"]][state] = document["n"]
        return dict(counts)

    @query
    async def deliveries(self) -> int:
        """How many there are in all, as the collection itself has counted them: costs nothing, nearly exact."""
        return await self._deliveries.estimated_document_count()
