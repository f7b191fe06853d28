"""Feeds that the ledger knows and `feeds.toml` does not name: their open deliveries are owed, and
nothing sends them.

Such a feed was removed, renamed, or is known to some machines only. Nothing is lost: it continues
once it is back. Until then the sweep skips it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from app.core.clock import rough
from app.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Unconfigured:
    """One such feed."""

    feed: str
    open: int
    """Deliveries that are owed, 1 or more."""
    oldest: datetime
    """When the oldest of them was logged."""

    def said(self, now: datetime) -> str:
        """One sentence: what is wrong, and what to do."""
        age = rough(now - self.oldest)
        return (
            f"feeds.toml does not name it, so nobody sends its {self.open} open deliveries, the oldest logged {age} "
            f"ago: put the feed back, or give them up: {way_out(self.feed)}"
        )


def way_out(feed: str) -> str:
    """The command that gives up what is owed of a feed."""
    return f"python -m app cancel --feed {feed}"


async def unconfigured(ledger: Ledger, feeds: Collection[str]) -> list[Unconfigured]:
    """The feeds with open deliveries that are not among `feeds`, by name. Costs two steps in an
    index where there are none. Raises the ledger's errors."""
    found = await ledger.backlog.open_by_feed(without=feeds)
    return [Unconfigured(feed, count, oldest) for feed, (count, oldest) in sorted(found.items())]
