"""`floors`: one document a feed: its purge watermark, below which records may have been purged.

{_id: feed, logged_before, position, version}

A watermark is raised before the first record below it is deleted, and never lowered. So a
comparison of the source with the ledger reads the watermark after the ledger, or again before
acting on missing rows: a record purged meanwhile is then below the watermark that was read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from app.core.position import Position
from app.ledger.client import Collection, Database, Document, query

_WITH_OFFSET = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.\d+)? ?([+-])(\d\d):(\d\d)")
_REAL = "real"
"""The tag of a number with a fraction: see `app/source/position_codec.py`."""
Place: TypeAlias = "tuple[int, float | str]"
"""A position in a comparable form: numbers before texts; of a list, its leading part, the column's
value.
"""


@dataclass(frozen=True, slots=True)
class PurgeWatermark:
    """The point below which a feed's records may be gone, though their rows were logged."""

    feed: str
    logged_before: datetime
    """Every delivery with `created_at` before this may be gone."""
    position: Position = None
    """The highest position among the records purged; `None` where none had one."""

    def covers(self, position: Position) -> bool:
        """Whether the record of a source row at this position may have been purged.

        Of a composite position only the leading part counts (the version, the moment), so rows that
        share it are covered together: how the source orders the parts of a key is its own affair.
        """
        place, limit = place_of(position), place_of(self.position)
        return place is not None and limit is not None and place <= limit


def place_of(position: Position) -> Place | None:
    """A position in the order of its strategy; `None` where it has none.

    Ids compare as numbers, versions (`0x` and 16 digits) and moments (ISO 8601) as text; one with
    an offset as its moment in UTC, since rows may hold different offsets.
    """
    leading = position[0] if isinstance(position, list) and position else position
    if isinstance(leading, int):
        return 0, leading
    if isinstance(leading, list) and leading[0] == _REAL:
        return 0, float(str(leading[1]))
    return (1, _in_utc(leading)) if isinstance(leading, str) else None


def _in_utc(text: str) -> str:
    """A moment with an offset in UTC, with all its digits; any other text as it is."""
    found = _WITH_OFFSET.fullmatch(text)
    if found is None:
        return text
    whole, fraction, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    try:
        moment = datetime.fromisoformat(whole) - (offset if sign == "+" else -offset)
    except (ValueError, OverflowError):
        return text
    return moment.isoformat(" ", "seconds") + (fraction or "")


def higher(one: Position, other: Position) -> Position:
    """The higher of two positions; the first where they are equal."""
    ours, theirs = place_of(one), place_of(other)
    if ours is None or theirs is None:
        return other if ours is None else one
    return one if ours >= theirs else other


class PurgeWatermarks:
    """Every query on `floors`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["floors"]

    @query
    async def get(self, feed: str) -> PurgeWatermark | None:
        """The feed's watermark; `None` where nothing of it was ever purged."""
        document = await self._collection.find_one({"_id": feed})
        return _watermark(document) if document else None

    @query
    async def raise_to(
        self, feed: str, logged_before: datetime, position: Position
    ) -> PurgeWatermark:
        """Raise the feed's watermark to at least this, and return it as it then is."""
        while True:
            document = await self._collection.find_one({"_id": feed})
            if document is None:
                await self._begin(feed, logged_before, position)
                continue
            watermark = _watermark(document)
            raised = PurgeWatermark(
                feed,
                max(watermark.logged_before, logged_before),
                higher(watermark.position, position),
            )
            if raised == watermark:
                return watermark
            result = await self._collection.update_one(
                {"_id": feed, "version": document["version"]},
                {
                    "$set": {"logged_before": raised.logged_before, "position": raised.position},
                    "$inc": {"version": 1},
                },
            )
            if result.modified_count:
                return raised

    async def _begin(self, feed: str, logged_before: datetime, position: Position) -> None:
        """Store a feed's first watermark; a no-op where another process was faster."""
        await self._collection.update_one(
            {"_id": feed},
            {"$setOnInsert": {"logged_before": logged_before, "position": position, "version": 0}},
            upsert=True,
        )


def _watermark(document: Document) -> PurgeWatermark:
    return PurgeWatermark(document["_id"], document["logged_before"], document["position"])
