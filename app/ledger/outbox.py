"""What is owed to people: the fields that reports and notifications share, and every query on them.

    sending {<way>: {state, tries, at, error}}, retry_at

`retry_at` is set while a sending is owed: when it is tried next. A process first moves it by a
conditional update: that is its claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.core.clock import AGREED
from app.ledger.client import Collection, Document, query


class Sending(StrEnum):
    """The state of a document's sending one way."""

    OWED = "owed"
    SENT = "sent"
    GIVEN_UP = "given up"


OWED: Document = {"state": Sending.OWED.value, "tries": 0}


def owing(ways: Iterable[str], now: datetime) -> Document:
    """The fields that owe a document these ways; none for no ways."""
    fields: Document = {f"sending.{way}": OWED for way in ways}
    return fields | {"retry_at": now} if fields else {}


class Outbox:
    """The queries on a collection whose documents are sent."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    @query
    async def owe(self, document_id: str, ways: Sequence[str], now: datetime) -> None:
        """Owe the document these ways, from now on, whatever was sent before."""
        if ways:
            await self._collection.update_one({"_id": document_id}, {"$set": owing(ways, now)})

    @query
    async def owed(self, now: datetime, limit: int, longest: timedelta) -> list[Document]:
        """Documents with a sending that is due, the longest due first; and those put off beyond the
        `longest` wait, by a wrong clock.
        """
        wanted = {
            "$or": [{"retry_at": {"$lte": now}}, {"retry_at": {"$gt": now + longest + AGREED}}]
        }
        found = self._collection.find(wanted).sort("retry_at", 1).limit(limit)
        return await found.to_list()

    @query
    async def claim(self, document: Document, until: datetime) -> bool:
        """Claim a document for sending until then. `False`: another process was faster."""
        result = await self._collection.update_one(
            {"_id": document["_id"], "retry_at": document["retry_at"]},
            {"$set": {"retry_at": until}},
        )
        return bool(result.modified_count)

    @query
    async def note_sent(
        self, document_id: str, claimed_until: datetime, way: str, now: datetime
    ) -> None:
        """Record that it was sent that way. A no-op where it was changed, or owed again, meanwhile."""
        await self._collection.update_one(
            {"_id": document_id, "retry_at": claimed_until},
            {
                "$set": {f"sending.{way}.state": Sending.SENT.value, f"sending.{way}.at": now},
                "$inc": {f"sending.{way}.tries": 1},
                "$unset": {f"sending.{way}.error": ""},
            },
        )

    @query
    async def note_failed(
        self,
        document_id: str,
        claimed_until: datetime,
        way: str,
        error: str,
        now: datetime,
        *,
        give_up: bool,
    ) -> None:
        """Record why it could not be sent that way; `give_up`: it is not tried again.

        A no-op where it was changed, or owed again, meanwhile.
        """
        state = Sending.GIVEN_UP if give_up else Sending.OWED
        noted: dict[str, Any] = {"state": state.value, "at": now, "error": error}
        await self._collection.update_one(
            {"_id": document_id, "retry_at": claimed_until},
            {
                "$set": {f"sending.{way}.{name}": value for name, value in noted.items()},
                "$inc": {f"sending.{way}.tries": 1},
            },
        )

    @query
    async def next_try(
        self, document_id: str, claimed_until: datetime, at: datetime | None
    ) -> None:
        """Set when it is tried next; `None`: never. A no-op where it was owed again meanwhile."""
        change: Document = {"$set": {"retry_at": at}} if at else {"$unset": {"retry_at": ""}}
        await self._collection.update_one({"_id": document_id, "retry_at": claimed_until}, change)
