"""Feeds that the ledger knows and `feeds.toml` does not name: what is open of them is owed, and nobody sends it.

A feed gets there by being taken out, renamed, or known to some machines only. Nothing is lost: it goes on where it was
as soon as it is back. Until then the sweep passes over it.
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
        """In a sentence: what is the matter, and what to do."""
        age = rough(now - self.oldest)
        return (
            f"feeds.toml does not name it, so nobody sends its {self.open} open deliveries, the oldest logged {age} "
            f"ago: put the feed back, or give them up: {way_out(self.feed)}"
        )


def way_out(feed: str) -> str:
    """The command that gives up what is owed of a feed."""
    return f"python -m app cancel --feed {feed}"


async def unconfigured(ledger: Ledger, feeds: Collection[str]) -> list[Unconfigured]:
    """The feeds with open deliveries that are not among `feeds`, by name. Costs two steps in an index where there are
    none. Raises the ledger's errors."""
    found = await ledger.deliveries.open_by_feed(without=feeds)
    return [Unconfigured(feed, count, oldest) for feed, (count, oldest) in sorted(found.items())]
