"""How many more of a feed's rows may be logged: `max_backlog`, less those that are open."""

from __future__ import annotations

from datetime import datetime, timedelta

from app.core.clock import Clock
from app.core.cursors import Cursor
from app.feeds.feed import Feed
from app.ledger import Ledger

KNOWN_FOR = timedelta(seconds=20)
"""For so long it is known what room there was: a poll of several pages does not ask for each, nor
does each of the polls of a feed that has a row now and then.
"""


async def backlog(feed: Feed, ledger: Ledger) -> int:
    """How many deliveries of the feed are open: never too few, so that the bound holds."""
    return await ledger.batches.owed(feed.name) + await ledger.backlog.retrying(
        feed.name, feed.max_backlog
    )


class Backlog:
    """What one process knows of one feed's. A poll that finds no rows never asks.

    Polls never log more than there was room for when the ledger was asked: what is logged here is
    taken off, and where another process has moved the cursor meanwhile, nothing is known.
    """

    def __init__(self, ledger: Ledger, now: Clock) -> None:
        self._ledger = ledger
        self._now = now
        self._room = 0
        """Rows, as far as known; what was logged since is taken off."""
        self._asked_at: datetime | None = None
        self._version: int | None = None
        """The cursor's, as the last poll of this process left it."""

    def begin(self, cursor: Cursor) -> None:
        """A poll begins at that cursor."""
        age = None if self._asked_at is None else self._now() - self._asked_at
        fresh = age is not None and timedelta() <= age < KNOWN_FOR
        if not fresh or cursor.version != self._version:
            self._room = 0
        self._version = None

    async def is_used_up(self, feed: Feed) -> bool:
        """Asks the ledger where there is no room as far as known."""
        if self._room <= 0:
            self._asked_at = self._now()
            self._room = feed.max_backlog - await backlog(feed, self._ledger)
        return self._room <= 0

    def take(self, rows: int) -> None:
        """So many are being logged."""
        self._room -= rows

    def end(self, cursor: Cursor) -> None:
        """The page is logged; the cursor is now there. Where this is not said, nothing is known."""
        self._version = cursor.version
