"""Ids by what they begin with: those of a feed or a delivery are one range of `_id`, read by its
index.
"""

from __future__ import annotations

from app.ledger.client import Document


def ids_under(prefix: str, after: str = "") -> Document:
    """A condition on `_id`: ids that begin with `prefix`, which ends in an ASCII sign such as `|`; with `after`, only
    those that follow it. Merge another bound (`| {"$lt": …}`) to narrow it.
    """
    begin = {"$gt": after} if after else {"$gte": prefix}
    return begin | {"$lt": prefix[:-1] + chr(ord(prefix[-1]) + 1)}


def attempts_under(delivery_id: str) -> Document:
    """A condition on `_id`: the attempts of a delivery. Keys hold no `#`."""
    return ids_under(f"{delivery_id}#")
