"""`reports`: one document a feed and period; a report of all feeds has the feed `*`.

    {_id: "<feed>|<period>", feed, kind, period, start, end, report {…},
     revised {count, at, changes [{field, was, now}]}, sending {<way>: {state, tries, at, error}},
     retry_at}

`report` is the report as JSON (see `app/reports/record.py`). Storing an equal one changes nothing.
One that differs takes its place and is recorded in `revised`. How it is sent: see
`app/ledger/outbox.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo import errors as driver

from app.ledger.client import Database, Document, query
from app.ledger.ids import ids_under
from app.ledger.indexes import BY_ID
from app.ledger.outbox import OWED, Outbox, owing
from app.ledger.selection import all_of

CHANGES_KEPT = 50
_HEADLINE = dict.fromkeys(
    ("feed", "kind", "period", "start", "end", "revised.count", "report.totals"), 1
)


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


class Reports(Outbox):
    """Every query on `reports`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database["reports"])

    @query
    async def get(self, feed: str, period: str) -> Document | None:
        """The report of that feed (`*`: all) and period, as stored."""
        return await self._collection.find_one({"_id": f"{feed}|{period}"})

    @query
    async def page(
        self, feed: str, kind: str | None, prefix: str, before: str | None, size: int
    ) -> list[Document]:
        """The feed's reports whose period begins with `prefix`, before that period, the latest first
        by name; of each the headline alone."""
        ids: Document = ids_under(f"{feed}|")
        if prefix:
            ids |= {"$gte": f"{feed}|{prefix}", "$lt": f"{feed}|{prefix}\uffff"}
        behind: Document = {"_id": {"$lt": f"{feed}|{before}"}} if before else {}
        wanted = all_of([{"_id": ids}, behind, {"kind": kind} if kind else {}])
        found = self._collection.find(wanted, _HEADLINE).hint(BY_ID).sort("_id", -1)
        return await found.limit(size).to_list()

    @query
    async def insert(
        self, key: ReportKey, report: Document, owed: Sequence[str], now: datetime
    ) -> bool:
        """Store a report for the first time, to be sent on the ways `owed`. `False`: there is one,
        which stays.
        """
        document = {
            "_id": key.id, "feed": key.feed, "kind": key.kind, "period": key.period, "start": key.start, "end": key.end,
            "report": report,
        }  # fmt: skip
        if owed:
            document |= {"sending": dict.fromkeys(owed, OWED), "retry_at": now}
        try:
            await self._collection.insert_one(document)
        except driver.DuplicateKeyError:
            return False
        return True

    @query
    async def revise(
        self, stored: Document, report: Document, revised: Revised, owed: Sequence[str]
    ) -> bool:
        """Put another result in the stored one's place, to be sent on the ways `owed`.

        `False`: another process was faster.
        """
        marked = {
            "count": revised.count,
            "at": revised.at,
            "changes": list(revised.changes)[:CHANGES_KEPT],
        }
        result = await self._collection.update_one(
            {"_id": stored["_id"], "revised.count": revised.count - 1 or None},
            {"$set": {"report": report, "revised": marked} | owing(owed, revised.at)},
        )
        return bool(result.modified_count)

    @query
    async def upgrade(self, stored: Document, report: Document) -> bool:
        """Put the same figures, with the fields of a newer version, in the stored one's place: no
        revision, and nothing is sent. `False`: another process was faster.
        """
        result = await self._collection.update_one(
            {
                "_id": stored["_id"],
                "revised.count": stored["revised"]["count"] if stored.get("revised") else None,
                "report.version": stored["report"].get("version"),
            },
            {"$set": {"report": report}},
        )
        return bool(result.modified_count)
