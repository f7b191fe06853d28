"""`archives`: one document for each archive file: what it holds, and how far the deletion of that
has come.

    {_id: "orders/orders-2026-01-31.ndjson.zst", feed, day, part, state, open, count, attempts,
    bytes, sha256,
     first_id, last_id, begun_at, verified_at, done_at}

A file is noted before it is begun, and a feed has one open file at a time: the holder of its purge
lock sees to that. Only what a verified file holds is deleted, so a purge that is taken over
continues with the very same set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from enum import StrEnum

from app.ledger.attempts import insert_ignoring_duplicates
from app.ledger.client import Collection, Database, Document, query
from app.ledger.ids import ids_under


class PartState(StrEnum):
    """How far an archive file has come."""

    WRITING = "writing"
    """It may not exist, and nothing it holds is deleted."""
    VERIFIED = "verified"
    """It exists, and what it holds is being deleted."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class ArchivePart:
    """One archive file of a feed's day: the first, or a later one for what was purged later."""

    feed: str
    day: date
    number: int = 1

    @property
    def name(self) -> str:
        """The file, from the archive's directory on."""
        number = f"-{self.number}" if self.number > 1 else ""
        return f"{self.feed}/{self.feed}-{self.day.isoformat()}{number}.ndjson.zst"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive file holds."""

    count: int
    """Deliveries, one a line."""
    attempts: int
    bytes: int
    """Of the file on disk."""
    sha256: str
    """Of the same."""
    first_id: str
    last_id: str


@dataclass(frozen=True, slots=True)
class Noted:
    """The ledger's record of a file."""

    part: ArchivePart
    state: PartState
    contents: Contents | None
    """`None` while it is being written."""


class Archives:
    """Every query on `archives`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["archives"]

    @query
    async def open(self, feed: str) -> list[Noted]:
        """The feed's files that are not finished."""
        found = await self._collection.find({"feed": feed, "open": True}).to_list()
        return [_noted(document) for document in found]

    @query
    async def get(self, part: ArchivePart) -> Noted | None:
        """A file; `None` where the ledger knows none of that name."""
        document = await self._collection.find_one({"_id": part.name})
        return _noted(document) if document else None

    @query
    async def of_feed(self, feed: str) -> list[Noted]:
        """Every file of the feed, by name."""
        found = self._collection.find({"_id": ids_under(f"{feed}/")}).sort("_id", 1)
        return [_noted(document) for document in await found.to_list()]

    @query
    async def begin(self, part: ArchivePart, now: datetime) -> None:
        """Note a file that is about to be written."""
        document = {
            "_id": part.name,
            "feed": part.feed,
            "day": part.day.isoformat(),
            "part": part.number,
            "state": PartState.WRITING.value,
            "open": True,
            "begun_at": now,
        }
        await insert_ignoring_duplicates(self._collection, [document])

    @query
    async def verified(self, part: ArchivePart, contents: Contents, now: datetime) -> None:
        """Note that the file exists, and what it holds."""
        verified = {"state": PartState.VERIFIED.value, "verified_at": now, **asdict(contents)}
        await self._collection.update_one(
            {"_id": part.name, "state": PartState.WRITING.value}, {"$set": verified}
        )

    @query
    async def done(self, part: ArchivePart, now: datetime) -> None:
        """Note that nothing the file holds is left to delete."""
        done = {"state": PartState.DONE.value, "open": False, "done_at": now}
        await self._collection.update_one({"_id": part.name}, {"$set": done})

    @query
    async def drop(self, part: ArchivePart) -> None:
        """Delete the note of a file that was never finished."""
        await self._collection.delete_one({"_id": part.name, "state": PartState.WRITING.value})

    @query
    async def give_up(self, feed: str, now: datetime) -> int:
        """Close the feed's open files: it is no longer archived. Returns how many there were."""
        done = {"state": PartState.DONE.value, "open": False, "done_at": now}
        verified = await self._collection.update_many(
            {"feed": feed, "open": True, "state": PartState.VERIFIED.value}, {"$set": done}
        )
        unfinished = await self._collection.delete_many({"feed": feed, "open": True})
        return verified.modified_count + unfinished.deleted_count


def _noted(document: Document) -> Noted:
    part = ArchivePart(document["feed"], date.fromisoformat(document["day"]), document["part"])
    fields = ("count", "attempts", "bytes", "sha256", "first_id", "last_id")
    contents = (
        Contents(**{field: document[field] for field in fields}) if "sha256" in document else None
    )
    return Noted(part, PartState(document["state"]), contents)
