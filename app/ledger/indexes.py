"""The ledger's indexes: one for each question that is asked periodically, and no other.

Each is partial on the state it asks about, so that it holds what is open (or dead), not what is done:
the sweep costs the same with a thousand or a billion delivered rows behind it.
Every query that is to use one names the index's leading field and the partial filter's state.
"""

from __future__ import annotations

from pymongo import IndexModel

from app.ledger.client import Database, query
from app.models import State

RETRYING_DUE = "retrying_due"
QUEUED_OLDEST = "queued_oldest"
DEAD_LATEST = "dead_latest"
BATCHES_DUE = "batches_due"


def _partial(field: str, state: State, name: str) -> IndexModel:
    return IndexModel([(field, 1)], name=name, partialFilterExpression={"state": state.value})


INDEXES = {
    "deliveries": (
        _partial("next_attempt_at", State.RETRYING, RETRYING_DUE),
        _partial("created_at", State.QUEUED, QUEUED_OLDEST),
        _partial("finished_at", State.DEAD, DEAD_LATEST),
    ),
    "batches": (IndexModel([("visible_at", 1)], name=BATCHES_DUE),),
}


@query
async def ensure_indexes(database: Database) -> None:
    """Make the indexes that are missing. Running it again, or from several processes at once, changes nothing."""
    for collection, indexes in INDEXES.items():
        await database[collection].create_indexes(list(indexes))
