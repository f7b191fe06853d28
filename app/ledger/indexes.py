"""The ledger's indexes: one for each question that is asked periodically, and no other.

Those of what is open are partial on the state they ask about, so that they hold what is open, not
what is done: the sweep costs the same with a thousand or a billion delivered rows behind it. They
are in order within each feed, so that no feed's question reads another's rows, and hold what else
is counted of a row: no document is read for it. Those of retention hold what is settled, in the
order in which it expires (see `app/ledger/settled.py`); what an operator asks for by its state is
read by `settled` too. Each one more costs each row that is logged and delivered.

A server takes a partial index only for a filter that can match nothing outside of it: `finished_at
>= LONG_AGO` is not served by an index of `finished_at > LONG_AGO`. So filters by state are made
here, by `in_state`. `tests/integration/ledger/test_ledger_plans.py` asks the server for its plan of
every question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pymongo
from pymongo import IndexModel
from pymongo import errors as driver

from app.core.clock import LONG_AGO
from app.core.states import State
from app.ledger.client import Database, Document, query

RETRYING = "retrying"
QUEUED = "queued"
SETTLED = "settled"
KEPT = "kept"
RESTORED = "restored"
ARCHIVES_OPEN = "archives_open"
BATCHES_OF_FEED = "batches_of_feed"
TICKS_LATEST = "ticks_latest"
TICKS_IN_STATE = "ticks_in_state"
REPORTS_OWED = "reports_owed"
NOTIFICATIONS_OWED = "notifications_owed"
OPERATIONS_LATEST = "operations_latest"
OPERATION_OF_FEED = "operation_of_feed"

BY_ID = [("_id", 1)]
"""A hint for what names its documents by id and something else that has an index: a server that
weighs the two may read a day, or a backlog, for a hundred ids. By its keys, since not every server
takes an index's name."""

ANY_FEED: Document = {"$gt": ""}
"""A condition on the feed for all of them: so that an index which begins with it can be asked."""

MOMENTS = {
    **dict.fromkeys(State, "finished_at"),
    State.QUEUED: "created_at",
    State.RETRYING: "next_attempt_at",
}
"""State → the field by which the index that holds it is in order, within a feed."""


def in_state(
    state: State, feeds: str | Sequence[str] | None = None, moment: Document | None = None
) -> Document:
    """A filter by state that its index serves: of one feed, some, or (`None`) all; where its moment
    is as given.
    """
    if feeds is None:
        of_feeds: Any = ANY_FEED
    else:
        of_feeds = feeds if isinstance(feeds, str) else {"$in": list(feeds)}
    return {"state": state.value, "feed": of_feeds, MOMENTS[state]: moment or {"$gt": LONG_AGO}}


def restored(feed: str, state: State, finished_at: Document) -> Document:
    """A filter, served by its index, by what is back from an archive."""
    return {
        "feed": feed,
        "state": state.value,
        "finished_at": finished_at,
        "restored_at": {"$gt": LONG_AGO},
    }


def _open(state: State, name: str, *more: str) -> IndexModel:
    keys = [(field, 1) for field in ("state", "feed", MOMENTS[state], *more)]
    return IndexModel(keys, name=name, partialFilterExpression={"state": state.value})


def _dated(leading: tuple[str, ...], moment: str, name: str) -> IndexModel:
    """Of what has that moment: what is still open costs this index nothing."""
    keys = [(field, 1) for field in (*leading, moment)]
    return IndexModel(keys, name=name, partialFilterExpression={moment: {"$gt": LONG_AGO}})


INDEXES = {
    "deliveries": (
        _open(State.RETRYING, RETRYING, "created_at"),
        _open(State.QUEUED, QUEUED),
        _dated(("state", "feed"), "finished_at", SETTLED),
        _dated(("feed",), "kept_from", KEPT),
        _dated(("feed", "state", "finished_at"), "restored_at", RESTORED),
    ),
    "archives": (
        IndexModel([("feed", 1)], name=ARCHIVES_OPEN, partialFilterExpression={"open": True}),
    ),
    "batches": (IndexModel([("feed", 1), ("visible_at", 1)], name=BATCHES_OF_FEED),),
    "notifications": (IndexModel([("retry_at", 1)], name=NOTIFICATIONS_OWED, sparse=True),),
    "operations": (
        IndexModel([("created_at", -1), ("_id", -1)], name=OPERATIONS_LATEST),
        IndexModel([("holds", 1)], name=OPERATION_OF_FEED, unique=True, sparse=True),
    ),
    "reports": (IndexModel([("retry_at", 1)], name=REPORTS_OWED, sparse=True),),
    "ticks": (
        IndexModel([("job", 1), ("end", 1)], name=TICKS_LATEST),
        IndexModel([("job", 1), ("state", 1), ("end", 1)], name=TICKS_IN_STATE),
    ),
}

RETIRED: Mapping[str, Sequence[str]] = {
    "deliveries": ("retrying_due", "queued_oldest"),
    "batches": ("batches_due",),
    "ticks": ("ticks_open",),
}
"""Indexes of earlier versions, which no question uses. A changed index takes a new name, and its
old one goes here.
"""

BUILD_SECONDS = 86_400
_NOT_THERE = (26, 27)
"""NamespaceNotFound, IndexNotFound: https://www.mongodb.com/docs/manual/reference/error-codes/"""


@query
async def ensure_indexes(database: Database) -> None:
    """Make the indexes that are missing, then drop those that are retired.

    Running it again, or from several processes at once, changes nothing. Waits for a build, for a
    day at most: on ten million deliveries it takes longer than any other answer may.
    """
    await database.command("ping")
    for collection, indexes in INDEXES.items():
        with pymongo.timeout(BUILD_SECONDS):
            await database[collection].create_indexes(list(indexes))
    for collection, names in RETIRED.items():
        for name in names:
            await _drop(database, collection, name)


async def _drop(database: Database, collection: str, name: str) -> None:
    """Drop an index; a no-op where there is none of that name."""
    try:
        await database[collection].drop_index(name)
    except driver.OperationFailure as error:
        if error.code not in _NOT_THERE:
            raise
