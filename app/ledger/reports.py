"""`reports`: one document a feed and period; a report of all feeds has the feed `*`.

    {_id: "<feed>|<period>", feed, kind, period, start, end, report {…},
     revised {count, at, changes [{field, was, now}]}, sending {<way>: {state, tries, at, error}}, retry_at}

`report` is the report as JSON (see `app/reporting/record.py`). Storing an equal one changes nothing. One that differs
takes its place and is marked in `revised`. `retry_at` is there while a sending is owed: when it is tried next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pymongo import errors as driver

from app.clock import AGREED
from app.ledger.client import Collection, Database, Document, query

CHANGES_KEPT = 50


class Sending(StrEnum):
    """Where a report stands on one way out."""

    OWED = "owed"
    SENT = "sent"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class ReportKey:
    """Which report."""

    feed: str
    """A feed's name, or `*` for all."""
    kind: str
    period: str
    start: datetime
    end: datetime

    @property
    def id(self) -> str:
        return f"{self.feed}|{self.period}"


@dataclass(frozen=True, slots=True)
class Revised:
    """That a report was compiled again with another result."""

    count: int
    at: datetime
    """The last time."""
    changes: Sequence[Document]
    """What changed then."""


_OWED: Document = {"state": Sending.OWED.value, "tries": 0}


def _owing(ways: Iterable[str], now: datetime) -> Document:
    """The fields that say so; none for no ways."""
    fields: Document = {f"sending.{way}": _OWED for way in ways}
    return fields | {"retry_at": now} if fields else {}


class Reports:
    """Every query on `reports`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["reports"]

    @query
    async def get(self, feed: str, period: str) -> Document | None:
        """The report of that feed (`*`: all) and period, as stored."""
        return await self._collection.find_one({"_id": f"{feed}|{period}"})

    @query
    async def insert(self, key: ReportKey, report: Document, owed: Sequence[str], now: datetime) -> bool:
        """Store a report for the first time, to be sent on the ways `owed`. `False`: there is one, which stays."""
        document = {
            "_id": key.id, "feed": key.feed, "kind": key.kind, "period": key.period, "start": key.start, "end": key.end,
            "report": report,
        }  # fmt: skip
        if owed:
            document |= {"sending": dict.fromkeys(owed, _OWED), "retry_at": now}
        try:
            await self._collection.insert_one(document)
        except driver.DuplicateKeyError:
            return False
        return True

    @query
    async def revise(self, stored: Document, report: Document, revised: Revised, owed: Sequence[str]) -> bool:
        """Put another result in the stored one's place, to be sent on the ways `owed`.

        `False`: somebody else was faster.
        """
        marked = {"count": revised.count, "at": revised.at, "changes": list(revised.changes)[:CHANGES_KEPT]}
        result = await self._collection.update_one(
            {"_id": stored["_id"], "revised.count": revised.count - 1 or None},
            {"$set": {"report": report, "revised": marked} | _owing(owed, revised.at)},
        )
        return bool(result.modified_count)

    # --- sending

    @query
    async def owe(self, report_id: str, ways: Sequence[str], now: datetime) -> None:
        """Note that the report is to be sent on these ways, from now on, whatever was sent before."""
        if ways:
            await self._collection.update_one({"_id": report_id}, {"$set": _owing(ways, now)})

    @query
    async def owed(self, now: datetime, limit: int, longest: timedelta) -> list[Document]:
        """Reports with a sending whose time has come, the longest due first; and those that wait for longer than the
        `longest` that one does, which a clock that was wrong has put off.
        """
        wanted = {"$or": [{"retry_at": {"$lte": now}}, {"retry_at": {"$gt": now + longest + AGREED}}]}
        found = self._collection.find(wanted).sort("retry_at", 1).limit(limit)
        return await found.to_list()

    @query
    async def claim(self, report: Document, until: datetime) -> bool:
        """Take the report for sending: nobody else does so before `until`. `False`: somebody was faster."""
        result = await self._collection.update_one(
            {"_id": report["_id"], "retry_at": report["retry_at"]}, {"$set": {"retry_at": until}}
        )
        return bool(result.modified_count)

    @query
    async def note_sent(self, report_id: str, claimed_until: datetime, way: str, now: datetime) -> None:
        """The report went out on that way. Changes nothing where it was revised, or owed anew, meanwhile."""
        await self._collection.update_one(
            {"_id": report_id, "retry_at": claimed_until},
            {
                "$set": {f"sending.{way}.state": Sending.SENT.value, f"sending.{way}.at": now},
                "$inc": {f"sending.{way}.tries": 1},
                "$unset": {f"sending.{way}.error": ""},
            },
        )

    @query
    async def note_failed(
        self, report_id: str, claimed_until: datetime, way: str, error: str, now: datetime, *, give_up: bool
    ) -> None:
        """The report did not go out on that way, and why; `give_up`: it is not tried again.

        Changes nothing where it was revised, or owed anew, meanwhile.
        """
        state = Sending.GIVEN_UP if give_up else Sending.OWED
        noted: dict[str, Any] = {"state": state.value, "at": now, "error": error}
        await self._collection.update_one(
            {"_id": report_id, "retry_at": claimed_until},
            {
                "$set": {f"sending.{way}.{name}": value for name, value in noted.items()},
                "$inc": {f"sending.{way}.tries": 1},
            },
        )

    @query
    async def next_try(self, report_id: str, claimed_until: datetime, at: datetime | None) -> None:
        """Say when the report is sent next; `None`: never. Changes nothing where it was owed anew meanwhile."""
        change: Document = {"$set": {"retry_at": at}} if at else {"$unset": {"retry_at": ""}}
        await self._collection.update_one({"_id": report_id, "retry_at": claimed_until}, change)
