"""`notifications`: one document for each event that is on, or was recently; and one with the time
of the last check.

    {_id: "<event>|<subject>", event, subject, said, began_at, seen_at, told, message {kind, number, at}, remind_at,
     over_at, sending {<way>: {state, tries, at, error}}, retry_at}
    {_id: "looked", looked_at}

The process that finds the event first inserts the document: its id sees to that. Each later message
is owed by a conditional update on the number of the one before, so however many processes check at
once, each is owed once. `app/ledger/outbox.py` says how it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pymongo import ReturnDocument
from pymongo import errors as driver

from app.core.clock import AGREED, LONG_AGO
from app.core.events import Found
from app.ledger.client import Database, Document, query
from app.ledger.outbox import Outbox, owing

LOOKED = "looked"


class Message(StrEnum):
    """The kinds of message about an event."""

    BEGAN = "began"
    REMINDER = "reminder"
    """It is still on."""
    OVER = "over"


class Notifications(Outbox):
    """Every query on `notifications`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database["notifications"])

    @query
    async def take_turn(self, now: datetime, apart: timedelta) -> bool:
        """Whether this process makes the check now: none was made within `apart`. A time in the
        future is a wrong clock's.
        """
        late: list[Document] = [
            {"looked_at": {"$lte": now - apart}},
            {"looked_at": {"$gt": now + AGREED}},
        ]
        wanted = {"_id": LOOKED, "$or": late}
        try:
            await self._collection.update_one(wanted, {"$set": {"looked_at": now}}, upsert=True)
        except driver.DuplicateKeyError:  # a check was made recently
            return False
        return True

    @query
    async def looked_at(self) -> datetime | None:
        """When the last check was made; `None`: never."""
        found = await self._collection.find_one({"_id": LOOKED})
        return found["looked_at"] if found else None

    @query
    async def kept(self) -> list[Document]:
        """The events that are on, and those that were recently, by id."""
        return await self._collection.find({"_id": {"$ne": LOOKED}}).sort("_id", 1).to_list()

    @query
    async def begin(self, found: Found, now: datetime) -> Document | None:
        """Record that an event has begun, or begun again. `None`: it is recorded as on already."""
        begun = {"said": found.said, "began_at": now, "seen_at": now, "told": False}
        named = {"event": found.event.value, "subject": found.subject}
        try:
            return await self._collection.find_one_and_update(
                {"_id": found.id, "over_at": {"$gt": LONG_AGO}},
                {
                    "$set": begun,
                    "$setOnInsert": named,
                    "$unset": dict.fromkeys(("over_at", "sending", "retry_at", "remind_at"), ""),
                },
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        except driver.DuplicateKeyError:
            return None

    @query
    async def see(self, found: Found, now: datetime) -> None:
        """Record that an event is still on, and what is to be said of it now."""
        await self._collection.update_one(
            {"_id": found.id, "over_at": None}, {"$set": {"said": found.said, "seen_at": now}}
        )

    @query
    async def say(
        self,
        stored: Document,
        message: Message,
        ways: Sequence[str],
        now: datetime,
        remind_at: datetime,
    ) -> bool:
        """Owe a message about an event that is on, in place of the one before. `False`: another
        process was faster.
        """
        number = number_of(stored)
        said = {"kind": message.value, "number": number + 1, "at": now}
        result = await self._collection.update_one(
            {"_id": stored["_id"], "over_at": None, "message.number": number or None},
            {"$set": {"message": said, "told": True, "remind_at": remind_at} | owing(ways, now)},
        )
        return bool(result.modified_count)

    @query
    async def end(self, stored: Document, ways: Sequence[str], now: datetime) -> bool:
        """Record that an event is over, and owe the all-clear if people were told of it.

        `False`: another process was faster, or has found the event again.
        """
        number = number_of(stored)
        over: Document = {"over_at": now}
        if stored["told"]:
            over |= {
                "message": {"kind": Message.OVER.value, "number": number + 1, "at": now}
            } | owing(ways, now)
        result = await self._collection.update_one(
            {
                "_id": stored["_id"],
                "over_at": None,
                "seen_at": stored["seen_at"],
                "told": stored["told"],
                "message.number": number or None,
            },
            {"$set": over, "$unset": {"remind_at": ""}},
        )
        return bool(result.modified_count)

    @query
    async def forget(self, before: datetime) -> None:
        """Delete events that were over by then."""
        await self._collection.delete_many({"over_at": {"$lt": before}})


def number_of(stored: Document) -> int:
    """How many messages about the event there have been."""
    return int(stored.get("message", {}).get("number", 0))
