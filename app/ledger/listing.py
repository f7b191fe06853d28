"""Deliveries as an operator lists them: a page at a time, in the order of time or of ids, and how
many there are.

The time of a delivery is the moment by which the index of its state is in order
(`indexes.MOMENTS`): of one that is settled when that was, of one that waits for a retry when it is
due, of a queued one when it was logged. Those of one moment are in the order of their ids, so a
page that ends among them loses and repeats none; what changes its state between two pages is listed
where it then stands.

Each state is read by its own index, in its order, and no further than the page. What has no index
(reason, status, attempts, a part of the key) is checked in each delivery read, so a rare one costs
as much as the rest of the selection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain, islice
from typing import Any, TypeVar

from pymongo import errors as driver

from app.core.parts import in_parts
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.delivery_documents import ids_of
from app.ledger.ids import ids_under
from app.ledger.indexes import BY_ID, MOMENTS, in_state
from app.ledger.merge import MERGED, feeds_in
from app.ledger.selection import Selection, all_of, conditions_of

COUNTED = 100_000
"""Deliveries that are counted."""
COUNT_SECONDS = 2.0
"""What all counting may take."""
_BEGINNING, _ASKED = 100, 200

T = TypeVar("T")


class Order(StrEnum):
    """What comes first on a page."""

    NEWEST = "newest"
    OLDEST = "oldest"
    ID = "id"


@dataclass(frozen=True, slots=True)
class Place:
    """The last delivery of a page: the next begins behind it."""

    at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many deliveries there are."""

    number: int
    exact: bool = True
    """Else there are more."""


_DEAD_ALIKE: tuple[dict[str, Any], ...] = (
    {"$match": {"acknowledged": {"$exists": False}}},
    {
        "$group": {
            "_id": {"feed": "$feed", "status": "$last.status", "reason": "$reason"},
            "count": {"$sum": 1},
            "first": {"$min": "$finished_at"},
            "last": {"$max": "$finished_at"},
            "example": {"$first": "$_id"},
        }
    },
    {"$sort": {"count": -1}},
)


@dataclass(frozen=True, slots=True)
class DeadAlike:
    """Dead letters of one feed that died of the same status and reason, to the letter."""

    feed: str
    status: int | None
    reason: str
    count: int
    first: datetime
    last: datetime
    """When the first and the last of them died."""
    example: str
    """The id of the last."""


def moment_of(delivery: Mapping[str, Any]) -> datetime:
    """Where a delivery stands in time."""
    moment: datetime = delivery[MOMENTS[State(delivery["state"])]]
    return moment


