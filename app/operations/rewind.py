"""Rewind a feed: put its cursor somewhere else, so that rows are read again, or passed over."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.core.clock import Clock, utc_now
from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Page
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.delivery_documents import delivery_id
from app.source.reader import Source


@dataclass(slots=True)
class Reread:
    """What lies beyond a position, counted page by page."""

    rows: int = 0
    known: int = 0
    """Rows that the ledger has already: reading them again changes nothing."""
    complete: bool = True
    """All rows were counted; else there are more."""


def said_position(feed: Feed, position: Position, lowest: Position) -> str:
    """Where a cursor stands, in words. `lowest`: the position in front of all rows."""
    leading = position[0] if isinstance(position, list) else position
    if leading is None:
        return "the beginning (nothing was read yet)"
    return "the beginning" if lowest in (leading, position) else f"{feed.cursor.order} {leading}"


class Rewinding:
    """Looks at what a rewind would do, and does it."""

    def __init__(self, source: Source, ledger: Ledger, now: Clock = utc_now) -> None:
        self._source = source
        self._ledger = ledger
        self._now = now

    async def target(self, feed: Feed, to: int | str) -> Cursor:
        """The cursor at `beginning`, at `now` or at a position (see `CursorSpec.parse_position`)."""
        return await self._source.begin(feed, to, self._now())

    async def lowest(self, feed: Feed) -> Position:
        """The position in front of all rows."""
        return (await self.target(feed, "beginning")).position

    async def purged(self, feed: Feed, target: Cursor) -> Position:
        """Up to which position records may be purged of rows that would be read again, and so delivered again; `None`:
        of none."""
        floor = await self._ledger.purge_watermarks.get(feed.name)
        return floor.position if floor and floor.covers(target.position) else None

    async def reread(self, feed: Feed, target: Cursor, limit: int) -> Reread:
        """Read from there on, at most `limit` rows and a page, and count. Moves and logs nothing."""
        counted = Reread()
        cursor = target
        while True:
            page = await self._source.read_page(feed, cursor, self._now())
            await self._count(feed, page, counted)
            if not page.full:
                return counted
            if counted.rows >= limit:
                counted.complete = False
                return counted
            cursor = replace(cursor, position=page.position, gaps=page.gaps)

    async def rewind(self, feed: Feed, target: Cursor) -> Cursor:
        """Move the cursor there, and drop its gaps. Returns where it stood.

        Raises `CursorMoved` where a poll moves it at the same moment: nothing is done then.
        """
        cursor = await self._ledger.cursors.get(feed.name)
        await self._ledger.cursors.rewind(cursor, target)
        return cursor

    async def _count(self, feed: Feed, page: Page, counted: Reread) -> None:
        counted.rows += len(page.rows)
        counted.known += await self._ledger.deliveries.known([delivery_id(feed.name, row) for row in page.rows])
