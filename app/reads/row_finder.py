"""What a preview or a trial asks of a source: the port that `app.source.reader.Source` fills."""

from __future__ import annotations

from typing import Protocol

from app.core.rows import Columns, SourceRow
from app.feeds.feed import Feed
from app.source.lookup import Found


class RowFinder(Protocol):
    """Raises `SourceUnavailable` (worth a retry) or `SourceRefused` (someone must act)."""

    async def find(self, feed: Feed, key: str, agreed: Columns = ()) -> Found | None:
        """The row of that key; `None` where there is none."""

    async def latest(self, feed: Feed, agreed: Columns = ()) -> tuple[SourceRow, ...]:
        """The newest rows that a poll would give, newest first."""
