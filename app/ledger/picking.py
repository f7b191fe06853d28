"""What an operator's selection holds: how many deliveries, a few of them, and all of them in order, a
page at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.asynchronous.cursor import AsyncCursor

from app.core.clock import LONG_AGO
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.indexes import BY_ID, MOMENTS
from app.ledger.selection import Selection, all_of, conditions_of


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of the selected deliveries are of one kind."""

    feed: str
    state: State
    has_payload: bool
    count: int
    acknowledged: bool = False
    """Dead and acknowledged."""
    never_read: bool = False
    """Its row could not be read: it never had a payload."""


@dataclass(frozen=True, slots=True)
class Picked:
    """A delivery about to be moved."""

    id: str
    feed: str
    batch: str | None
    place: datetime
    """Its moment in the index of its state."""
    reason: str = ""
    """Why it is dead, skipped or cancelled."""


class Picking:
    """Every query on `deliveries` that reads what a selection holds."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def counts(self, selection: Selection) -> list[Counted]:
        """How many are selected, by feed, state and whether they still have a payload. Reads each."""
        counted = []
        for state in selection.states:
            pipeline: list[dict[str, Any]] = [
                {"$match": all_of(conditions_of(selection, state))},
                {"$group": {"_id": _ALIKE, "n": {"$sum": 1}}},
            ]
            by_id: dict[str, Any] = {"hint": dict(BY_ID)} if selection.ids else {}
            found = await (await self._collection.aggregate(pipeline, **by_id)).to_list()
            counted += [_counted(document, state) for document in found]
        return counted

    @query
    async def sample(self, selection: Selection, limit: int) -> list[Document]:
        """A few of the selected deliveries, without their payload."""
        found: list[Document] = []
        for state in selection.states:
            chosen = self._find(selection, all_of(conditions_of(selection, state)), {"payload": 0})
            found += await chosen.limit(limit).to_list()
        return found[:limit]

    @query
    async def beside(self, selection: Selection) -> dict[str, int]:
        """Named ids that are in none of the selected states: their state, or that they are unknown
        → how many.
        """
        if not selection.ids:
            return {}
        found = await self._collection.find(
            {"_id": {"$in": list(selection.ids)}}, {"state": 1}
        ).to_list()
        others: dict[str, int] = {}
        for document in found:
            if document["state"] not in selection.states:
                others[document["state"]] = others.get(document["state"], 0) + 1
        unknown = len(set(selection.ids)) - len(found)
        return others | ({"not in the ledger": unknown} if unknown else {})

    async def _pick(
        self,
        selection: Selection,
        conditions: list[Document],
        state: State,
        after: Picked | None,
        size: int,
    ) -> list[Picked]:
        """Read on from `after`, feed by feed in the order of the state's index: first the rest of
        its feed.

        Deliveries that share its place are read again: those moved are gone. Named ids are read in
        order.
        """
        field = MOMENTS[state]
        if selection.ids:
            order, parts = [("_id", 1)], [[{"_id": {"$gt": after.id}}] if after else []]
        else:
            order, parts = [("feed", 1), (field, 1)], _parts_behind(after, field)
        picked: list[Picked] = []
        for part in parts:
            wanted = all_of([*part, *conditions])
            found = self._find(
                selection, wanted, {"feed": 1, "batch": 1, "reason": 1, field: 1}
            ).sort(order)
            documents = await found.limit(size - len(picked)).to_list()
            picked += [
                Picked(d["_id"], d["feed"], d.get("batch"), d[field], d.get("reason", ""))
                for d in documents
            ]
            if len(picked) == size:
                break
        return picked

    def _find(
        self, selection: Selection, wanted: Document, fields: Document
    ) -> AsyncCursor[Document]:
        """Named deliveries are found by id, all others by their state's index."""
        found = self._collection.find(wanted, fields)
        return found.hint(BY_ID) if selection.ids else found


_ALIKE: Document = {
    "feed": "$feed",
    "has_payload": {"$gt": ["$payload", ""]},
    "never_read": {"$eq": ["$payload", ""]},
    "acknowledged": {"$gt": ["$acknowledged.at", LONG_AGO]},
}


def _counted(document: Document, state: State) -> Counted:
    alike = document["_id"]
    acknowledged = state is State.DEAD and alike["acknowledged"]
    never_read = state is State.DEAD and alike["never_read"]
    return Counted(
        alike["feed"], state, alike["has_payload"], document["n"], acknowledged, never_read
    )


def _parts_behind(after: Picked | None, field: str) -> list[list[Document]]:
    """What follows, as conditions: from its moment on in its own feed, then all later feeds."""
    if after is None:
        return [[]]
    return [[{"feed": after.feed}, {field: {"$gte": after.place}}], [{"feed": {"$gt": after.feed}}]]
