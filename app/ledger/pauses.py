"""Pauses of feeds, and what makes one: the fields of `cursors` (`app/ledger/cursors.py`) that stop a
feed.

`paused`: the feed is not polled, nor sent unless `sends`. `sending_paused`: why an operator paused
sending alone; it is separate, so that polling and sending are paused and resumed independently.
`paused_by`: the operator who made the last pause; nothing where Rowrelay did, or once the feed is
resumed. `refused`: 401s and 403s in a row, which pause a feed. `resumes`: how often it was resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.core.cursors import FeedMoveKind
from app.ledger.client import Collection, Database, Document, query
from app.ledger.cursor_documents import move_pushed
from app.ledger.stamp import Stamp

BOTH = "polling and sending"

_SENDING_PAUSED: Document = {"sending_paused": {"$gt": ""}}


class Pauses:
    """Every query on `cursors` that pauses a feed, resumes it or counts what pauses it."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["cursors"]

    @query
    async def pause(
        self, feed: str, reason: str, *, sending: bool = False, stamp: Stamp | None = None
    ) -> None:
        """Pause polling the feed, and unless `sending` also sending it, until it is resumed.

        The first reason stays, unless the new one pauses more. `stamp`: of the operator who does
        it; `None`: Rowrelay does.
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
            {
                "$set": {
                    "paused": True,
                    "paused_reason": reason,
                    "sends": sending,
                    "paused_by": stamp.by if stamp else None,
                }
            }
            | move_pushed(FeedMoveKind.PAUSED, "polling" if sending else BOTH, stamp),
        )

    @query
    async def pause_sending(self, feed: str, reason: str, *, stamp: Stamp | None = None) -> None:
        """Pause sending the feed until that is resumed; polling goes on. The first reason stays.
        `stamp`: as `pause`.
        """
        await self._collection.update_one(
            {"_id": feed}, {"$setOnInsert": {"version": 0}}, upsert=True
        )
        wanted: Document = {"_id": feed, "sending_paused": None}
        await self._collection.update_one(
            wanted,
            {"$set": {"sending_paused": reason, "paused_by": stamp.by if stamp else None}}
            | move_pushed(FeedMoveKind.PAUSED, "sending", stamp),
        )

    @query
    async def resume(self, feed: str, stamp: Stamp | None = None) -> bool:
        """Undo every pause. `stamp`: of the operator who does. Returns whether the feed was paused."""
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
            }
            | move_pushed(FeedMoveKind.RESUMED, BOTH, stamp),
        )
        return bool(result.modified_count)

    @query
    async def resume_polling(self, feed: str, stamp: Stamp | None = None) -> bool:
        """Resume polling; sending stays paused if it is. Returns whether polling was paused."""
        polled: Document = {"$set": {"paused": False, "failures": 0, "retry_at": None}}
        over: Document = {"$unset": {"paused_reason": "", "sends": ""}}
        over |= move_pushed(FeedMoveKind.RESUMED, "polling", stamp)
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
    async def resume_sending(self, feed: str, stamp: Stamp | None = None) -> bool:
        """Resume sending; polling stays paused if it is. Returns whether sending was paused."""
        over: Document = {"$unset": {"sending_paused": "", "refused": ""}, "$inc": {"resumes": 1}}
        over |= move_pushed(FeedMoveKind.RESUMED, "sending", stamp)
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
