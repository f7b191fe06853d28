"""How many requests one process may have in flight: its share of the endpoint's cap, as far as it
has room.

An endpoint that was left alone for a while is not met with all of them at once: the first few go
alone, and each that goes well lets one more go beside it, so that there are twice as many after
each turn (TCP's slow start, https://www.rfc-editor.org/rfc/rfc5681#section-3.1).
"""

from __future__ import annotations

from collections.abc import Callable

from app.feeds.feed import Feed
from app.partner.slots import Slots, fair_share

ALIVE_SECONDS = 5.0
"""How long a process counts as alive after its last beat."""

_ROOM_SECONDS = 60.0


class ConcurrencyShare:
    """One process's share of `concurrency`."""

    def __init__(
        self, feed: Feed, part: float, steady: Callable[[], float], *, alone: bool
    ) -> None:
        """`part` of the feed's concurrency, and at least 1, is what this process can have in
        flight, however few share it. `alone`: nobody else does.
        """
        self._steady = steady
        self._alone = alone
        self._cap = feed.partner.concurrency
        self._most = _most(feed, part)
        self.slots = Slots(self._most if alone else 1)
        """The requests in flight of this process. 1 until Redis has said how many share the cap."""
        self.live = 1
        """Processes that share the endpoint, as far as known."""
        self.registered = 1
        """Those of them that have told Redis so: after it was away they come back one by one."""
        self._lost_at = -ALIVE_SECONDS
        self._synced = False
        self._share = self.slots.limit
        """What it may use, but for the two bounds below."""
        self._room: int | None = None
        self._room_until = 0.0
        self._started: int | None = None
        """How many go at once after the endpoint was left alone; `None`: its share."""

    def take(self, feed: Feed, part: float) -> None:
        """Go by what the feed says now: fewer at once from now on, more with the next beat, which
        shares them out.
        """
        self._cap = feed.partner.concurrency
        self._most = _most(feed, part)
        self._share = self._most if self._alone else min(self._share, self._most)
        self._resize()

    def halve(self) -> None:
        """This machine lacks something: for a while, no more at once than half of those that it had
        room for.
        """
        self._room = max(1, min(self._room or self.slots.limit, self.slots.taken // 2))
        self._room_until = self._steady() + _ROOM_SECONDS
        self._resize()

    def start_slowly(self, at_once: int) -> None:
        """The endpoint is left alone now: when it is asked again, no more requests go at once."""
        self._started = at_once
        self._resize()

    @property
    def starts_slowly(self) -> bool:
        """Whether fewer go at once than might."""
        return self._started is not None

    def went_well(self) -> None:
        """A request was answered, by an endpoint that is asked again."""
        if self._started is not None:
            self._started = self._started + 1 if self._started < self._share else None
            self._resize()

    def redis_away(self) -> None:
        """Redis did not answer: whoever is known counts on until all have had the time to come
        back.
        """
        self._lost_at = self._steady()

    def share_out(self, live: int, rank: int) -> None:
        """Take this process's part: it is the one of that rank (from 0) of those alive.

        A process that comes new to others begins with 1 and takes its part with its second beat: by
        then they have made room.
        """
        self.registered = max(live, 1)
        if self.registered >= self.live or self._steady() > self._lost_at + ALIVE_SECONDS:
            self.live = self.registered
        if self._synced or self.live == 1:
            self._share = min(fair_share(self._cap, self.live, rank), self._most)
            if self._steady() > self._room_until:
                self._room = None
            self._resize()
        self._synced = True

    def _resize(self) -> None:
        self.slots.resize(min(self._share, self._room or self._share, self._started or self._share))


def _most(feed: Feed, part: float) -> int:
    """Requests in flight that a process has room for, however few share them."""
    return max(1, int(feed.partner.concurrency * part))
