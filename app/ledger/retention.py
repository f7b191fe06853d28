"""What retention asks of the ledger: what is settled and since when, and that it be stripped or deleted.

A delivery's time runs from one moment, which depends on how it was settled:

    delivered, cancelled, skipped               `finished_at`       index `settled`
    dead and acknowledged, or put back          `kept_from`         index `kept`
    from an archive

What is open, or dead and not acknowledged, is in none of these, so no query here can reach it. Each deletion repeats
state and moment in its filter, exactly as they were read: a delivery that has changed since stays as it is.

A question here is one state, one feed and a span of time, and nothing else: then a server needs to look at no record
outside of the span. What was restored is therefore sifted out here and not by the server.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo import DeleteMany, DeleteOne
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import PyMongoError

from app.core.clock import LONG_AGO
from app.core.parts import in_parts
from app.core.position import Position
from app.core.states import State
from app.ledger.attempts import insert_ignoring_duplicates
from app.ledger.certificates import certificate_id
from app.ledger.client import Collection, Database, Document, query
from app.ledger.ids import attempts_under, ids_under
from app.ledger.indexes import BY_ID, KEPT, SETTLED
from app.ledger.persistence import counted
from app.ledger.records import ATTEMPTS_BYTES, CHUNK_BYTES, Record, attempt_weight, weight
from app.ledger.stats import minute_id

_AT_ONCE = 8
"""Deliveries whose attempts are asked for at the same time."""
_DROPPED_AT_ONCE = 1000
_BATCH = 100
"""Documents that a server sends together. A few chunks with the longest pauses must not take the 10 minutes after which
a server forgets a cursor that nobody asks."""
_LARGEST_BATCH = 6400
"""Where cursors are lost batches grow: what shares the last moment is read again, and that must not be lost as well."""
_BARE = dict.fromkeys(("state", "created_at", "position", "finished_at", "acknowledged", "restored_at", "kept_from"), 1)


@dataclass(frozen=True, slots=True)
class Category:
    """What retention treats alike."""

    name: str
    state: State | None
    """`None`: any that is settled."""
    moment: str
    """The field that its time runs from."""
    index: str


KEPT_ONES = Category("kept", None, "kept_from", KEPT)
CATEGORIES = (
    *(
        Category(state.value, state, "finished_at", SETTLED)
        for state in (State.DELIVERED, State.CANCELLED, State.SKIPPED)
    ),
    KEPT_ONES,
)
"""Every settled delivery is in exactly one of them."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From one moment, inclusive, to another, exclusive."""

    start: datetime
    end: datetime

    @property
    def condition(self) -> Document:
        """For a query. From `LONG_AGO` on where it starts there: the partial indexes hold what is after that."""
        return {"$gt" if self.start <= LONG_AGO else "$gte": max(self.start, LONG_AGO), "$lt": self.end}


@dataclass(frozen=True, slots=True)
class Settled:
    """One settled delivery, as far as retention looks at it."""

    id: str
    category: Category
    state: State
    moment: datetime
    """What its time runs from."""
    created_at: datetime
    position: Position
    acknowledged_at: datetime | None = None

    @property
    def exactly(self) -> Document:
        """Matches this delivery as it was read, and nothing that has become of it since.

        Its position too: a row that a poll has seen elsewhere since must not be above the floor when its record goes.
        """
        same: Document = {"_id": self.id, "state": self.state.value, self.category.moment: self.moment}
        same["position"] = self.position
        if self.category is not KEPT_ONES:
            same["kept_from"] = None
        if self.acknowledged_at:
            same["acknowledged.at"] = self.acknowledged_at
        return same


def settled(document: Document) -> Settled | None:
    """The delivery of a document, in its category; `None` where it is open, or dead and not acknowledged."""
    state = State(document["state"])
    acknowledged_at = (document.get("acknowledged") or {}).get("at") if state is State.DEAD else None
    if state in (State.QUEUED, State.RETRYING) or (state is State.DEAD and not acknowledged_at):
        return None
    category = _category(state, document)
    return Settled(
        id=document["_id"],
        category=category,
        state=state,
        moment=document[category.moment],
        created_at=document["created_at"],
        position=document.get("position"),
        acknowledged_at=acknowledged_at,
    )


