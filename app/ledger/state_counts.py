"""How many deliveries of each feed are in each state: exact for what is open or dead, and of a
small ledger for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.core.clock import LONG_AGO
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.counted import DONE_STATES, Counts
from app.ledger.indexes import in_state, restored
from app.ledger.merge import feeds_in

INDEXED = (State.QUEUED, State.RETRYING, State.DEAD)
"""States with few deliveries, however many are settled: they are counted at each question."""
EXACT_UP_TO = 1_000_000
"""With more deliveries than this in the ledger, settled ones are counted once and remembered."""


@dataclass(frozen=True, slots=True)
class FeedCounts:
    """How many of a feed's deliveries are in each state."""

    states: Mapping[State, int]
    """Every state."""
    about: frozenset[State] = frozenset()
    """States whose number is remembered and not counted: see `app/ledger/counted.py` for what it
    misses.
    """


class StateCounts:
    """Queries that count."""

    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database["deliveries"]
        self._counts = Counts(database)

    async def by_feed(self, now: datetime, *, recount: bool = False) -> dict[str, FeedCounts]:
        """The counts of each feed that has deliveries. `recount`: count all of them, however long
        that takes.
        """
        few = not recount and await self.deliveries() <= EXACT_UP_TO
        found = await self.indexed()
        counts: dict[str, FeedCounts] = {}
        for feed in sorted({*found, *await self.settled_feeds()}):
            if few:
                done = await self._counts.exactly(feed)
            else:
                done = await (self._counts.recount if recount else self._counts.about)(feed, now)
            states = dict.fromkeys(State, 0) | found.get(feed, {}) | done
            about = (
                frozenset(state for state in DONE_STATES if states[state])
                if not (few or recount)
                else frozenset()
            )
            counts[feed] = FeedCounts(states, about)
        return counts

    async def unsettled(self) -> dict[str, FeedCounts]:
        """The counts of each feed that has open or dead deliveries; of settled ones, which grow
        with the ledger, none is counted.
        """
        nothing = dict.fromkeys(State, 0)
        return {feed: FeedCounts(nothing | of) for feed, of in (await self.indexed()).items()}

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
    async def unacknowledged(self, feed: str, allowed: int, most: int) -> int:
        """How many dead letters of the feed are not acknowledged, counted up to `most`; 0 for
        `allowed` of them or fewer, where that is found by the indexes alone.

        What was put back from an archive and then acknowledged is not told apart there: then the
        newest are read.
        """
        since: Document = {"$gt": LONG_AGO}
        count, dead = self._deliveries.count_documents, in_state(State.DEAD, feed)
        acknowledged = await count({"feed": feed, "kept_from": since})
        if acknowledged:
            acknowledged -= sum(
                [await count(restored(feed, state, since)) for state in (*DONE_STATES, State.DEAD)]
            )
        if await count(dead, limit=allowed + 1 + max(acknowledged, 0)) - acknowledged <= allowed:
            return 0
        newest = (
            self._deliveries.find(dead | {"acknowledged": None}, {"_id": 1})
            .sort("finished_at", -1)
            .limit(most)
        )
        return len(await newest.to_list())

    @query
    async def settled_feeds(self) -> set[str]:
        """The feeds that have settled deliveries: one step in an index for each."""
        return {
            feed
            for state in DONE_STATES
            for feed in await feeds_in(self._deliveries, in_state(state))
        }

    @query
    async def deliveries(self) -> int:
        """How many there are in all, as the collection itself has counted them: costs nothing,
        nearly exact.
        """
        return await self._deliveries.estimated_document_count()
