"""How much of a process each feed may take, in batches under way and rows in them.

A feed has room for another batch while the rows that it holds are fewer than twice those that it
may send at once: so its partner never waits for the ledger, and a partner that takes its time makes
nobody hold what cannot be sent. It always has room for one batch, whatever the other feeds hold.
How many a process holds at most is shared out among the feeds that have any, so one that came first
leaves room for those that come later as its batches end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.broker.queue import HINTS_A_FEED

AHEAD = 2
"""Rows that a feed may hold for each request that it may have in flight."""


@dataclass(slots=True)
class Share:
    """One feed's share of the process."""

    batches: int = 0
    rows: int = 0
    """Claimed, and not answered yet; as many as may come with a batch that is being claimed."""
    more: bool = False
    """Batches of the feed are due in the ledger, as far as we know."""
    asking: int = 0
    """Claims under way of whatever batch is due."""
    named: deque[str] = field(default_factory=lambda: deque(maxlen=HINTS_A_FEED))
    """Ids of batches whose messages found no room: one whose lease ran out is claimed by its id
    alone.
    """
    told: int = 0
    """How often it was told that batches are due, so that a claim begun earlier does not clear
    `more`.
    """

    def tell(self) -> None:
        """Batches are due in the ledger."""
        self.more = True
        self.told += 1


class Shares:
    """One process's. Changed on its event loop; `held` may be read by any thread."""

    def __init__(self, most_batches: int) -> None:
        """`most_batches`: of all feeds together, as their present ones end."""
        self._most = most_batches
        self._shares: dict[str, Share] = {}

    def of(self, feed: str) -> Share:
        """The feed's."""
        return self._shares.setdefault(feed, Share())

    def has_room(self, share: Share, requests: int) -> bool:
        """Whether the feed may take another batch, having so many requests in flight at most."""
        if not share.batches:
            return True
        return share.rows < AHEAD * requests and share.batches < self._fair()

    def held(self) -> Mapping[str, tuple[int, int]]:
        """Feed → its batches under way and their rows, for feeds that have any."""
        return {
            feed: (share.batches, share.rows)
            for feed, share in list(self._shares.items())
            if share.batches
        }

    def _fair(self) -> int:
        active = sum(1 for share in self._shares.values() if share.batches)
        return max(1, self._most // max(1, active))


class Holding:
    """One batch's part of its feed's share."""

    __slots__ = ("_rows", "_share")

    def __init__(self, share: Share, rows: int) -> None:
        """`rows`: as many as are expected."""
        self._share = share
        self._rows = rows
        share.batches += 1
        share.rows += rows

    def loaded(self, rows: int) -> None:
        """The batch has this many rows."""
        self._share.rows += rows - self._rows
        self._rows = rows

    def answered(self, rows: int) -> None:
        """This many of them are answered, or need no request."""
        self.loaded(max(0, self._rows - rows))

    def end(self) -> None:
        """The batch is settled or released."""
        self.loaded(0)
        self._share.batches -= 1
