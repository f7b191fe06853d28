"""`cursors`: one document a feed: how far it has been read, its open gaps, its last poll, and
whether it is paused.

{_id: feed, position, gaps [{low, high, since}], spans [{after, upto}], version, last_poll_at,
last_row_at, last_error,
 paused, paused_reason, sends, sending_paused, paused_by, failures, retry_at, columns [{name,
 type}], offered, noted, noted_at, held, held_since, origin {table, key, strategy, column}, lowest,
 notices {<kind>: {said, at}}, resumes, refused {count, at}}

`paused`: the feed is not polled, nor sent unless `sends`. `sending_paused`: why an operator paused
sending alone; it is separate, so that polling and sending are paused and resumed independently.
`paused_by`: the operator who made the last pause; nothing where Rowrelay did, or once the feed is
resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from app.core.certificates import DiscrepancyKind
from app.core.cursors import Cursor, Notice, Origin
from app.core.errors import CursorMoved
from app.core.position import ReadRange
from app.core.rows import Page
from app.ledger.client import Collection, Database, Document, query
from app.ledger.cursor_documents import (
    cursor_of,
    form_fields,
    gap_documents,
    held_since,
    range_documents,
    ranges_after,
)

_SENDING_PAUSED: Document = {"sending_paused": {"$gt": ""}}


class Cursors:
    """Every query on `cursors`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["cursors"]

    @query
    async def get(self, feed: str) -> Cursor:
        """The feed's cursor; a new one, which has read nothing, where there is none yet."""
        document = await self._collection.find_one({"_id": feed})
        return cursor_of(document) if document else Cursor(feed)

    @query
    async def advance(self, cursor: Cursor, page: Page, now: datetime) -> Cursor:
        """Move the cursor past a page that is in the ledger. Raises `CursorMoved` where another
        poll was faster.
        """
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
    async def adopt(self, feed: str, origin: Origin, *, anyway: bool = False) -> None:
        """Record where the feed's deliveries come from; `anyway`: even if that is on record
        already.
        """
        await self._collection.update_one(
            {"_id": feed}, {"$setOnInsert": {"version": 0}}, upsert=True
        )
        wanted: Document = {"_id": feed} if anyway else {"_id": feed, "origin": None}
        await self._collection.update_one(
            wanted, {"$set": {"origin": asdict(origin) | {"key": list(origin.key)}}}
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
        await self._collection.update_one(
            {"_id": feed},
            {
                "$set": {"last_poll_at": now, "last_error": error, "failures": 0, "retry_at": None},
                "$setOnInsert": {"version": 0},
            },
            upsert=True,
        )

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
    async def rewind(self, cursor: Cursor, to: Cursor) -> None:
        """Move the cursor to the position of `to`, and drop its open gaps. Raises `CursorMoved`
        where a poll was faster.
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
            },
        )
        if not result.modified_count:
            raise CursorMoved(
                f"feed {cursor.feed}: a poll moved its cursor past version {cursor.version} meanwhile"
            )

    @query
    async def offer(self, feed: str, columns: Sequence[str]) -> None:
        """Record columns of the table besides those agreed: a feed that is resumed sends them."""
        await self._collection.update_one({"_id": feed}, {"$set": {"offered": list(columns)}})

    @query
    async def pause(
        self, feed: str, reason: str, *, sending: bool = False, by: str | None = None
    ) -> None:
        """Pause polling the feed, and unless `sending` also sending it, until it is resumed.

        The first reason stays, unless the new one pauses more. `by`: the operator who does it.
        """
        await self._collection.update_one(
            {"_id": feed}, {"$setOnInsert": {"version": 0}}, upsert=True
        )
        weaker: Document = (
            {"paused": {"$ne": True}}
            if sending
            else {"$or": [{"paused": {"$ne": True}}, {"sends": True}]}
        )
        await self._collection.update_one(
            {"_id": feed, **weaker},
            {"$set": {"paused": True, "paused_reason": reason, "sends": sending, "paused_by": by}},
        )

    @query
    async def pause_sending(self, feed: str, reason: str, *, by: str | None = None) -> None:
        """Pause sending the feed until that is resumed; polling goes on. The first reason stays."""
        await self._collection.update_one(
            {"_id": feed}, {"$setOnInsert": {"version": 0}}, upsert=True
        )
        wanted: Document = {"_id": feed, "sending_paused": None}
        await self._collection.update_one(
            wanted, {"$set": {"sending_paused": reason, "paused_by": by}}
        )

    @query
    async def resume(self, feed: str) -> bool:
        """Undo every pause. Returns whether the feed was paused."""
        result = await self._collection.update_one(
            {"_id": feed, "$or": [{"paused": True}, _SENDING_PAUSED]},
            {
                "$set": {"paused": False, "failures": 0, "retry_at": None},
                "$unset": {
                    "paused_reason": "",
                    "sends": "",
                    "sending_paused": "",
                    "paused_by": "",
                    "refused": "",
                },
                "$inc": {"resumes": 1},
            },
        )
        return bool(result.modified_count)

    @query
    async def resume_polling(self, feed: str) -> bool:
        """Resume polling; sending stays paused if it is. Returns whether polling was paused."""
        polled: Document = {"$set": {"paused": False, "failures": 0, "retry_at": None}}
        over: Document = {"$unset": {"paused_reason": "", "sends": ""}}
        found = await self._collection.find_one({"_id": feed, "paused": True})
        if found is None:
            return False
        if not found.get("sends"):
            polled["$set"]["sending_paused"] = (
                found.get("sending_paused") or found.get("paused_reason") or "paused"
            )
        seen: Document = {"_id": feed, "paused": True, "paused_reason": found.get("paused_reason")}
        return bool((await self._collection.update_one(seen, polled | over)).modified_count)

    @query
    async def resume_sending(self, feed: str) -> bool:
        """Resume sending; polling stays paused if it is. Returns whether sending was paused."""
        over: Document = {"$unset": {"sending_paused": "", "refused": ""}, "$inc": {"resumes": 1}}
        both: Document = {"_id": feed, "paused": True, "sends": {"$ne": True}}
        if (
            await self._collection.update_one(both, over | {"$set": {"sends": True}})
        ).modified_count:
            return True
        return bool(
            (
                await self._collection.update_one({"_id": feed, **_SENDING_PAUSED}, over)
            ).modified_count
        )

    @query
    async def paused(self) -> Sequence[str]:
        """The feeds whose sending is paused."""
        stopped: Document = {"$or": [{"paused": True, "sends": {"$ne": True}}, _SENDING_PAUSED]}
        return [
            document["_id"]
            for document in await self._collection.find(stopped, {"_id": 1}).to_list()
        ]

    @query
    async def refusals(self, feed: str) -> tuple[int, datetime | None]:
        """How many refusals in a row were counted, and when the last was."""
        found = await self._collection.find_one({"_id": feed}, {"refused": 1})
        refused = (found or {}).get("refused") or {}
        return refused.get("count", 0), refused.get("at")

    @query
    async def count_refusals(self, feed: str, count: int, now: datetime, *, begin: bool) -> int:
        """Add to the refusals in a row, or begin a new count. Returns how many there were before."""
        if not begin:
            document = await self._collection.find_one_and_update(
                {"_id": feed, "refused.count": {"$gt": 0}},
                {"$inc": {"refused.count": count}, "$set": {"refused.at": now}},
                return_document=True,
            )
            if document is not None:
                return int(document["refused"]["count"]) - count
        refused: Document = {
            "$set": {"refused": {"count": count, "at": now}},
            "$setOnInsert": {"version": 0},
        }
        await self._collection.update_one({"_id": feed}, refused, upsert=True)
        return 0

    @query
    async def pauses_and_resumes(self) -> tuple[Sequence[str], dict[str, int]]:
        """The feeds whose sending is paused; and feed → how often it was resumed, for those that
        ever were.
        """
        wanted: Document = {"$or": [{"paused": True}, _SENDING_PAUSED, {"resumes": {"$gt": 0}}]}
        fields = {"paused": 1, "sends": 1, "sending_paused": 1, "resumes": 1}
        found = await self._collection.find(wanted, fields).to_list()
        paused = [
            d["_id"]
            for d in found
            if (d.get("paused") and not d.get("sends")) or d.get("sending_paused")
        ]
        return paused, {d["_id"]: d["resumes"] for d in found if d.get("resumes")}
