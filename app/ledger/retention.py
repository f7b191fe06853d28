"""Every query of retention: what is settled and since when, and how it is stripped, deleted and
restored.

Open deliveries, and dead ones that are not acknowledged, are in no category of
`app/ledger/settled.py`, so no query here can reach them. Each deletion repeats state and moment in
its filter, exactly as they were read: a delivery that has changed since stays as it is.

A question names one state, one feed and one time range, and nothing else, so that a server examines
no record outside the range. Restored records are therefore sifted out here, not by the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pymongo import DeleteMany, DeleteOne
from pymongo.asynchronous.cursor import AsyncCursor

from app.core.clock import LONG_AGO
from app.core.parts import in_parts
from app.ledger.attempts import insert_ignoring_duplicates
from app.ledger.certificates import certificate_id
from app.ledger.client import Collection, Database, Document, query
from app.ledger.ids import attempts_under, ids_under
from app.ledger.indexes import BY_ID
from app.ledger.persistence import counted
from app.ledger.records import ATTEMPTS_BYTES, Record, attempt_weight
from app.ledger.settled import CATEGORIES, Category, Settled, TimeRange
from app.ledger.settled_reading import Reading
from app.ledger.stats import minute_id

_AT_ONCE = 8
"""Deliveries whose attempts are read concurrently."""
_DROPPED_AT_ONCE = 1000
_BARE = dict.fromkeys(
    ("state", "created_at", "position", "finished_at", "acknowledged", "restored_at", "kept_from"),
    1,
)


class Retention:
    """Every query of retention."""

    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database["deliveries"]
        self._attempts: Collection = database["attempts"]
        self._batches: Collection = database["batches"]
        self._stats: Collection = database["stats"]
        self._reports: Collection = database["reports"]
        self._certificates: Collection = database["certificates"]

    # --- what is there

    @query
    async def first(self, feed: str, before: datetime) -> datetime | None:
        """The earliest moment before then at which anything of the feed settled, in any category.

        Restored records also count by when they were finished.
        """
        moments = [await self._first(feed, category, before) for category in CATEGORIES]
        return min((moment for moment in moments if moment), default=None)

    @query
    async def count(self, feed: str, category: Category, span: TimeRange) -> int:
        """How many of the category settled in the time range, counted from the index: restored ones
        count twice.
        """
        return await self._deliveries.count_documents(_of(feed, category, span))

    @query
    async def count_payloads(self, feed: str, category: Category, span: TimeRange) -> int:
        """How many of those still have a payload. Reads each."""
        return await self._deliveries.count_documents(
            {**_of(feed, category, span), "payload": {"$gt": ""}}
        )

    @query
    async def any_restored(self, feed: str) -> bool:
        """Whether anything of the feed was restored from an archive."""
        back = {"feed": feed, "restored_at": {"$gt": LONG_AGO}}
        return await self._deliveries.find_one(back, {"_id": 1}) is not None

    async def read(
        self, feed: str, category: Category, span: TimeRange, *, whole: bool = False
    ) -> Reading:
        """Read what of the category settled in the time range; without payloads unless `whole`."""

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
        found = await self._deliveries.find(
            {"_id": {"$in": list(delivery_ids)}}, {"_id": 1}
        ).to_list()
        return {document["_id"] for document in found}

    @query
    async def owed_batches(self) -> int:
        """About how many batches are owed: the server's own count, which costs nothing."""
        return await self._batches.estimated_document_count()

    # --- changes

    async def strip(
        self, feed: str, category: Category, delivery_ids: Sequence[str], span: TimeRange
    ) -> int:
        """Drop the payloads of those that have not changed. Returns how many had one."""
        named = {"_id": {"$in": list(delivery_ids)}, **_of(feed, category, span)}
        return await counted(
            self._strip(named), lambda: self._count_named(named | {"payload": {"$exists": False}})
        )

    async def drop(self, chunk: Sequence[Settled]) -> int:
        """Delete these, each only if it is unchanged since it was read. Returns how many were
        deleted.
        """
        ids = {one.id for one in chunk}

        async def gone() -> int:
            return len(ids) - len(await self.existing(ids))

        return await counted(self._drop(chunk), gone) if chunk else 0

    @query
    async def drop_attempts(self, attempt_ids: Sequence[str]) -> int:
        """Delete these attempts. Returns how many there were; too few where the query was repeated."""
        dropped = 0
        for part in in_parts(attempt_ids, _DROPPED_AT_ONCE):
            dropped += (await self._attempts.delete_many({"_id": {"$in": part}})).deleted_count
        return dropped

    @query
    async def drop_attempts_of(self, delivery_ids: Sequence[str], before: datetime) -> int:
        """Delete every attempt of these that was made before then. Returns how many there were, as
        `drop_attempts`.

        The bound spares the attempts of rows that were read and logged again after their record was
        purged.
        """
        if not delivery_ids:
            return 0
        ranges = [
            DeleteMany({"_id": attempts_under(one), "at": {"$lt": before}}) for one in delivery_ids
        ]
        return (await self._attempts.bulk_write(ranges, ordered=False)).deleted_count

    @query
    async def drop_reports(self, feed: str, before: datetime) -> int:
        """Delete at most 1,000 of the feed's reports on periods that ended before then. Returns how
        many.
        """
        day = f"{before + timedelta(days=2):%Y-%m-%d}"  # ids begin with a local date: what is kept is not read
        ids = ids_under(f"{feed}|") | {"$lt": f"{feed}|{day}"}
        return await _drop_some(self._reports, {"_id": ids, "end": {"$lt": before}})

    @query
    async def drop_certificates(self, feed: str, before: datetime) -> int:
        """Delete at most 1,000 of the feed's certificates from before then, but never its last.
        Returns how many.
        """
        ids = ids_under(f"{feed}|")
        last = (
            await self._certificates.find({"_id": ids}, {"_id": 1})
            .sort("_id", -1)
            .limit(1)
            .to_list()
        )
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
        """Delete at most 1,000 of the feed's minutes before then, by a range of `_id`. Returns how
        many.
        """
        return await _drop_some(self._stats, _minutes(feed, before))

    async def put_back(self, records: Sequence[Record], now: datetime, source: str) -> int:
        """Restore records that are not in the ledger, their attempts first; their retention counts
        anew from now.

        Returns how many deliveries were inserted.
        """
        restored = {"restored_at": now, "restored_from": source, "kept_from": now}
        named = {"_id": {"$in": [record.id for record in records]}}
        return await counted(
            self._put_back(records, restored), lambda: self._count_named(named | restored)
        )

    # --- steps

    @query
    async def _strip(self, named: Document) -> int:
        there = named | {"payload": {"$exists": True}}
        return (
            await self._deliveries.update_many(there, {"$unset": {"payload": ""}}, hint=BY_ID)
        ).modified_count

    @query
    async def _drop(self, chunk: Sequence[Settled]) -> int:
        deletions = [DeleteOne(one.exactly, hint=BY_ID) for one in chunk]
        return (await self._deliveries.bulk_write(deletions, ordered=False)).deleted_count

    @query
    async def _put_back(self, records: Sequence[Record], restored: Document) -> int:
        attempts = [dict(attempt) for record in records for attempt in record.attempts]
        await insert_ignoring_duplicates(self._attempts, attempts)
        return await insert_ignoring_duplicates(
            self._deliveries, [record.delivery | restored for record in records]
        )

    @query
    async def _count_named(self, wanted: Document) -> int:
        return await self._deliveries.count_documents(wanted, hint=BY_ID)

    @query
    async def _first(self, feed: str, category: Category, before: datetime) -> datetime | None:
        wanted = _of(feed, category, TimeRange(LONG_AGO, before))
        found = (
            await self._deliveries.find(wanted, _BARE).sort(category.moment, 1).limit(1).to_list()
        )
        return found[0][category.moment] if found else None

    @query
    async def _attempts_of(self, delivery_id: str) -> list[Document]:
        """As many as fit a line of the archive: the rest stays in the ledger."""
        attempts, held = list[Document](), 0
        async for attempt in self._attempts.find({"_id": attempts_under(delivery_id)}).sort(
            "_id", 1
        ):
            held += attempt_weight(attempt)
            if held > ATTEMPTS_BYTES:
                break
            attempts.append(attempt)
        return attempts


def _of(feed: str, category: Category, span: TimeRange) -> Document:
    """One state, one feed, one time range: served by the category's index alone."""
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
