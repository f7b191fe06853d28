"""What is to be sent to people: the fields that a report and a notification share, and every query on them.

    sending {<way>: {state, tries, at, error}}, retry_at

`retry_at` is there while a sending is owed: when it is tried next. Whoever tries moves it first, by a conditional
update: that is the claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.core.clock import AGREED
from app.ledger.client import Collection, Document, query


class Sending(StrEnum):
    """Where a document stands on one way out."""

    OWED = "owed"
    SENT = "sent"
    GIVEN_UP = "given up"


OWED: Document = {"state": Sending.OWED.value, "tries": 0}


def owing(ways: Iterable[str], now: datetime) -> Document:
    """The fields that say so; none for no ways."""
    fields: Document = {f"sending.{way}": OWED for way in ways}
    return fields | {"retry_at": now} if fields else {}


class Outbox:
    """The queries on a collection whose documents are sent."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    @query
    async def owe(self, document_id: str, ways: Sequence[str], now: datetime) -> None:
        """Note that it is to be sent on these ways, from now on, whatever was sent before."""
        if ways:
            await self._collection.update_one({"_id": document_id}, {"$set": owing(ways, now)})

    @query
    async def owed(self, now: datetime, limit: int, longest: timedelta) -> list[Document]:
        """What has a sending whose time has come, the longest due first; and what waits for longer than the `longest`
        that one does, which a clock that was wrong has put off.
        """
        wanted = {"$or": [{"retry_at": {"$lte": now}}, {"retry_at": {"$gt": now + longest + AGREED}}]}
        found = self._collection.find(wanted).sort("retry_at", 1).limit(limit)
        return await found.to_list()

    @query
    async def claim(self, document: Document, until: datetime) -> bool:
        """Take it for sending: nobody else does so before `until`. `False`: somebody was faster."""
        result = await self._collection.update_one(
            {"_id": document["_id"], "retry_at": document["retry_at"]}, {"$set": {"retry_at": until}}
        )
        return bool(result.modified_count)

    @query
    async def note_sent(self, document_id: str, claimed_until: datetime, way: str, now: datetime) -> None:
        """It went out on that way. Changes nothing where it was changed, or owed anew, meanwhile."""
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
        self, document_id: str, claimed_until: datetime, way: str, error: str, now: datetime, *, give_up: bool
    ) -> None:
        """It did not go out on that way, and why; `give_up`: it is not tried again.

        Changes nothing where it was changed, or owed anew, meanwhile.
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
    async def next_try(self, document_id: str, claimed_until: datetime, at: datetime | None) -> None:
        """Say when it is sent next; `None`: never. Changes nothing where it was owed anew meanwhile."""
        change: Document = {"$set": {"retry_at": at}} if at else {"$unset": {"retry_at": ""}}
        await self._collection.update_one({"_id": document_id, "retry_at": claimed_until}, change)
