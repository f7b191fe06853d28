"""`cursors`: one document a feed: how far it has been read, its open gaps, its last poll, whether it
is paused, and what operators did with it.

{_id: feed, position, gaps [{low, high, since}], spans [{after, upto}], version, last_poll_at,
last_row_at, last_error,
 paused, paused_reason, sends, sending_paused, paused_by, failures, retry_at, columns [{name,
 type}], offered, noted, noted_at, held, held_since, origin {table, key, strategy, column}, lowest,
 notices {<kind>: {said, at}}, resumes, refused {count, at}, moves [{kind, at, by, why, detail}],
 reading {by, until}}

`moves`: what operators did with the feed, the last `MOVES_KEPT`; each is written by the update that
does it. `app/ledger/pauses.py` has what pauses a feed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from app.core.certificates import DiscrepancyKind
from app.core.cursors import READS_ON, Cursor, FeedMoveKind, Notice, Origin
from app.core.errors import CursorMoved
from app.core.position import ReadRange
from app.core.rows import Page
from app.ledger.client import Collection, Database, Document, query
from app.ledger.cursor_documents import (
    cursor_of,
    form_fields,
    gap_documents,
    held_since,
    move_pushed,
    origin_document,
    range_documents,
    ranges_after,
)
from app.ledger.stamp import Stamp
from app.ledger.together import Together, upsert_each


class Cursors:
    """Every query on `cursors`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["cursors"]
        self._asked = Together(self._find_each)
        self._noted = Together(partial(upsert_each, self._collection))

    @query
    async def get(self, feed: str) -> Cursor:
        """The feed's cursor; a new one, which has read nothing, where there is none yet."""
        document = await self._asked.ask(feed)
        return cursor_of(document) if document else Cursor(feed)

    @query
    async def advance(
        self, cursor: Cursor, page: Page, now: datetime, reader: str | None = None
    ) -> Cursor:
        """Move the cursor past a page that is in the ledger; where more rows wait, say that the
        process of that name goes on reading. Raises `CursorMoved` where another poll was faster.
        """
        reads_on = reader is not None and page.full
        moved: Document = {
            "position": page.position,
            "gaps": gap_documents(page.gaps),
            "version": cursor.version + 1,
            "last_poll_at": now,
            "last_error": None,
            "failures": 0,
            "retry_at": None,
            "held": page.held,
            "held_since": held_since(cursor, page, now),
            "reading": {"by": reader, "until": now + READS_ON} if reads_on else None,
        }
        if page.rows:
            moved["last_row_at"] = now
        if cursor.position is None and not cursor.spans:
            moved["spans"] = range_documents([ReadRange(page.began)])
        if page.form:
            moved |= form_fields(page.form, now)
        if cursor.lowest is None and page.lowest is not None:
            moved["lowest"] = page.lowest
        if not cursor.version:
            await self._collection.update_one(
                {"_id": cursor.feed}, {"$setOnInsert": {"version": 0}}, upsert=True
            )
        result = await self._collection.find_one_and_update(
            {"_id": cursor.feed, "version": cursor.version}, {"$set": moved}, return_document=True
        )
        if result is None:
            raise CursorMoved(
                f"feed {cursor.feed}: another poll moved its cursor past version {cursor.version}"
            )
        return cursor_of(result)

    @query
    async def originate(self, feed: str, origin: Origin) -> None:
        """Record where the feed's deliveries come from, unless that is on record already."""
        await self._collection.update_one(
            {"_id": feed}, {"$setOnInsert": {"version": 0}}, upsert=True
        )
        await self._collection.update_one(
            {"_id": feed, "origin": None}, {"$set": {"origin": origin_document(origin)}}
        )

    @query
    async def adopt(self, feed: str, origin: Origin, told: str, stamp: Stamp) -> None:
        """Record where the feed's deliveries come from, whatever is on record; and, as `told`, who
        says so.
        """
        await self._collection.update_one(
            {"_id": feed}, {"$setOnInsert": {"version": 0}}, upsert=True
        )
        document = origin_document(origin)
        await self._collection.update_one(
            {"_id": feed, "origin": {"$ne": document}},
            {"$set": {"origin": document}} | move_pushed(FeedMoveKind.ADOPTED, told, stamp),
        )

    @query
    async def notice(self, feed: str, notices: Sequence[Notice]) -> None:
        """Store what a poll noticed, the latest of each kind."""
        kept = {
            f"notices.{notice.kind.value}": {"said": notice.said, "at": notice.at}
            for notice in notices
        }
        if kept:
            await self._collection.update_one(
                {"_id": feed}, {"$set": kept, "$setOnInsert": {"version": 0}}, upsert=True
            )

    @query
    async def forget(self, feed: str, kinds: Sequence[DiscrepancyKind], before: datetime) -> None:
        """Drop notices of these kinds from before then: a certificate no longer found them."""
        for kind in kinds:
            field = f"notices.{kind.value}"
            await self._collection.update_one(
                {"_id": feed, f"{field}.at": {"$lt": before}}, {"$unset": {field: ""}}
            )

    @query
    async def feeds(self) -> list[str]:
        """Every feed that was ever polled or paused."""
        return [
            document["_id"]
            for document in await self._collection.find({}, {"_id": 1}).sort("_id", 1).to_list()
        ]

    @query
    async def note_poll(self, feed: str, now: datetime, error: str | None = None) -> None:
        """Record that the feed was polled, and what went wrong, if anything."""
        noted = {"last_poll_at": now, "last_error": error, "failures": 0, "retry_at": None}
        await self._noted.ask(({"_id": feed}, {"$set": noted, "$setOnInsert": {"version": 0}}))

    @query
    async def note_empty(self, cursor: Cursor, page: Page, now: datetime) -> None:
        """Record that a poll found nothing new, and whether rows are held back, and since when."""
        await self.note_poll(cursor.feed, now)
        if (page.held, page.held and cursor.held_since) != (cursor.held, cursor.held_since):
            since = held_since(cursor, page, now)
            held: Document = {"held": page.held, "held_since": since}
            await self._collection.update_one({"_id": cursor.feed}, {"$set": held})

    @query
    async def note_failure(self, feed: str, now: datetime, error: str, retry_at: datetime) -> None:
        """Record that the source was unavailable, and that the feed is not polled before
        `retry_at`.
        """
        await self._collection.update_one(
            {"_id": feed},
            {
                "$set": {"last_poll_at": now, "last_error": error, "retry_at": retry_at},
                "$inc": {"failures": 1},
                "$setOnInsert": {"version": 0},
            },
            upsert=True,
        )

    @query
    async def rewind(self, cursor: Cursor, to: Cursor, told: str, stamp: Stamp) -> None:
        """Move the cursor to the position of `to`, and drop its open gaps; record, as `told`, who
        did. Raises `CursorMoved` where a poll was faster.
        """
        await self._collection.update_one(
            {"_id": cursor.feed}, {"$setOnInsert": {"version": 0}}, upsert=True
        )
        result = await self._collection.update_one(
            {"_id": cursor.feed, "version": cursor.version},
            {
                "$set": {
                    "position": to.position,
                    "gaps": gap_documents(to.gaps),
                    "spans": range_documents(ranges_after(cursor, to)),
                    "version": cursor.version + 1,
                    "last_error": None,
                    "failures": 0,
                    "retry_at": None,
                }
            }
            | move_pushed(FeedMoveKind.REWOUND, told, stamp),
        )
        if not result.modified_count:
            raise CursorMoved(
                f"feed {cursor.feed}: a poll moved its cursor past version {cursor.version} meanwhile"
            )

    @query
    async def offer(self, feed: str, columns: Sequence[str]) -> None:
        """Record columns of the table besides those agreed: a feed that is resumed sends them."""
        await self._collection.update_one({"_id": feed}, {"$set": {"offered": list(columns)}})

    async def _find_each(self, feeds: Sequence[str]) -> Sequence[Document | None]:
        if len(feeds) == 1:
            return [await self._collection.find_one({"_id": feeds[0]})]
        found = await self._collection.find({"_id": {"$in": list(set(feeds))}}).to_list()
        by_feed = {document["_id"]: document for document in found}
        return [by_feed.get(feed) for feed in feeds]
