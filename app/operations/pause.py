"""Pause and resume: stop a feed's polling, its sending, or both, until somebody resumes it. What is
owed stays owed.

A pause is kept in the ledger and holds for all workers. The first reason stays, whoever pauses the
feed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import structlog

from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.ledger import Ledger
from app.operations.by import By

log = structlog.get_logger()

NO_REASON = "by an operator"


class Part(StrEnum):
    """What of a feed is paused or resumed."""

    POLLING = "polling"
    """No new rows are read; what is logged is sent."""
    SENDING = "sending"
    """Rows are read and logged, and wait."""
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Resumed:
    """What came of a resume."""

    changed: bool
    """Else it was not paused."""
    cursor: Cursor
    """As it is now."""


async def pause(ledger: Ledger, feed: str, by: By, part: Part = Part.BOTH) -> Cursor:
    """Pause the feed, or a part of it; returns its cursor as it then is. Raises the ledger's
    errors.

    `by.why` is the reason that status shows.
    """
    reason, stamp = by.why or NO_REASON, by.at(utc_now())
    if part is Part.SENDING:
        await ledger.pauses.pause_sending(feed, reason, stamp=stamp)
    else:
        await ledger.pauses.pause(feed, reason, sending=part is Part.POLLING, stamp=stamp)
    log.info("feed_paused", feed=feed, part=part.value, by=by.who, why=reason)
    return await ledger.cursors.get(feed)


async def resume(ledger: Ledger, feed: str, by: By, part: Part = Part.BOTH) -> Resumed:
    """Go on with the feed, or with a part of it. Raises the ledger's errors."""
    pauses = ledger.pauses
    resuming = {
        Part.POLLING: pauses.resume_polling,
        Part.SENDING: pauses.resume_sending,
        Part.BOTH: pauses.resume,
    }
    changed = await resuming[part](feed, by.at(utc_now()))
    if changed:
        log.info("feed_resumed", feed=feed, part=part.value, by=by.who, why=by.why)
    return Resumed(changed, await ledger.cursors.get(feed))
