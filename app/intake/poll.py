"""Poll a feed: read its new rows page by page, and log each page to the ledger before the cursor moves past it.

A poll may die between any two of its steps:

1. within the logging (see `app.intake.intake`): the next poll reads the page again, and what is logged stays as it is;
2. after the logging, before the cursor: the same;
3. after the cursor, before the messages: the sweep finds the batches by `visible_at` and sends them.

Two polls of one feed at once read the same page; both log it, once, and one of them loses the compare-and-set. What
that one logged lies in its batches, so it sends their messages too. Within one process the second poll does not begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.broker.queue import Queue
from app.core.certificates import Discrepancy, DiscrepancyKind
from app.core.clock import AGREED, Clock, utc_now
from app.core.cursors import LONGEST_FOLLOW_UP, POLL_WAIT_LIMIT, Cursor, FollowUp, Notice
from app.core.errors import ColumnsCame, CursorMoved, RowrelayError, SourceRefused
from app.core.rows import Ahead, Page
from app.core.unforeseen import is_bug, told
from app.feeds.feed import Feed
from app.intake.compare import several
from app.intake.intake import Intake, Logged, backlog
from app.ledger import Ledger
from app.source.catalogue import origin_of, other_source
from app.source.reader import Source

log = structlog.get_logger()

UP_TO_DATE, BUDGET, ANOTHER = "up to date", "budget", "another poll"
LOOK_UP_EVERY = timedelta(minutes=1)
"""How often rows that came again at another place are looked up, `LOOKED_UP` of them: do two rows share a key?"""
LOOKED_UP = 100


@dataclass(slots=True)
class Polled:
    """What one poll did."""

    read: int = 0
    logged: int = 0
    """Rows that were new in the ledger."""
    stopped: str = UP_TO_DATE
    """Why it ended: one of those, `backlog`, `paused`, `backing off` or `worker stops`."""
    again: FollowUp | None = None
    """The poll that should follow; `None`: beat's is soon enough. Where it is lost, nothing else is."""


