"""What is open, by feed: how much, since when, and which. Read from the partial indexes of the open
states alone.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime
from typing import Any

from app.core.states import OPEN_STATES, State
from app.ledger.client import Collection, Database, query
from app.ledger.indexes import in_state
from app.ledger.merge import feeds_in


class Backlog:
    """Every query on `deliveries` about what is open."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def retrying(self, feed: str, limit: int) -> int:
        """How many of the feed's deliveries wait for a retry, counted up to `limit`."""
        return await self._collection.count_documents(in_state(State.RETRYING, feed), limit=limit)

    @query
    async def oldest_open(self, feed: str) -> datetime | None:
        """When the feed's oldest open delivery was logged; `None` where nothing is open."""
        queued = (
            self._collection.find(in_state(State.QUEUED, feed), {"created_at": 1})
            .sort("created_at", 1)
            .limit(1)
        )
        moments: list[datetime] = [document["created_at"] for document in await queued.to_list()]
        for _, _, oldest in await self._open_by_feed(State.RETRYING, feed):
            moments.append(oldest)
        return min(moments, default=None)

    @query
    async def open_by_feed(
        self, without: Container[str] | None = None
    ) -> dict[str, tuple[int, datetime]]:
        """Feed → how many of its deliveries are open, and when the oldest was logged; feeds with
        none are left out, and those that `without` names: of them nothing is read.

        Exact; reads what is open, by the partial indexes, and `max_backlog` bounds that.
        """
        found: dict[str, tuple[int, datetime]] = {}
        for state in OPEN_STATES:
            feeds: list[str | None] = [None]
            if without is not None:
                feeds = [*await feeds_in(self._collection, in_state(state), without=without)]
            for feed, more, since in [
                one for name in feeds for one in await self._open_by_feed(state, name)
            ]:
                count, oldest = found.get(feed, (0, since))
                found[feed] = (count + more, min(oldest, since))
        return found

    async def _open_by_feed(
        self, state: State, feed: str | None = None
    ) -> list[tuple[str, int, datetime]]:
        """How many of each feed, or of one, are in an open state, and since when: read from the
        state's index alone.
        """
        group = {"_id": "$feed", "n": {"$sum": 1}, "oldest": {"$min": "$created_at"}}
        pipeline: list[dict[str, Any]] = [{"$match": in_state(state, feed)}, {"$group": group}]
        found = await (await self._collection.aggregate(pipeline)).to_list()
        return [(document["_id"], document["n"], document["oldest"]) for document in found]

    @query
    async def open_ids(self, feed: str, limit: int) -> list[str]:
        """Ids of the feed's open deliveries, at most `limit`: by the partial indexes."""
        ids: list[str] = []
        for state in OPEN_STATES:
            found = self._collection.find(in_state(state, feed), {"_id": 1}).limit(limit)
            ids += [document["_id"] for document in await found.to_list()]
        return ids[:limit]
