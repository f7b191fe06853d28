"""What a certificate says besides its rows: what the feed's cursor does not reach, and whether
anything reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from app.core.certificates import MISSING_NAMED, Certificate, Discrepancy, DiscrepancyKind
from app.core.cursors import Cursor, Origin
from app.core.states import State
from app.feeds.feed import Feed
from app.source.catalogue import other_source
from app.source.outside import Outside, Rows

UNREAD_AFTER = timedelta(minutes=15)
"""A feed counts as unread when its last poll is longer ago than this and than ten of its intervals.
"""


def of_cursor(
    feed: Feed, cursor: Cursor, outside: Outside, in_gaps: tuple[int, Sequence[str]], now: datetime
) -> Iterator[Discrepancy]:
    """What the cursor does not reach, and will not by itself. `in_gaps`: number and ids of rows in
    open gaps; they wait too while the feed is not polled.
    """
    if found := _rows(feed, DiscrepancyKind.NO_CURSOR_VALUE, outside.unordered):
        yield found
    lowest = cursor.lowest[0] if isinstance(cursor.lowest, list) else cursor.lowest
    if found := _rows(feed, DiscrepancyKind.BELOW_START, outside.below, f"{lowest}"):
        yield found
    ahead = outside.ahead if outside.ahead and outside.ahead.certain else None
    if ahead:
        yield Discrepancy(DiscrepancyKind.AHEAD, 1, note=ahead.reason)
    unread = why_unread(feed, cursor, now)
    if unread and (outside.waiting.keys or outside.waiting.more or in_gaps[0]):
        ids = (*in_gaps[1], *(f"{feed.name}:{key}" for key in outside.waiting.keys))
        count = in_gaps[0] + len(outside.waiting.keys)
        yield Discrepancy(
            DiscrepancyKind.WAITING, count, ids[:MISSING_NAMED], unread, more=outside.waiting.more
        )
    if unread and outside.columns:
        names = ", ".join(map(repr, outside.columns))
        yield Discrepancy(
            DiscrepancyKind.UNSENT_COLUMNS, len(outside.columns), note=f"{names}; {unread}"
        )


def why_unread(feed: Feed, cursor: Cursor, now: datetime) -> str | None:
    """Why no poll reads the waiting rows; `None` where one will, as far as is known."""
    if cursor.paused:
        return f"paused: {cursor.paused_reason or 'no reason is on record'}"
    if cursor.failures:
        return f"{cursor.failures} polls in a row failed: {cursor.last_error}"
    if cursor.last_poll_at is None:
        return "it was never polled"
    if now - cursor.last_poll_at > max(UNREAD_AFTER, 10 * feed.poll_every):
        return f"it was last polled at {cursor.last_poll_at:%Y-%m-%d %H:%M} UTC"
    return None


def of_other_source(
    feed: Feed, origin: Origin, total: int, ids: Sequence[str], begun_at: datetime
) -> Certificate:
    """The certificate of a feed whose deliveries came from another source than it reads: it vouches
    for nothing.
    """
    found = Discrepancy(
        DiscrepancyKind.OTHER_SOURCE,
        total,
        tuple(ids[:MISSING_NAMED]),
        note=other_source(feed, origin),
    )
    return _of_nothing(feed.name, begun_at, found)


def of_removed(name: str, owed: int, ids: Sequence[str], begun_at: datetime) -> Certificate:
    """The certificate of a feed that `feeds.toml` no longer names: what is still owed, and not
    being sent.
    """
    found = Discrepancy(DiscrepancyKind.REMOVED, owed, tuple(ids[:MISSING_NAMED])) if owed else None
    return _of_nothing(name, begun_at, *([found] if found else []))


def _of_nothing(name: str, begun_at: datetime, *found: Discrepancy) -> Certificate:
    at = begun_at.replace(microsecond=begun_at.microsecond // 1000 * 1000)
    return Certificate(name, at, None, 0, dict.fromkeys(State, 0), begun_at=at, discrepancies=found)


def _rows(feed: Feed, kind: DiscrepancyKind, rows: Rows, note: str = "") -> Discrepancy | None:
    if not rows.keys and not rows.more:
        return None
    ids = tuple(f"{feed.name}:{key}" for key in rows.keys[:MISSING_NAMED])
    return Discrepancy(kind, len(rows.keys), ids, note, more=rows.more)
