"""Decides which batches a worker process takes, and when, so that no feed takes more than its share
of it.

A message is a hint that a batch of a feed is owed, and no more. Where the feed has room the batch
is claimed at once. Where it has none the batch stays in the ledger and is made due: whichever
worker has room for the feed first takes it, this one as soon as rows of the feed are answered here.
So nothing of what cannot be sent now is held in memory or in Redis, and nobody waits for it.

Who has room takes what is due as long as there is some (`Share.more`): first what messages named
and found no room for, since a batch whose lease ran out is claimed by its id alone. Where that ends
with a process that dies, the sweep begins it anew: what is due and stays due gets a message every
few seconds.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextvars import Context
from datetime import timedelta
from functools import partial

import structlog

from app.core.batches import Batch, NewBatch
from app.core.clock import Clock, utc_now
from app.core.rows import LoggedRows
from app.core.under_way import About, UnderWay
from app.delivery.deliver import Delivering
from app.delivery.shares import Holding, Share, Shares
from app.delivery.work import Watcher
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.partner.throttle.throttles import Throttles

TASK = "deliver"
"""The task's name wherever work is reported."""
CLAIMS_AHEAD = 4
"""Open claims at once for one feed, each of whichever batch is due: how many are due nobody knows.
"""
TOLD_PARTS = 25
"""In so many parts a batch makes room as its rows are answered: asking whether there is any is not
for each row of a large one.
"""
LEAVE_SECONDS = 0.05
"""How long batches that found no room are gathered, to be made due together."""
LEFT_AT_ONCE = 10_000
"""Of more than so many the sweep makes the rest due, when a lease has passed."""


class Dispatch:
    """Takes up batches for one worker process. Used on its event loop."""

    def __init__(
        self,
        delivering: Delivering,
        ledger: Ledger,
        throttles: Throttles,
        under_way: UnderWay,
        feeds: Mapping[str, Feed],
        *,
        most_batches: int,
        lease: timedelta,
        now: Clock = utc_now,
    ) -> None:
        """`feeds`: as they are at each moment. `most_batches`: under way in the process at once;
        `lease`: by how much workers' clocks may differ."""
        self.shares = Shares(most_batches)
        self._delivering = delivering
        self._ledger = ledger
        self._throttles = throttles
        self._under_way = under_way
        self._lease = lease
        self._now = now
        self._left: dict[str, list[str]] = defaultdict(list)
        self._leaving = self._retired = False
        self._feeds = feeds
        """A batch is begun with its feed as it then is, and ends with it."""

    def hint(self, name: str, batch_id: str, rows: int) -> None:
        """The batch of that feed is owed, of so many rows as far as the message knows. Returns at
        once.
        """
        feed = self._feeds.get(name)
        if feed is None:
            self._under_way.start(
                lambda: self._delivering.leave_unconfigured(name, batch_id),
                About(TASK, name, batch_id),
            )
            return
        share = self.shares.of(feed.name)
        if self._delivering.draining or self._has_room(feed, share):
            self._begin(feed, share, batch_id, max(1, min(rows, feed.batch_size)))
        else:
            share.named.append(batch_id)
            self._leave(name, batch_id)

    def take(self, batch: NewBatch, rows: LoggedRows | None = None) -> bool:
        """Take up a batch that was logged a moment ago, where its feed has room. `False`: it is for
        whoever gets its message. Its `rows` are kept for this process to send, whenever it claims
        them.
        """
        feed = self._feeds.get(batch.feed)
        if feed is None or self._retired or self._delivering.draining:
            return False
        if rows is not None:
            self._delivering.kept.keep(batch, rows)
        share = self.shares.of(feed.name)
        if not self._has_room(feed, share):
            return False
        self._begin(feed, share, batch.id, batch.rows)
        return True

    def retire(self) -> None:
        """Claim nothing more from the ledger: the process ends when its batches are done."""
        self._retired = True

    def fill(self, name: str, share: Share) -> None:
        """Claim what is due of the feed, as far as there is room. Of one that is configured no more
        nothing is.
        """
        feed = self._feeds.get(name)
        if feed is None or self._retired or self._delivering.draining:
            return
        while share.more and share.asking < CLAIMS_AHEAD and self._has_room(feed, share):
            named = share.named.popleft() if share.named else None
            # A context of its own: it has nothing to do with the batch that made room for it.
            self._begin(feed, share, named, feed.batch_size, Context())

    def _has_room(self, feed: Feed, share: Share) -> bool:
        throttle = self._throttles.known(feed)
        return self.shares.has_room(
            share, throttle.slots.limit if throttle else feed.partner.concurrency
        )

    def _begin(
        self,
        feed: Feed,
        share: Share,
        batch_id: str | None,
        rows: int,
        context: Context | None = None,
    ) -> None:
        about = About(TASK, feed.name, batch_id, rests=False)
        running = Running(self, feed, share, Holding(share, rows), about)
        self._under_way.start(partial(self._see_through, running, batch_id), about, context=context)

    async def _see_through(self, running: Running, batch_id: str | None) -> None:
        share, told = running.share, running.share.told
        try:
            await self._delivering.deliver(running.feed, batch_id, running)
            if batch_id is None and not running.has_claimed and share.told == told:
                share.more = False
        except BaseException:
            share.more = False  # the sweep comes back to what is due; asking again at once would only fail again
            raise
        finally:
            running.end()
            self.fill(running.feed.name, share)

    def _leave(self, name: str, batch_id: str) -> None:
        """Leave the batch to the first worker with room."""
        if sum(map(len, self._left.values())) < LEFT_AT_ONCE:
            self._left[name].append(batch_id)
        if not self._leaving:
            self._leaving = True
            self._under_way.start(self._make_due, About("leave", rests=False), context=Context())

    async def _make_due(self) -> None:
        """Make them due a lease in the past, so that a worker whose clock is slow sees them as due
        too.
        """
        try:
            while self._left:
                await asyncio.sleep(LEAVE_SECONDS)
                left, self._left = self._left, defaultdict(list)
                ids = [one for of_feed in left.values() for one in of_feed]
                await self._ledger.batches.show(ids, self._now() - self._lease)
                for name in left:
                    share = self.shares.of(name)
                    share.tell()
                    self.fill(name, share)
        finally:
            self._leaving = False