class Listing:
    """Every query that lists and finds deliveries for a person."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def page(
        self,
        selection: Selection,
        order: Order,
        after: Place | None,
        size: int,
        *,
        edge: datetime | None = None,
        payloads: bool = False,
    ) -> list[Document]:
        """The next at most `size` of the selected, behind `after`, without their payloads but with
        `payloads`. `edge`: those beyond this moment are not looked at."""
        found = await self._page(selection, order, after, size, edge)
        if not payloads or not found:
            return found
        asked = self._collection.find(
            {"_id": {"$in": [one["_id"] for one in found]}}, {"payload": 1}
        )
        known = {one["_id"]: one.get("payload") for one in await asked.hint(BY_ID).to_list()}
        return [one | {"payload": known.get(one["_id"])} for one in found]

    async def _page(
        self,
        selection: Selection,
        order: Order,
        after: Place | None,
        size: int,
        edge: datetime | None,
    ) -> list[Document]:
        if order is Order.ID or selection.ids:
            return await self._by_id(selection, after, size)

        async def of_state(some: Selection, state: State) -> list[Document]:
            moment = MOMENTS[state]
            wanted = all_of([*conditions_of(some, state), *_before_edge(moment, order, edge)])
            return await self._in_time(wanted, moment, order, after, size)

        return _in_order(await self._of_each(selection, of_state), order)[:size]

    @query
    async def edge(
        self, selection: Selection, order: Order, after: Place | None, looked_at: int
    ) -> datetime | None:
        """How far one gets behind `after` by looking at `looked_at` deliveries of each of the
        selection's states and feeds, whatever else is selected: a moment; `None`: at all of them.
        """

        async def of_state(some: Selection, state: State) -> list[datetime]:
            moment = MOMENTS[state]
            wanted = all_of(conditions_of(_by_time_alone(some), state))
            if after:
                beyond = "$lte" if order is Order.NEWEST else "$gte"
                wanted = all_of([wanted, {moment: {beyond: after.at}}])
            way = -1 if order is Order.NEWEST else 1
            found = self._collection.find(wanted, {"_id": 0, moment: 1}).sort(moment, way)
            return [one[moment] for one in await found.skip(looked_at).limit(1).to_list()]

        edges = await self._of_each(selection, of_state)
        nearest = max if order is Order.NEWEST else min
        return nearest(edges) if edges else None

    async def _of_each(
        self, selection: Selection, ask: Callable[[Selection, State], Awaitable[list[T]]]
    ) -> list[T]:
        """Ask of each state, all of them at once, and within each of as many feeds together as a
        server merges."""

        async def of_state(state: State) -> list[T]:
            found: list[T] = []
            for feeds in await self._parts(selection, state):
                found += await ask(replace(selection, feeds=tuple(feeds)), state)
            return found

        return [*chain.from_iterable(await asyncio.gather(*map(of_state, selection.states)))]

    async def _parts(self, selection: Selection, state: State) -> Iterable[Sequence[str]]:
        """The feeds to ask for, as many together as a server merges."""
        known = selection.feeds or await feeds_in(self._collection, in_state(state))
        return in_parts(known, MERGED)

    @query
    async def count(
        self, selection: Selection, *, most: int = COUNTED, seconds: float = COUNT_SECONDS
    ) -> Count | None:
        """How many are selected, up to `most`; `None` where that takes longer than `seconds`."""
        number, until = 0, time.monotonic() + seconds
        by_id: dict[str, Any] = {"hint": BY_ID} if selection.ids else {}
        for state in selection.states:
            left = int((until - time.monotonic()) * 1000)
            wanted = all_of(conditions_of(selection, state))
            try:
                number += await self._collection.count_documents(
                    wanted, limit=most - number, maxTimeMS=max(1, left), **by_id
                )
            except driver.ExecutionTimeout:
                return None
            if number >= most:
                return Count(most, exact=False)
        return Count(number)

    @query
    async def dead_by_reason(
        self, selection: Selection, looked_at: int, most: int
    ) -> list[DeadAlike]:
        """The selection's dead letters, the newest `looked_at` of each `MERGED` feeds, without
        acknowledged ones: by feed, HTTP status and reason, the most frequent first; at most `most`."""
        found: list[DeadAlike] = []
        for feeds in await self._parts(selection, State.DEAD):
            some = replace(selection, feeds=tuple(feeds))
            pipeline: list[dict[str, Any]] = [
                {"$match": all_of(conditions_of(some, State.DEAD))},
                {"$sort": {"finished_at": -1}},
                {"$limit": looked_at},
                *_DEAD_ALIKE,
                {"$limit": most},
            ]
            documents = await (await self._collection.aggregate(pipeline)).to_list()
            found += map(_dead_alike, documents)
        return sorted(found, key=lambda one: -one.count)[:most]

    @query
    async def there(self, ids: Iterable[str]) -> list[str]:
        """Which of these ids are in the ledger, in their order."""
        asked = [one for one in dict.fromkeys(ids) if _has_form(one)]
        found = self._collection.find({"_id": {"$in": asked}}, {"_id": 1}).hint(BY_ID)
        known = {document["_id"] for document in await found.to_list()}
        return [one for one in asked if one in known]

    @query
    async def beginning(self, ids: Iterable[str]) -> list[str]:
        """Deliveries whose ids go on behind one of these and a colon: the changes of a row, or the
        rows that share the first parts of a key. At most `_BEGINNING` of each of the first
        `_ASKED`."""
        asked = [*islice(filter(_has_form, ids), _ASKED)]
        return [
            document["_id"]
            for documents in await asyncio.gather(*map(self._under, asked))
            for document in documents
        ]

    async def _under(self, known: str) -> list[Document]:
        found = self._collection.find({"_id": ids_under(f"{known}:")}, {"_id": 1}).hint(BY_ID)
        return await found.sort("_id", 1).limit(_BEGINNING).to_list()

    @query
    async def any_of(self, feed: str) -> bool:
        """Whether the ledger has a delivery of that feed."""
        return (
            _has_form(feed)
            and await self._collection.find_one(ids_of(feed), {"_id": 1}) is not None
        )

    async def _by_id(self, selection: Selection, after: Place | None, size: int) -> list[Document]:
        """By ids, one feed after the other: every delivery read is checked."""
        looked_at: Document = {
            "$or": [all_of(conditions_of(selection, state)) for state in selection.states]
        }
        behind: Document = {"_id": {"$gt": after.id}} if after else {}
        ranges: list[Document] = [ids_of(feed) for feed in sorted(selection.feeds or ())] or [{}]
        if selection.ids:
            ranges = [{"_id": {"$in": list(selection.ids)}}]
        found: list[Document] = []
        for one in ranges:
            asked = (
                self._collection.find(all_of([one, behind, looked_at]), {"payload": 0})
                .hint(BY_ID)
                .sort("_id", 1)
            )
            found += await asked.limit(size - len(found)).to_list()
            if len(found) == size:
                break
        return found

    async def _in_time(
        self, wanted: Document, moment: str, order: Order, after: Place | None, size: int
    ) -> list[Document]:
        """Of one state. An index has those of one moment in no order of ids, so where a page begins
        or ends among such, they are asked for by themselves."""
        way, beyond = (-1, "$lt") if order is Order.NEWEST else (1, "$gt")
        found: list[Document] = []
        if after:
            among = {moment: after.at, "_id": {beyond: after.id}}
            found = await self._of_one_moment(wanted, among, way, size)
            wanted = all_of([wanted, {moment: {beyond: after.at}}])
        room = size - len(found)
        if not room:
            return found
        rest = (
            await self._collection.find(wanted, {"payload": 0})
            .sort(moment, way)
            .limit(room + 1)
            .to_list()
        )
        if len(rest) > room and rest[room][moment] == (last := rest[room - 1][moment]):
            rest = [one for one in rest if one[moment] != last]
            rest += await self._of_one_moment(wanted, {moment: last}, way, room - len(rest))
        return found + rest[:room]

    async def _of_one_moment(
        self, wanted: Document, among: Document, way: int, size: int
    ) -> list[Document]:
        found = self._collection.find(all_of([among, wanted]), {"payload": 0}).sort("_id", way)
        return await found.limit(size).to_list()


def _has_form(text: str) -> bool:
    """Whether a ledger can hold that text: not half of a surrogate pair."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _dead_alike(document: Document) -> DeadAlike:
    of = document["_id"]
    return DeadAlike(
        of["feed"], of.get("status"), of.get("reason") or "",
        document["count"], document["first"], document["last"], document["example"],
    )  # fmt: skip


def _by_time_alone(selection: Selection) -> Selection:
    """What of a selection its index knows."""
    return Selection(
        selection.states, feeds=selection.feeds, since=selection.since, until=selection.until
    )


def _before_edge(moment: str, order: Order, edge: datetime | None) -> list[Document]:
    if edge is None:
        return []
    return [{moment: {"$gte" if order is Order.NEWEST else "$lte": edge}}]


def _in_order(found: Sequence[Document], order: Order) -> list[Document]:
    return sorted(
        found, key=lambda one: (moment_of(one), one["_id"]), reverse=order is Order.NEWEST
    )
