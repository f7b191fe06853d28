"""When a lease runs: of a batch, a tick, or a feed's purge.

It runs until its moment has come. And one that would run for longer than any can was taken under a clock that was
wrong: it is no lease, and whoever comes next may take what it holds.
"""

from __future__ import annotations

from datetime import datetime

from app.core.clock import AGREED, LEASE_LIMIT
from app.ledger.client import Document

LONGEST = LEASE_LIMIT + AGREED
"""No lease ends later than so long after now."""


def free(now: datetime) -> Document:
    """A filter: no lease runs."""
    return {"$or": [{"lease": None}, *lapsed(now)]}


def lapsed(now: datetime) -> list[Document]:
    """The filters, one of which holds where there is a lease that runs no more."""
    return [{"lease.until": {"$lte": now}}, {"lease.until": {"$gt": now + LONGEST}}]


def runs(until: datetime, now: datetime) -> bool:
    """Whether a lease that ends then runs."""
    return now < until <= now + LONGEST
