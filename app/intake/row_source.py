"""What a poll asks of a source: the port that `app.source.reader.Source` fills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from app.core.budget import Reservation
from app.core.cursors import Cursor
from app.core.rows import Columns, Page, SourceRow
from app.feeds.feed import Feed


class RowSource(Protocol):
    """Raises `SourceUnavailable` (worth a retry) or `SourceRefused` (someone must act)."""

    def room(self, feed: Feed) -> Reservation:
        """Memory for a page of the feed: holds nothing yet."""

    async def read_page(
        self, feed: Feed, /, cursor: Cursor, now: datetime, room: Reservation | None = None
    ) -> Page:
        """The feed's next rows, and where the cursor stands behind them."""

    async def find_all(
        self, feed: Feed, keys: Sequence[str], agreed: Columns = ()
    ) -> tuple[SourceRow, ...]:
        """The rows of these keys, without their payloads."""
