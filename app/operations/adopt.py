"""Adopt: an operator's word that a feed whose table, key or cursor changed still reads the source
of its deliveries.

A renamed table, for instance. What is another source needs a feed of another name.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from app.core.clock import utc_now
from app.core.cursors import Origin
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.operations.by import By
from app.source.catalogue import origin_of, other_source

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was on record, and what is now."""

    before: Origin | None
    now: Origin
    resumed: bool
    """The feed was paused for this, and is no more."""

    @property
    def changed(self) -> bool:
        """Whether it was on record otherwise."""
        return self.before != self.now


async def adopt(ledger: Ledger, feed: Feed, by: By) -> Adopted:
    """Put on record that the feed's deliveries come from what feeds.toml says, and resume the feed
    where it was paused for this. Raises `SourceRefused` for a table's name of no known form, and
    the ledger's errors."""
    now = origin_of(feed)
    before = await ledger.cursors.get(feed.name)
    if before.origin == now:
        return Adopted(before.origin, now, resumed=False)
    stamp = by.at(utc_now())
    told = f"from {before.origin or 'none on record'} to {now}"
    await ledger.cursors.adopt(feed.name, now, told, stamp)
    resumed = bool(
        before.paused
        and before.origin
        and before.paused_reason == other_source(feed, before.origin)
    )
    if resumed:
        await ledger.pauses.resume(feed.name, stamp)
    log.info(
        "feed_adopted",
        feed=feed.name,
        before=str(before.origin),
        now=str(now),
        by=by.who,
        why=by.why,
    )
    return Adopted(before.origin, now, resumed)
