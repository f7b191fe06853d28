"""Polls a feed: reads its new rows page by page, and logs each page to the ledger before the cursor
moves past it.

A poll may die between any two of its steps:

1. while logging (see `app.intake.intake`): the next poll reads the page again, and rows already
   logged stay as they are;
2. after the logging, before the messages: the same, and the sweep finds the batches by `visible_at`
   and sends them;
3. after the messages, before the cursor: the next poll reads the page again, and finds all of it
   logged. What is sent meanwhile is in the ledger, so nothing depends on the cursor.

Two polls of one feed at the same time read the same page. Each row is logged once, by one of them,
in its own batches, which it publishes; and one of the polls loses the compare-and-set. Within one
process the second poll does not begin, nor does it while another process reads page after page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from app.broker.queue import Queue
from app.core.backoff import doubled
from app.core.certificates import Discrepancy, DiscrepancyKind
from app.core.clock import AGREED, Clock, utc_now
from app.core.cursors import POLL_WAIT_LIMIT, Cursor, FollowUp, Notice
from app.core.errors import ColumnsCame, CursorMoved, RowrelayError, SourceRefused
from app.core.rows import Ahead, Page
from app.core.unforeseen import is_bug, told
from app.feeds.feed import Feed
from app.intake.backlog import Backlog
from app.intake.compare import several
from app.intake.follow_ups import ANOTHER, BUDGET, Chain, Polled
from app.intake.intake import Intake, Take, to_the_queue
from app.intake.row_source import RowSource
from app.ledger import Ledger
from app.source.catalogue import origin_of, other_source

log = structlog.get_logger()

CURSOR_KNOWN_FOR = timedelta(seconds=1)
"""How long a follow-up poll goes by the cursor as the poll before it left it: as long as a worker
goes by its knowledge that a feed is not paused. A cursor that was moved meanwhile is not moved.
"""
LOOK_UP_EVERY = timedelta(minutes=1)
"""How often rows that were read again at another position are looked up, at most `LOOKED_UP`: do
two rows share a key?
"""
LOOKED_UP = 100


class Polling:
    """Polls feeds for one worker process."""

    def __init__(
        self,
        source: RowSource,
        ledger: Ledger,
        queue: Queue,
        *,
        message_wait: timedelta,
        now: Clock = utc_now,
        take: Take = to_the_queue,
        process: str | None = None,
    ) -> None:
        """`message_wait`: after this long without a claim, the sweep treats a batch's message as
        lost. `take`: what this process may send itself needs none. `process`: the name by which
        others know that it reads; without one they are not told.
        """
        self._source = source
        self._ledger = ledger
        self._intake = Intake(ledger, queue, message_wait=message_wait, now=now, take=take)
        self._now = now
        self._process = process
        self._under_way: set[str] = set()
        self._full: set[str] = set()
        """Feeds whose backlog left no room when it was last asked for."""
        self.draining = False
        """No more pages are read."""
        self._backlogs: dict[str, Backlog] = defaultdict(lambda: Backlog(ledger, now))
        self._cursors: dict[str, tuple[datetime, Cursor]] = {}
        """Feed → its cursor as the last poll left it, and when that was asked of the ledger."""
        self._chains: dict[str, Chain] = defaultdict(Chain)
        self._looked_up: dict[str, datetime] = {}
        """Feed → when rows that were read again were last looked up by their keys."""

    async def poll(self, feed: Feed, follow_up: FollowUp | None = None) -> Polled:
        """Log the feed's new rows, within its `poll_budget` and `max_backlog`, and queue them.

        `follow_up`: the `again` of the previous poll, where this one follows it up; `None` for
        beat's polls.

        Pauses the feed when the source refuses. After any other failure the feed backs off, longer
        each time, up to `POLL_WAIT_LIMIT`. Raises `SourceUnavailable`, the ledger's errors, and
        unforeseen ones.
        """
        polled, began = Polled(follows=follow_up is not None), self._now()
        chain = self._chains[feed.name]
        if feed.name in self._under_way:
            chain.meet(feed, follow_up, began)
            polled.stopped = ANOTHER
            return polled
        if not chain.begin(feed, follow_up, began):
            polled.stopped = ANOTHER
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
        except Exception as error:  # unforeseen ones too: the feed backs off, and says why
            if follow_up is None or is_bug(
                error
            ):  # beat's next poll will meet whatever stopped a follow-up poll
                with suppress(RowrelayError):
                    await self._back_off(feed, told(error))
            raise
        finally:
            self._under_way.discard(feed.name)
        if polled.read:
            log.info(
                "polled",
                feed=feed.name,
                read=polled.read,
                logged=polled.logged,
                stopped=polled.stopped,
            )
        polled.again = chain.after(feed, polled, follow_up, began=began, now=self._now())
        return polled

    def drain(self) -> None:
        """Read no more pages. Call it on the event loop."""
        self.draining = True

    async def _read_pages(self, feed: Feed, polled: Polled) -> None:
        asked_at, cursor = await self._cursor(feed, polled)
        self._chains[feed.name].see(cursor)
        if not cursor.paused:
            if cursor.is_read_by_another(self._process, self._now()):
                polled.stopped = ANOTHER
                return
            await self._require_origin(feed, cursor)
        deadline = self._now() + feed.poll_budget
        left = self._backlogs[feed.name]
        left.begin(cursor)
        while True:
            if cursor.paused:
                polled.stopped = "paused"
                return
            if (
                cursor.retry_at is not None
                and self._now() < cursor.retry_at <= self._now() + POLL_WAIT_LIMIT + AGREED
            ):
                polled.stopped = "backing off"
                return
            if (polled.read or feed.name in self._full) and await left.is_used_up(feed):
                await self._leave_full(feed, polled)
                return
            before = cursor
            cursor, full = await self._read_page(feed, cursor, polled, left)
            if cursor is not before:
                asked_at = self._now()
                self._chains[feed.name].leave(cursor)
            if not full:
                self._cursors[feed.name] = asked_at, cursor
                return
            if reason := self._enough(deadline):
                polled.stopped = reason
                return

    async def _cursor(self, feed: Feed, polled: Polled) -> tuple[datetime, Cursor]:
        """The feed's cursor, and when it was asked for."""
        now = self._now()
        asked_at, known = self._cursors.pop(feed.name, (now, None))
        if known and polled.follows and timedelta() <= now - asked_at < CURSOR_KNOWN_FOR:
            return asked_at, known
        return now, await self._ledger.cursors.get(feed.name)

    def _enough(self, deadline: datetime) -> str | None:
        """Why no further page is read now; `None`: one is."""
        if self.draining:
            return "worker stops"
        return BUDGET if self._now() >= deadline else None

    async def _leave_full(self, feed: Feed, polled: Polled) -> None:
        """End the poll: as many deliveries are open as may be. The next one asks the ledger before
        the source.
        """
        polled.stopped = "backlog"
        self._full.add(feed.name)
        await self._ledger.cursors.note_poll(feed.name, self._now())

    async def _read_page(
        self, feed: Feed, cursor: Cursor, polled: Polled, left: Backlog
    ) -> tuple[Cursor, bool]:
        """Read and log a page, within the process's memory budget, and where the backlog has room
        for it. Returns the moved cursor, and whether more rows are waiting.
        """
        room, moved = self._source.room(feed), list[str]()
        try:
            page = await self._source.read_page(feed, cursor, self._now(), room)
            if page.rows and await left.is_used_up(feed):
                await self._leave_full(feed, polled)
                return cursor, False
            self._full.discard(feed.name)
            left.take(len(page.rows))
            cursor = await self._take(feed, page, cursor, polled, moved)
            left.end(cursor)
            if page.ahead:
                await self._say_ahead(feed, page.ahead, cursor, polled)
            full = page.full
            del page
        finally:
            room.release()
        # Only now: a look-up waits for memory of the lane that the page is held in.
        await self._notice(feed, await self._shared(feed, moved))
        return cursor, full

    async def _require_origin(self, feed: Feed, cursor: Cursor) -> None:
        """Raises `SourceRefused` where the feed reads another source than its deliveries came from."""
        origin = origin_of(feed)
        if cursor.origin is None:
            await self._ledger.cursors.originate(feed.name, origin)
        elif cursor.origin != origin:
            raise SourceRefused(other_source(feed, cursor.origin))

    async def _take(
        self, feed: Feed, page: Page, cursor: Cursor, polled: Polled, moved: list[str]
    ) -> Cursor:
        """Log the page, publish the messages, move the cursor: in this order. Returns the moved
        cursor.
        """
        for gap in page.expired:
            log.warning(
                "gap_expired",
                feed=feed.name,
                low=gap.low,
                high=gap.high,
                since=gap.since.isoformat(),
            )
        if page.form and page.form.said:
            log.warning("columns_changed", feed=feed.name, said=page.form.said)
        moves = page.position != cursor.position or page.gaps != cursor.gaps
        found_lowest = cursor.lowest is None and page.lowest is not None
        if not (page.rows or moves or page.form or found_lowest):
            if not polled.follows or cursor.tells_of_trouble or page.held != cursor.held:
                await self._ledger.cursors.note_empty(cursor, page, self._now())
            return cursor
        logged = await self._intake.log(feed, page.rows)
        moved += logged.moved
        await self._notice(feed, logged.clashes)
        await self._intake.send(feed, logged)
        try:
            cursor = await self._ledger.cursors.advance(cursor, page, self._now(), self._process)
        except CursorMoved:
            await self._intake.count(feed, logged)
            raise
        polled.read += len(page.rows)
        polled.logged += logged.new
        await self._intake.count(feed, logged)
        return cursor

    async def _notice(self, feed: Feed, found: Sequence[Discrepancy]) -> None:
        """Record rows whose key another row has, or whose content differs from what was logged
        under it.
        """
        for clash in found:
            log.warning(
                "rows_clash",
                feed=feed.name,
                kind=clash.kind.value,
                rows=clash.count,
                ids=clash.ids[:10],
            )
        now = self._now()
        notices = [Notice(clash.kind, clash.said, now) for clash in found]
        await self._ledger.cursors.notice(feed.name, notices)

    async def _shared(self, feed: Feed, moved: Sequence[str]) -> Sequence[Discrepancy]:
        """Now and then, look up by key some rows that were read again at another position: an
        update leaves one row.
        """
        now, last = self._now(), self._looked_up.get(feed.name)
        if not moved or (last is not None and now - last < LOOK_UP_EVERY):
            return ()
        self._looked_up[feed.name] = now
        keys = list(dict.fromkeys(moved))[:LOOKED_UP]
        ids = several(feed.name, await self._source.find_all(feed, keys))
        return [Discrepancy(DiscrepancyKind.SHARED_KEY, len(ids), tuple(ids))] if ids else []

    async def _pause(
        self, feed: Feed, reason: str, polled: Polled, *, sending: bool = False
    ) -> None:
        """Pause the feed for an operator to act: the next poll would fail alike. Other feeds go on.
        `sending`: rows that are logged are still sent, since the partner is not involved.
        """
        await self._ledger.pauses.pause(feed.name, reason, sending=sending)
        polled.stopped = "paused"
        log.error("feed_paused", feed=feed.name, reason=reason)

    async def _back_off(self, feed: Feed, error: str) -> None:
        failures = (await self._ledger.cursors.get(feed.name)).failures
        now = self._now()
        await self._ledger.cursors.note_failure(
            feed.name, now, error, now + wait_after(failures + 1, feed.poll_every)
        )

    async def _say_ahead(self, feed: Feed, ahead: Ahead, cursor: Cursor, polled: Polled) -> None:
        """Pause the feed where the source has certainly gone back; otherwise note it, and warn the
        first time.
        """
        reason = f"feed {feed.name}: {ahead.reason}"
        if ahead.certain:
            await self._pause(feed, reason, polled)
            return
        await self._ledger.cursors.note_poll(feed.name, self._now(), reason)
        if cursor.last_error != reason:
            log.warning("cursor_ahead", feed=feed.name, reason=reason)


def wait_after(failures: int, poll_every: timedelta) -> timedelta:
    """How long a feed backs off after that many failures (1 or more) in a row.

    Half a poll interval short of 1, 2, 4, … intervals, so that a poll that comes slightly early
    still counts.
    """
    half = poll_every / 2
    return doubled(poll_every, failures - 1, POLL_WAIT_LIMIT + half) - half
