"""What spares the embedded ledger server a slow answer: SecantusDB serves no range of `_id` by the index of `_id`.

It reads the whole collection instead, for each of the ranges that purge asks `attempts` for, once a delivery. MongoDB's
own server needs nothing of this, so it is no part of the ledger.
"""

from __future__ import annotations

from typing import Any

import pymongo


def help_ranges(mongo_url: str) -> None:
    """Give `attempts` an index that the embedded server does serve ranges of `_id` by."""
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        attempts = client.get_default_database("celery_logs")["attempts"]
        attempts.create_index([("_id", 1), ("feed", 1)], name="embedded_ranges")