def _category(state: State, document: Document) -> Category:
    if document.get("kept_from"):
        return KEPT_ONES
    return next(category for category in CATEGORIES if category.state is state)


class Reading:
    """What of a category settled in a span of time, in that order, a chunk at a time. Close it.

    Where a cursor is lost nothing of what it read is: asked again, `next` goes on behind it with another one.
    """

    def __init__(
        self, find: Callable[[TimeRange, int], AsyncCursor[Document]], category: Category, span: TimeRange
    ) -> None:
        """`find`: a cursor over a part of the span, and how many documents it gets at a time."""
        self._find = find
        self._at_once = _BATCH
        self._category = category
        self._span = span
        self._cursor: AsyncCursor[Document] | None = None
        self._place = _Place()
        self._chunk: list[Document] = []

    @query
    async def next(self, size: int) -> list[Document]:
        """At most `size` more, fewer where they are heavy; none: that was all."""
        try:
            await self._fill(size)
        except PyMongoError:
            self._cursor = None  # the driver has closed it
            self._at_once = min(4 * self._at_once, _LARGEST_BATCH)
            raise
        chunk, self._chunk = self._chunk, []
        return chunk

    @query
    async def close(self) -> None:
        """Let the server forget the cursor."""
        if self._cursor:
            await self._cursor.close()

    async def _fill(self, size: int) -> None:
        held = sum(map(_weight, self._chunk))
        while len(self._chunk) < size and held < CHUNK_BYTES:
            document = await self._following()
            if document is None:
                return
            found = settled(document)
            if found and found.category is self._category:
                self._chunk.append(document)
                held += _weight(document)

    async def _following(self) -> Document | None:
        """The next document that was not read before."""
        if self._cursor is None:
            behind = TimeRange(self._place.come_back() or self._span.start, self._span.end)
            self._cursor = self._find(behind, self._at_once)
        while (document := await anext(self._cursor, None)) is not None:
            if self._place.reach(document["_id"], document[self._category.moment]):
                return document
        return None


class _Place:
    """How far a reading came: the last moment, and what was read of it. Hashes, since a million may share a moment."""

    def __init__(self) -> None:
        self._moment: datetime | None = None
        self._read = array("q")
        self._again: frozenset[int] = frozenset()
        """What a cursor that was opened at the last moment gives a second time."""

    def reach(self, delivery_id: str, moment: datetime) -> bool:
        """Note a document. Returns whether it is read for the first time."""
        if moment != self._moment:
            self._moment, self._read, self._again = moment, array("q"), frozenset()
        known = hash(delivery_id)
        if known in self._again:
            return False
        self._read.append(known)
        return True

    def come_back(self) -> datetime | None:
        """From which moment on another cursor is to read; `None`: nothing was read yet."""
        self._again = frozenset(self._read)
        return self._moment


def _weight(document: Document) -> int:
    return weight(document, document.get("attempts", 0))


