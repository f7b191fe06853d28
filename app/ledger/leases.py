"""Whether a lease is running: of a batch, a tick, or a purge lock.

It runs until its end. A lease that ends further ahead than any can was taken by a wrong clock: it
does not count, and what it holds may be claimed.
"""

from __future__ import annotations

from datetime import datetime

from app.core.clock import AGREED, LEASE_LIMIT
from app.ledger.client import Document

LONGEST = LEASE_LIMIT + AGREED
"""No valid lease ends further ahead than this."""


def free(now: datetime) -> Document:
    """A filter: no lease runs."""
    return {"$or": [{"lease": None}, *lapsed(now)]}


def lapsed(now: datetime) -> list[Document]:
    """Filters, one of which matches a lapsed lease."""
    return [{"lease.until": {"$lte": now}}, {"lease.until": {"$gt": now + LONGEST}}]


def runs(until: datetime, now: datetime) -> bool:
    """Whether a lease that ends then is running."""
    return now < until <= now + LONGEST