class Polling:
    """Polls feeds for one worker process."""

    def __init__(
        self, source: Source, ledger: Ledger, queue: Queue, *, message_wait: timedelta, now: Clock = utc_now
    ) -> None:
        """`message_wait`: after this long without a claim, the sweep takes a batch's message for lost."""
        self._source = source
        self._ledger = ledger
        self._intake = Intake(ledger, queue, message_wait=message_wait, now=now)
        self._now = now
        self._under_way: set[str] = set()
        self._draining = False
        self._rows_came: dict[str, datetime] = {}
        """Feed → when a poll of this process last logged any."""
        self._looked_up: dict[str, datetime] = {}
        """Feed → when rows that came again were last looked up by their keys."""

    async def poll(self, feed: Feed, look: FollowUp | None = None) -> Polled:
        """Log the feed's new rows, within its `poll_budget` and `max_backlog`, and queue them.

        `look`: the `again` of the poll before; `None` for beat's.

        A source that refuses pauses the feed. After any other failure it is left alone for a while, longer after each,
        up to `POLL_WAIT_LIMIT`. Raises `SourceUnavailable`, the ledger's errors, and what nobody foresaw.
        """
        polled, began = Polled(), self._now()
        if feed.name in self._under_way:
            polled.stopped = ANOTHER
            polled.again = next_follow_up(feed, polled, look, began=began, now=began)
            return polled
        self._under_way.add(feed.name)
        try:
            await self._read_pages(feed, polled)
        except CursorMoved:
            polled.stopped = ANOTHER
        except ColumnsCame as error:
            await self._ledger.cursors.offer(feed.name, error.columns)
            await self._pause(feed, str(error), polled, sending=True)
        except SourceRefused as error:
            await self._pause(feed, str(error), polled, sending=True)
        except Exception as error:  # also what nobody foresaw: the feed is left alone, and it is said
            if look is None or is_bug(error):  # what kept a look from its rows is for beat's poll to find out
                with suppress(RowrelayError):
                    await self._back_off(feed, told(error))
            raise
        finally:
            self._under_way.discard(feed.name)
        if polled.read:
            log.info("polled", feed=feed.name, read=polled.read, logged=polled.logged, stopped=polled.stopped)
        now = self._now()
        if polled.logged:
            self._rows_came[feed.name] = now
        came = self._rows_came.get(feed.name)
        busy = came is not None and now - came < feed.poll_every
        polled.again = next_follow_up(feed, polled, look, began=began, now=now, busy=busy)
        return polled

    def drain(self) -> None:
        """Read no further page. Call it on the event loop."""
        self._draining = True

    async def _read_pages(self, feed: Feed, polled: Polled) -> None:
        cursor = await self._ledger.cursors.get(feed.name)
        if not cursor.paused:
            await self._require_origin(feed, cursor)
        deadline = self._now() + feed.poll_budget
        room = 0
        while True:
            if cursor.paused:
                polled.stopped = "paused"
                return
            if cursor.retry_at is not None and self._now() < cursor.retry_at <= self._now() + POLL_WAIT_LIMIT + AGREED:
                polled.stopped = "backing off"
                return
            if room <= 0:
                room = feed.max_backlog - await backlog(feed, self._ledger)
            if room <= 0:
                polled.stopped = "backlog"
                await self._ledger.cursors.note_poll(feed.name, self._now())
                return
            cursor, read, full = await self._read_page(feed, cursor, polled)
            room -= read
            if not full:
                return
            if reason := self._enough(deadline):
                polled.stopped = reason
                return

    def _enough(self, deadline: datetime) -> str | None:
        """Why no further page is read now."""
        if self._draining:
            return "worker stops"
        return BUDGET if self._now() >= deadline else None

    async def _read_page(self, feed: Feed, cursor: Cursor, polled: Polled) -> tuple[Cursor, int, bool]:
        """Read and take a page, within the process's memory. Returns the moved cursor, how many rows it had, and
        whether more are waiting.
        """
        room = self._source.room(feed)
        try:
            page = await self._source.read_page(feed, cursor, self._now(), room)
            cursor = await self._take(feed, page, cursor, polled)
            if page.ahead:
                await self._say_ahead(feed, page.ahead, cursor, polled)
            return cursor, len(page.rows), page.full
        finally:
            room.release()

    async def _require_origin(self, feed: Feed, cursor: Cursor) -> None:
        """Raises `SourceRefused` where the feed reads something else than what its deliveries came from."""
        origin = origin_of(feed)
        if cursor.origin is None:
            await self._ledger.cursors.adopt(feed.name, origin)
        elif cursor.origin != origin:
            raise SourceRefused(other_source(feed, cursor.origin))

    async def _take(self, feed: Feed, page: Page, cursor: Cursor, polled: Polled) -> Cursor:
        """Log the page, then move the cursor, then send the messages: in this order. Returns the moved cursor."""
        for gap in page.expired:
            log.warning("gap_expired", feed=feed.name, low=gap.low, high=gap.high, since=gap.since.isoformat())
        if page.form and page.form.said:
            log.warning("columns_changed", feed=feed.name, said=page.form.said)
        moves = page.position != cursor.position or page.gaps != cursor.gaps
        found_lowest = cursor.lowest is None and page.lowest is not None
        if not (page.rows or moves or page.form or found_lowest):
            await self._ledger.cursors.note_empty(cursor, page, self._now())
            return cursor
        logged = await self._intake.log(feed, page.rows)
        await self._notice(feed, logged)
        try:
            cursor = await self._ledger.cursors.advance(cursor, page, self._now())
        except CursorMoved:
            await self._intake.send(feed, logged)
            raise
        polled.read += len(page.rows)
        polled.logged += logged.new
        await self._intake.send(feed, logged)
        return cursor

    async def _notice(self, feed: Feed, logged: Logged) -> None:
        """Say that rows came under keys that other rows have, or hold something else than what was logged."""
        found = [*logged.clashes, *await self._shared(feed, logged)]
        for clash in found:
            log.warning("rows_clash", feed=feed.name, kind=clash.kind.value, rows=clash.count, ids=clash.ids[:10])
        now = self._now()
        notices = [Notice(clash.kind, clash.said, now) for clash in found]
        await self._ledger.cursors.notice(feed.name, notices)

    async def _shared(self, feed: Feed, logged: Logged) -> Sequence[Discrepancy]:
        """Look some rows that came again at another place up by their keys, now and then: an update leaves one row."""
        now, last = self._now(), self._looked_up.get(feed.name)
        if not logged.moved or (last is not None and now - last < LOOK_UP_EVERY):
            return ()
        self._looked_up[feed.name] = now
        keys = list(dict.fromkeys(logged.moved))[:LOOKED_UP]
        ids = several(feed.name, await self._source.find_all(feed, keys))
        return [Discrepancy(DiscrepancyKind.SHARED_KEY, len(ids), tuple(ids))] if ids else []

    async def _pause(self, feed: Feed, reason: str, polled: Polled, *, sending: bool = False) -> None:
        """What a poll would only meet again waits for an operator; other feeds go on. `sending`: so do the feed's rows
        that are logged, as the partner has nothing to do with it.
        """
        await self._ledger.cursors.pause(feed.name, reason, sending=sending)
        polled.stopped = "paused"
        log.error("feed_paused", feed=feed.name, reason=reason)

    async def _back_off(self, feed: Feed, error: str) -> None:
        failures = (await self._ledger.cursors.get(feed.name)).failures
        now = self._now()
        await self._ledger.cursors.note_failure(feed.name, now, error, now + wait_after(failures + 1, feed.poll_every))

    async def _say_ahead(self, feed: Feed, ahead: Ahead, cursor: Cursor, polled: Polled) -> None:
        """Pause where the source went back for certain; else note it, and warn the first time."""
        reason = f"feed {feed.name}: {ahead.reason}"
        if ahead.certain:
            await self._pause(feed, reason, polled)
            return
        await self._ledger.cursors.note_poll(feed.name, self._now(), reason)
        if cursor.last_error != reason:
            log.warning("cursor_ahead", feed=feed.name, reason=reason)


def next_follow_up(
    feed: Feed, polled: Polled, look: FollowUp | None, *, began: datetime, now: datetime, busy: bool = False
) -> FollowUp | None:
    """When to look again, after a poll that beat sent (`look` is `None`) or that was itself such a look.

    Each of beat's polls begins a chain where rows came: in it, within the last interval (`busy`), or in a poll that it
    met. The chain ends when beat's next poll is due, so chains do not grow in number.
    """
    if polled.stopped not in (UP_TO_DATE, BUDGET, ANOTHER):
        return None
    rows_came = polled.logged > 0 or polled.stopped == BUDGET
    if look is None and not (rows_came or busy or polled.stopped == ANOTHER):
        return None
    after = feed.poll_soonest if look is None or rows_came else 2 * look.after
    until = look.until if look else began + feed.poll_every
    return FollowUp(after, until) if after <= LONGEST_FOLLOW_UP and now + after < until else None


def wait_after(failures: int, poll_every: timedelta) -> timedelta:
    """How long a source is left alone after that many failures (1 or more) in a row.

    Half a poll interval short of 1, 2, 4, … intervals, so that a poll that comes a little early still counts.
    """
    doubled = poll_every * (2.0 ** min(failures - 1, 20) - 0.5)
    return min(doubled, POLL_WAIT_LIMIT)
