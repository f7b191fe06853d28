"""The ledger's indexes: one for each question that is asked periodically, and no other.

Those of the sweep are partial on the state they ask about, so that they hold what is open, not what is done:
the sweep costs the same with a thousand or a billion delivered rows behind it.
Every query that is to use one names the index's leading field and the partial filter's state.
Those of retention hold what is settled, in the order in which its time runs out (see `app/ledger/retention.py`); an
operator's dead letters are read by `settled` too. Each one more costs each row that is logged and delivered.
"""

from __future__ import annotations

from pymongo import IndexModel

from app.clock import LONG_AGO
from app.ledger.client import Database, query
from app.models import State

RETRYING_DUE = "retrying_due"
QUEUED_OLDEST = "queued_oldest"
SETTLED = "settled"
KEPT = "kept"
ARCHIVES_OPEN = "archives_open"
BATCHES_DUE = "batches_due"
TICKS_LATEST = "ticks_latest"
TICKS_OPEN = "ticks_open"
REPORTS_OWED = "reports_owed"


def _partial(field: str, state: State, name: str) -> IndexModel:
    return IndexModel([(field, 1)], name=name, partialFilterExpression={"state": state.value})


def _dated(leading: tuple[str, ...], moment: str, name: str) -> IndexModel:
    """Of what has that moment: what is still open costs this index nothing."""
    keys = [(field, 1) for field in (*leading, moment)]
    return IndexModel(keys, name=name, partialFilterExpression={moment: {"$gt": LONG_AGO}})


INDEXES = {
    "deliveries": (
        _partial("next_attempt_at", State.RETRYING, RETRYING_DUE),
        _partial("created_at", State.QUEUED, QUEUED_OLDEST),
        _dated(("state", "feed"), "finished_at", SETTLED),
        _dated(("feed",), "kept_from", KEPT),
    ),
    "archives": (IndexModel([("feed", 1)], name=ARCHIVES_OPEN, partialFilterExpression={"open": True}),),
    "batches": (IndexModel([("visible_at", 1)], name=BATCHES_DUE),),
    "reports": (IndexModel([("retry_at", 1)], name=REPORTS_OWED, sparse=True),),
    "ticks": (
        IndexModel([("job", 1), ("end", 1)], name=TICKS_LATEST),
        IndexModel([("job", 1), ("due_at", 1)], name=TICKS_OPEN, partialFilterExpression={"state": "open"}),
    ),
}


@query
async def ensure_indexes(database: Database) -> None:
    """Make the indexes that are missing. Running it again, or from several processes at once, changes nothing."""
    for collection, indexes in INDEXES.items():
        await database[collection].create_indexes(list(indexes))