class Retention:
    """Every query of retention."""

    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database["deliveries"]
        self._attempts: Collection = database["attempts"]
        self._batches: Collection = database["batches"]
        self._stats: Collection = database["stats"]
        self._reports: Collection = database["reports"]
        self._certificates: Collection = database["certificates"]

    # --- what there is

    @query
    async def first(self, feed: str, before: datetime) -> datetime | None:
        """The earliest moment before then at which anything of the feed settled, whatever its category.

        What was restored counts by when it was finished, too.
        """
        moments = [await self._first(feed, category, before) for category in CATEGORIES]
        return min((moment for moment in moments if moment), default=None)

    @query
    async def count(self, feed: str, category: Category, span: TimeRange) -> int:
        """How many of the category settled in the span, counted from the index: what was restored counts twice."""
        return await self._deliveries.count_documents(_of(feed, category, span))

    @query
    async def count_payloads(self, feed: str, category: Category, span: TimeRange) -> int:
        """How many of them still have a payload. Reads each."""
        return await self._deliveries.count_documents({**_of(feed, category, span), "payload": {"$gt": ""}})

    @query
    async def any_restored(self, feed: str) -> bool:
        """Whether anything of the feed was put back from an archive."""
        back = {"feed": feed, "restored_at": {"$gt": LONG_AGO}}
        return await self._deliveries.find_one(back, {"_id": 1}) is not None

    async def read(self, feed: str, category: Category, span: TimeRange, *, whole: bool = False) -> Reading:
        """Read what of the category settled in the span; without payloads unless `whole`."""

        def find(part: TimeRange, at_once: int) -> AsyncCursor[Document]:
            found = self._deliveries.find(_of(feed, category, part), None if whole else _BARE)
            return found.sort(category.moment, 1).batch_size(at_once)

        return Reading(find, category, span)

    async def records(self, deliveries: Sequence[Document]) -> list[Record]:
        """These deliveries with their attempts."""
        asking = asyncio.Semaphore(_AT_ONCE)

        async def record(delivery: Document) -> Record:
            async with asking:
                return Record(delivery, await self._attempts_of(delivery["_id"]))

        return list(await asyncio.gather(*map(record, deliveries)))

    @query
    async def existing(self, delivery_ids: Iterable[str]) -> set[str]:
        """Which of these are in the ledger."""
        found = await self._deliveries.find({"_id": {"$in": list(delivery_ids)}}, {"_id": 1}).to_list()
        return {document["_id"] for document in found}

    @query
    async def owed_batches(self) -> int:
        """How many batches are owed now, about: the server's own count, which costs nothing."""
        return await self._batches.estimated_document_count()

    # --- what becomes of it

    async def strip(self, feed: str, category: Category, delivery_ids: Sequence[str], span: TimeRange) -> int:
        """Drop the payload of these, where they are still what they were. Returns how many had one."""
        named = {"_id": {"$in": list(delivery_ids)}, **_of(feed, category, span)}
        return await counted(self._strip(named), lambda: self._count_named(named | {"payload": {"$exists": False}}))

    async def drop(self, chunk: Sequence[Settled]) -> int:
        """Delete these, each only if it is as it was read. Returns how many were deleted."""
        ids = {one.id for one in chunk}

        async def gone() -> int:
            return len(ids) - len(await self.existing(ids))

        return await counted(self._drop(chunk), gone) if chunk else 0

    @query
    async def drop_attempts(self, attempt_ids: Sequence[str]) -> int:
        """Delete these attempts. Returns how many there were; too few where it was asked again."""
        dropped = 0
        for part in in_parts(attempt_ids, _DROPPED_AT_ONCE):
            dropped += (await self._attempts.delete_many({"_id": {"$in": part}})).deleted_count
        return dropped

    @query
    async def drop_attempts_of(self, delivery_ids: Sequence[str], before: datetime) -> int:
        """Delete every attempt of these that was made before then. Returns how many there were, as `drop_attempts`.

        The bound spares the attempts of a row that was read again, and logged anew, since its record was purged.
        """
        if not delivery_ids:
            return 0
        ranges = [DeleteMany({"_id": attempts_under(one), "at": {"$lt": before}}) for one in delivery_ids]
        return (await self._attempts.bulk_write(ranges, ordered=False)).deleted_count

    @query
    async def drop_reports(self, feed: str, before: datetime) -> int:
        """Delete at most 1,000 of the feed's reports on periods that ended before then. Returns how many."""
        day = f"{before + timedelta(days=2):%Y-%m-%d}"  # ids begin with a local date: what is kept is not read
        ids = ids_under(f"{feed}|") | {"$lt": f"{feed}|{day}"}
        return await _drop_some(self._reports, {"_id": ids, "end": {"$lt": before}})

    @query
    async def drop_certificates(self, feed: str, before: datetime) -> int:
        """Delete at most 1,000 of the feed's certificates from before then, but never its last. Returns how many."""
        ids = ids_under(f"{feed}|")
        last = await self._certificates.find({"_id": ids}, {"_id": 1}).sort("_id", -1).limit(1).to_list()
        if not last:
            return 0
        ids["$lt"] = min(last[0]["_id"], certificate_id(feed, before))
        return await _drop_some(self._certificates, {"_id": ids, "at": {"$lt": before}})

    @query
    async def count_stats(self, feed: str, before: datetime) -> int:
        """How many of the feed's minutes are from before then, by a range of `_id`."""
        return await self._stats.count_documents(_minutes(feed, before))

    @query
    async def drop_stats(self, feed: str, before: datetime) -> int:
        """Delete at most 1,000 of the feed's minutes before then, by a range of `_id`. Returns how many."""
        return await _drop_some(self._stats, _minutes(feed, before))

    async def put_back(self, records: Sequence[Record], now: datetime, source: str) -> int:
        """Insert records that are not there, their attempts first; their time runs from now on, anew.

        Returns how many deliveries were inserted.
        """
        restored = {"restored_at": now, "restored_from": source, "kept_from": now}
        named = {"_id": {"$in": [record.id for record in records]}}
        return await counted(self._put_back(records, restored), lambda: self._count_named(named | restored))

    # --- steps of the above

    @query
    async def _strip(self, named: Document) -> int:
        there = named | {"payload": {"$exists": True}}
        return (await self._deliveries.update_many(there, {"$unset": {"payload": ""}}, hint=BY_ID)).modified_count

    @query
    async def _drop(self, chunk: Sequence[Settled]) -> int:
        deletions = [DeleteOne(one.exactly, hint=BY_ID) for one in chunk]
        return (await self._deliveries.bulk_write(deletions, ordered=False)).deleted_count

    @query
    async def _put_back(self, records: Sequence[Record], restored: Document) -> int:
        attempts = [dict(attempt) for record in records for attempt in record.attempts]
        await insert_ignoring_duplicates(self._attempts, attempts)
        return await insert_ignoring_duplicates(self._deliveries, [record.delivery | restored for record in records])

    @query
    async def _count_named(self, wanted: Document) -> int:
        return await self._deliveries.count_documents(wanted, hint=BY_ID)

    @query
    async def _first(self, feed: str, category: Category, before: datetime) -> datetime | None:
        wanted = _of(feed, category, TimeRange(LONG_AGO, before))
        found = await self._deliveries.find(wanted, _BARE).sort(category.moment, 1).limit(1).to_list()
        return found[0][category.moment] if found else None

    @query
    async def _attempts_of(self, delivery_id: str) -> list[Document]:
        """Those that a line of the archive holds: what is beyond that stays in the ledger."""
        attempts, held = list[Document](), 0
        async for attempt in self._attempts.find({"_id": attempts_under(delivery_id)}).sort("_id", 1):
            held += attempt_weight(attempt)
            if held > ATTEMPTS_BYTES:
                break
            attempts.append(attempt)
        return attempts


def _of(feed: str, category: Category, span: TimeRange) -> Document:
    """One state, one feed, one span of time: served by the category's index on its own."""
    state: Document = {"state": category.state.value} if category.state else {}
    return {**state, "feed": feed, category.moment: span.condition}


def _minutes(feed: str, before: datetime) -> Document:
    return {"_id": ids_under(f"{feed}|") | {"$lt": minute_id(feed, before)}}


async def _drop_some(collection: Collection, wanted: Document) -> int:
    found = await collection.find(wanted, {"_id": 1}).limit(_DROPPED_AT_ONCE).to_list()
    if not found:
        return 0
    named = {"_id": {"$in": [document["_id"] for document in found]}}
    return (await collection.delete_many(named)).deleted_count
