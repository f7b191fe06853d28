"""Where a walk begins: from one that was cut off, or from what the cursor has read."""

from __future__ import annotations

import secrets
from datetime import timedelta

import structlog

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.core.position import Position, ReadRange
from app.feeds.feed import Feed
from app.ledger.scans import Scan
from app.reconcile import bounds
from app.reconcile.run import Means, Since

log = structlog.get_logger()


async def resumed(means: Means, feed: Feed) -> Scan | None:
    """The walk over the whole feed that was cut off, if there is one; it is this run's from now on."""
    token = secrets.token_hex(8)
    walk = await means.ledger.scans.resume(feed.name, token, means.now() - bounds.RESUMED_WITHIN)
    if walk:
        begun_at = walk.begun_at.isoformat()
        log.info("reconciliation_resumed", feed=feed.name, begun_at=begun_at, rows=walk.source_rows)
    return walk


async def begun(means: Means, feed: Feed, since: Since, *, dry_run: bool) -> Scan:
    """A new walk. Raises `SourceRefused` where nobody says from where on to compare."""
    begun_at = means.now()
    cursor, total = await _standing(means, feed)
    after = await _position_of(means, feed, since)
    floor = await means.ledger.purge_watermarks.get(feed.name)
    walk = Scan(
        feed=feed.name,
        token=secrets.token_hex(8),
        begun_at=begun_at,
        position=cursor.position,
        spans=await _spans(means, feed, cursor, after),
        since=after,
        floor=_leading(floor.position) if floor else None,
        total=total,
    )
    if not dry_run:
        await means.ledger.scans.begin(walk, begun_at)
    return walk


async def _standing(means: Means, feed: Feed) -> tuple[Cursor, int | None]:
    """The cursor, and how many deliveries there were at that moment; `None` where a poll moved it meanwhile."""
    for _ in range(3):
        before = await means.ledger.cursors.get(feed.name)
        total = await means.ledger.audit.total(feed.name, bounds.STRIDE)
        cursor = await means.ledger.cursors.get(feed.name)
        if cursor.version == before.version:
            return cursor, total
    return cursor, None


async def _position_of(means: Means, feed: Feed, since: Since) -> Position:
    """Where the cursor stood that long ago, as certificates tell: at the last one from before then."""
    if not isinstance(since, timedelta):
        return since
    certificate = await means.ledger.certificates.at_or_before(feed.name, means.now() - since)
    return certificate.position if certificate else None


async def _spans(means: Means, feed: Feed, cursor: Cursor, since: Position) -> tuple[ReadRange, ...]:
    """What the cursor has read, each stretch with its end."""
    if cursor.position is None:
        return ()
    if cursor.spans:
        return (*cursor.spans[:-1], ReadRange(cursor.spans[-1].after, cursor.position))
    start = feed.cursor.start
    if start == "now" and since is None:
        raise SourceRefused(
            f"feed {feed.name}: it is not on record where reading began; say from where on to compare: --since"
        )
    if start in ("now", "beginning"):
        return (ReadRange(None, cursor.position),)
    begun = await means.source.begin(feed, start, means.now())
    return (ReadRange(begun.spans[-1].after, cursor.position),)


def _leading(position: Position) -> Position:
    leading = position[0] if isinstance(position, list) else position
    return None if isinstance(leading, list) else leading
