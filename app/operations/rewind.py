"""Rewind a feed: put its cursor somewhere else, so that rows are read again, or passed over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from app.core.clock import Clock, utc_now
from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Page
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.delivery_documents import delivery_id
from app.operations.by import By
from app.source.reader import Source

log = structlog.get_logger()

COUNTED = 10_000
"""Rows that a preview counts, at most and a page."""


@dataclass(frozen=True, slots=True)
class Reread:
    """What lies beyond a position, counted page by page."""

    rows: int = 0
    known: int = 0
    """Rows that the ledger has already: reading them again changes nothing."""
    complete: bool = True
    """All rows were counted; else there are more."""


@dataclass(frozen=True, slots=True)
class Rewound:
    """Where a cursor stood, and where a rewind moved it, or would."""

    stood: Position
    stands: Position
    stood_said: str
    stands_said: str
    reread: Reread | None
    """Of a preview: what would be read."""


def said_position(feed: Feed, position: Position, lowest: Position) -> str:
    """Where a cursor stands, in words. `lowest`: the position in front of all rows."""
    leading = position[0] if isinstance(position, list) else position
    if leading is None:
        return "the beginning (nothing was read yet)"
    return "the beginning" if lowest in (leading, position) else f"{feed.cursor.order} {leading}"


class Rewinding:
    """Looks at what a rewind would do, and does it.

    `to` is `beginning`, `now` or a position of the feed's strategy (see
    `CursorSpec.parse_position`).
    """

    def __init__(self, source: Source, ledger: Ledger, now: Clock = utc_now) -> None:
        self._source = source
        self._ledger = ledger
        self._now = now

    async def preview(self, feed: Feed, to: int | str) -> Rewound:
        """What a rewind would do; moves nothing. Raises the errors of the source and the ledger."""
        target = await self.target(feed, to)
        reread = await self.reread(feed, target, COUNTED)
        return await self._rewound(feed, await self._ledger.cursors.get(feed.name), target, reread)

    async def rewind(self, feed: Feed, to: int | str, by: By) -> Rewound:
        """Move the cursor there, and drop its gaps.

        Raises `CursorMoved` where a poll moves it at the same moment: nothing is done then. Else as
        `preview` does.
        """
        target = await self.target(feed, to)
        before = await self._ledger.cursors.get(feed.name)
        rewound = await self._rewound(feed, before, target)
        told = f"from {rewound.stood_said} to {rewound.stands_said}"
        await self._ledger.cursors.rewind(before, target, told, by.at(self._now()))
        log.info(
            "feed_rewound",
            feed=feed.name,
            before=before.position,
            now=target.position,
            by=by.who,
            why=by.why,
        )
        return rewound

    async def delivered_again(self, feed: Feed, to: int | str) -> str | None:
        """Up to where records may be purged of rows that would be read again, and so delivered
        again, in words; `None`: of none. Raises the errors of the source and the ledger."""
        target = await self.target(feed, to)
        watermark = await self._ledger.purge_watermarks.get(feed.name)
        if watermark is None or not watermark.covers(target.position):
            return None
        return said_position(feed, watermark.position, None)

    async def target(self, feed: Feed, to: int | str) -> Cursor:
        """The cursor as it would then be."""
        return await self._source.begin(feed, to, self._now())

    async def reread(self, feed: Feed, target: Cursor, limit: int) -> Reread:
        """Read from there on, at most `limit` rows and a page, and count. Moves and logs nothing."""
        counted, cursor = Reread(), target
        while True:
            page = await self._source.read_page(feed, cursor, self._now())
            known = await self._known(feed, page)
            counted = replace(
                counted, rows=counted.rows + len(page.rows), known=counted.known + known
            )
            if not page.full:
                return counted
            if counted.rows >= limit:
                return replace(counted, complete=False)
            cursor = replace(cursor, position=page.position, gaps=page.gaps)

    async def _known(self, feed: Feed, page: Page) -> int:
        return await self._ledger.deliveries.known(
            [delivery_id(feed.name, row) for row in page.rows]
        )

    async def _rewound(
        self, feed: Feed, before: Cursor, target: Cursor, reread: Reread | None = None
    ) -> Rewound:
        lowest = (await self.target(feed, "beginning")).position
        stood, stands = (
            said_position(feed, cursor.position, lowest) for cursor in (before, target)
        )
        return Rewound(before.position, target.position, stood, stands, reread)
