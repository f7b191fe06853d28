"""Begins a scan: continues an interrupted one, or starts from what the cursor has read."""

from __future__ import annotations

import hashlib
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
from app.source.catalogue import origin_of

log = structlog.get_logger()


async def resumed(means: Means, feed: Feed) -> Scan | None:
    """The interrupted scan of the whole feed, if there is one; it belongs to this run from now on."""
    token = secrets.token_hex(8)
    scan = await means.ledger.scans.resume(
        feed.name, token, means.now() - bounds.RESUMED_WITHIN, _reads(feed)
    )
    if scan:
        begun_at = scan.begun_at.isoformat()
        log.info("reconciliation_resumed", feed=feed.name, begun_at=begun_at, rows=scan.source_rows)
    return scan


async def begun(means: Means, feed: Feed, since: Since, *, dry_run: bool) -> Scan:
    """A new scan. Raises `SourceRefused` where it is not known from where on to compare."""
    begun_at = means.now()
    cursor, total = await _standing(means, feed)
    after = await _position_of(means, feed, since)
    watermark = await means.ledger.purge_watermarks.get(feed.name)
    scan = Scan(
        feed=feed.name,
        token=secrets.token_hex(8),
        begun_at=begun_at,
        position=cursor.position,
        reads=_reads(feed),
        spans=await _spans(means, feed, cursor, after),
        since=after,
        floor=_leading(watermark.position) if watermark else None,
        total=total,
    )
    if not dry_run:
        await means.ledger.scans.begin(scan, begun_at)
    return scan


async def _standing(means: Means, feed: Feed) -> tuple[Cursor, int | None]:
    """The cursor, and how many deliveries there were at that moment; `None` where a poll kept
    moving it.
    """
    for _ in range(3):
        before = await means.ledger.cursors.get(feed.name)
        total = await means.ledger.audit.total(feed.name, bounds.STRIDE)
        cursor = await means.ledger.cursors.get(feed.name)
        if cursor.version == before.version:
            return cursor, total
    return cursor, None


async def _position_of(means: Means, feed: Feed, since: Since) -> Position:
    """The cursor's position that long ago, according to the last certificate from before then."""
    if not isinstance(since, timedelta):
        return since
    certificate = await means.ledger.certificates.at_or_before(feed.name, means.now() - since)
    return certificate.position if certificate else None


async def _spans(
    means: Means, feed: Feed, cursor: Cursor, since: Position
) -> tuple[ReadRange, ...]:
    """What the cursor has read, each read range with its end."""
    if cursor.position is None:
        return ()
    if cursor.spans:
        return (*cursor.spans[:-1], ReadRange(cursor.spans[-1].after, cursor.position))
    start = feed.cursor.start
    if start == "now" and since is None:
        raise SourceRefused(
            f"feed {feed.name}: it is not on record where reading began: give --since"
        )
    if start in ("now", "beginning"):
        return (ReadRange(None, cursor.position),)
    begun = await means.source.begin(feed, start, means.now())
    return (ReadRange(begun.spans[-1].after, cursor.position),)


def _reads(feed: Feed) -> str:
    """What selects the feed's rows."""
    where = [condition.model_dump_json() for condition in feed.where]
    told = repr((origin_of(feed), feed.capture, where))
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _leading(position: Position) -> Position:
    """A value that a scan may begin behind. `None` where the cursor column holds numbers (SQLite):
    then each row is compared with the watermark as it is found missing.
    """
    if not isinstance(position, list):
        return position
    return position[0] if isinstance(position[0], str) else None