class Running(Watcher):
    """A batch under way or being claimed."""

    def __init__(
        self, dispatch: Dispatch, feed: Feed, share: Share, holding: Holding, about: About
    ) -> None:
        self.feed = feed
        self.share = share
        self.has_claimed = False
        self._answered = 0
        """Rows that the share was not told of yet."""
        self._told_at = 1
        self._dispatch = dispatch
        self._holding = holding
        self._about = about
        self._asks = about.subject is None
        share.asking += self._asks

    def claimed(self, batch: Batch, *, waited: bool) -> None:
        """The batch is ours. If it had waited in the ledger, others of its feed probably wait too:
        claim more.
        """
        self.has_claimed = True
        self._about.subject = batch.id
        structlog.contextvars.bind_contextvars(batch=batch.id)
        self._holding.loaded(len(batch.delivery_ids))
        self._asked()
        if waited:
            self.share.tell()
            self._dispatch.fill(self.feed.name, self.share)

    def loaded(self, rows: int) -> None:
        """This many of its rows are still to be sent."""
        self._told_at = max(1, rows // TOLD_PARTS)
        self._holding.loaded(rows)
        self._dispatch.fill(self.feed.name, self.share)

    def settled(self, rows: int) -> None:
        """This many of them need no request."""
        self._holding.answered(rows)
        self._dispatch.fill(self.feed.name, self.share)

    def answered(self) -> None:
        """One of them is answered. So the next batch is there before this one is sent, however long
        the ledger takes to record.
        """
        self._answered += 1
        if self._answered >= self._told_at:
            answered, self._answered = self._answered, 0
            self.settled(answered)

    def end(self) -> None:
        """The batch is settled or released."""
        self._holding.end()
        self._asked()

    def _asked(self) -> None:
        self.share.asking -= self._asks
        self._asks = False
