"""When a feed is polled again without waiting for beat, because rows are coming.

Follow-up polls of a feed make a chain: one a process, and in all processes together one at most,
but for a moment where beat's poll comes early or late. A poll of beat's takes the chain on at its
pace, whether it comes between two polls of the chain or while one of them runs.
See docs/decisions/0025-looking-again.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.cursors import LONGEST_FOLLOW_UP, Cursor, FollowUp
from app.feeds.feed import Feed

UP_TO_DATE, BUDGET, ANOTHER = "up to date", "budget", "another poll"
FEW, FEW_WAIT = 10, 2.5
"""A poll that brought fewer rows than this is followed up so many times later: each of them pays
more for it.
"""
PAUSE = timedelta(seconds=1)
"""For so long after a poll that brought more, looking is not given up: the wait is doubled once
only. Whoever writes many rows may do so in a transaction now and then.
"""
REST = 2
"""A follow-up poll waits for at least so many times as long as the poll before it took: a feed is
followed up for a third of the time at most.
"""


@dataclass(slots=True)
class Polled:
    """What one poll did."""

    read: int = 0
    logged: int = 0
    """Rows that were new in the ledger."""
    stopped: str = UP_TO_DATE
    """Why it ended: one of the above, `backlog`, `paused`, `backing off` or `worker stops`."""
    again: FollowUp | None = None
    """The follow-up poll; `None`: beat's next poll is soon enough. If it is lost, no row is."""
    follows: bool = False
    """It is a follow-up poll itself."""


class Chain:
    """What one process knows of one feed's follow-up polls."""

    def __init__(self) -> None:
        self._until: datetime | None = None
        """When the poll of beat's after the last one is due."""
        self._pace: timedelta | None = None
        """The last wait, whether a follow-up poll was due after it or it was left to beat's."""
        self._rows_came: datetime | None = None
        """When a poll last logged rows, here or in another process."""
        self._many_came: datetime | None = None
        """When a poll of this process last logged `FEW` or more."""
        self._row_read: datetime | None = None
        """When a row was last read, by the cursor as this process left it."""
        self._met: datetime | None = None
        """When a poll of beat's came while another was running."""

    def begin(self, feed: Feed, follow_up: FollowUp | None, now: datetime) -> bool:
        """A poll is to begin. `False`: it is of a chain that a poll of beat's has taken on since."""
        if follow_up is None:
            self._until = now + feed.poll_every
        elif self._until is not None and follow_up.until < self._until:
            return False
        self._met = None
        return True

    def meet(self, feed: Feed, follow_up: FollowUp | None, now: datetime) -> None:
        """A poll finds another one of the feed running, and leaves it to that to go on."""
        if follow_up is None:
            self._until = now + feed.poll_every
            self._met = now

    def see(self, cursor: Cursor) -> None:
        """A poll begins at that cursor. If another process has moved it past rows, they count as
        new ones: which of them the ledger had before is not known here.
        """
        if cursor.last_row_at is not None and cursor.last_row_at != self._row_read:
            self._rows_came = cursor.last_row_at

    def leave(self, cursor: Cursor) -> None:
        """A poll of this process leaves the cursor there."""
        self._row_read = cursor.last_row_at

    def after(
        self,
        feed: Feed,
        polled: Polled,
        follow_up: FollowUp | None,
        *,
        began: datetime,
        now: datetime,
    ) -> FollowUp | None:
        """The follow-up poll after a poll that has ended: one that beat sent (`follow_up` is
        `None`), or one that was a follow-up poll itself.

        A poll of beat's begins a chain where rows came: in it, or within the last interval. The
        chain ends when beat's next poll is due, so chains do not multiply. A poll that beat's has
        met stands for it too.
        """
        if polled.logged:
            self._rows_came = now
        if polled.logged >= FEW:
            self._many_came = now
        met, self._met = self._met, None
        if met is not None:
            follow_up = None
        goes_on = (
            follow_up is not None
            or met is not None
            or polled.stopped in (BUDGET, ANOTHER)
            or (self._rows_came is not None and now - self._rows_came < feed.poll_every)
        )
        if not goes_on or polled.stopped not in (UP_TO_DATE, BUDGET, ANOTHER):
            return None
        self._pace = wait = max(
            self._wait(feed, polled, follow_up, now), _rest(feed, polled, now - began)
        )
        until = follow_up.until if follow_up else (met or began) + feed.poll_every
        return FollowUp(wait, until) if wait <= LONGEST_FOLLOW_UP and now + wait < until else None

    def _wait(
        self, feed: Feed, polled: Polled, follow_up: FollowUp | None, now: datetime
    ) -> timedelta:
        """How long after the poll its follow-up poll is due, by the rows that come."""
        few = FEW_WAIT * feed.poll_soonest
        if polled.logged >= FEW or polled.stopped == BUDGET:
            return feed.poll_soonest
        if follow_up is None:  # it came in the middle of a wait: what it found tells little
            return min(self._pace or few, few)
        if polled.logged:
            return few
        pauses = self._many_came is not None and now - self._many_came < PAUSE
        return min(follow_up.after, feed.poll_soonest) * 2 if pauses else follow_up.after * 2


def _rest(feed: Feed, polled: Polled, took: timedelta) -> timedelta:
    """How long it waits at least: after a page of what there was, `REST` times as long as that
    took. Where the source, the ledger or this process has too much to do, follow-ups leave it to
    beat's polls of all feeds.
    """
    has_more = polled.stopped != UP_TO_DATE or polled.read >= feed.page_size
    return timedelta() if has_more else REST * took
