"""What a reconciliation asks of a source: the port that `app.source.reader.Source` fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from app.core.budget import Reservation
from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Columns, SourceRow
from app.feeds.feed import Feed
from app.source.outside import Outside
from app.source.scan import ScanRange, ScanWindow


class ScannedSource(Protocol):
    """Raises `SourceUnavailable` (worth a retry) or `SourceRefused` (someone must act)."""

    def room(self, feed: Feed) -> Reservation:
        """Memory for rows of the feed: holds nothing yet."""

    async def begin(self, feed: Feed, /, where: int | str, now: datetime) -> Cursor:
        """A cursor that stands at `beginning`, `now` or a position."""

    async def walk(
        self, feed: Feed, /, stretch: ScanRange, after: Position, limit: int, agreed: Columns = ()
    ) -> ScanWindow:
        """The next rows of what a cursor has read, without their payloads."""

    async def count(
        self, feed: Feed, /, stretch: ScanRange, after: Position, size: int
    ) -> tuple[int, Position]:
        """How many of the next rows a walk would give, and how far they reach."""

    async def present(self, feed: Feed, /, keys: Sequence[str]) -> Mapping[str, SourceRow | None]:
        """Which of these keys the source has."""

    async def outside(self, feed: Feed, /, cursor: Cursor) -> Outside:
        """What the cursor does not reach."""

    async def find_all(
        self, feed: Feed, keys: Sequence[str], agreed: Columns = ()
    ) -> tuple[SourceRow, ...]:
        """The rows of these keys, without their payloads."""

    async def find_some(
        self,
        feed: Feed,
        /,
        keys: Sequence[str],
        agreed: Columns = (),
        room: Reservation | None = None,
    ) -> tuple[tuple[SourceRow, ...], int]:
        """The rows of the first of these keys, whole, and how many keys they are of."""
