"""What an operation in bulk left on the deliveries that it moved, and where they stand now."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import errors as driver

from app.core.operations import OperationKind
from app.core.states import OPEN_STATES, State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.indexes import ANY_FEED, BY_ID, in_state

WHERE = {
    OperationKind.REPLAY: "replays",
    OperationKind.CANCEL: "cancelled",
    OperationKind.ACKNOWLEDGE: "acknowledged",
}
"""Kind → the field in which such a move is told."""


@dataclass(frozen=True, slots=True)
class Marked:
    """Where a delivery of a set stands."""

    state: State
    ours: bool
    """The operation moved it, in this round or in one before."""
    this_round: bool
    has_payload: bool
    acknowledged: bool
    in_batch: bool
    attempts: int
    """Since the last replay."""


class OperationMarks:
    """Every query on `deliveries` about what an operation moved."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["deliveries"]

    @query
    async def look(self, kind: OperationKind, mark: str, ids: Sequence[str]) -> dict[str, Marked]:
        """Where these stand: id → that; those that are not in the ledger are left out. `mark`: that of
        the operation's round."""
        fields: Document = {
            "state": 1,
            "attempts": 1,
            "has_payload": {"$gt": ["$payload", ""]},
            "acknowledged": {"$ifNull": ["$acknowledged.at", None]},
            "batch": 1,
            "marks": f"${WHERE[kind]}.operation",
        }
        pipeline: list[dict[str, Any]] = [
            {"$match": {"_id": {"$in": list(ids)}}},
            {"$project": fields},
        ]
        found = await self._collection.aggregate(pipeline, hint=dict(BY_ID))
        return {document["_id"]: _marked(document, mark) for document in await found.to_list()}

    @query
    async def states(self, ids: Sequence[str]) -> Counter[str]:
        """State → how many of these are in it; `gone`: not in the ledger any more."""
        found = self._collection.find({"_id": {"$in": list(ids)}}, {"state": 1}).hint(BY_ID)
        states = Counter(str(document["state"]) for document in await found.to_list())
        gone = len(ids) - states.total()
        return states + Counter({"gone": gone})

    @query
    async def touched(
        self, kind: OperationKind, operation_id: str, since: datetime, within_seconds: float
    ) -> int | None:
        """How many deliveries carry the operation's mark, whatever their feed: counted among what was
        settled since then, and what is open; `None` where that takes longer."""
        mark = {f"{WHERE[kind]}.operation": {"$regex": f"^{operation_id}/"}}
        until, found = time.monotonic() + within_seconds, 0
        for wanted in _places(kind, since):
            left_ms = int((until - time.monotonic()) * 1000)
            try:
                found += await self._collection.count_documents(
                    wanted | mark, maxTimeMS=max(1, left_ms)
                )
            except driver.ExecutionTimeout:
                return None
        return found


def _places(kind: OperationKind, since: datetime) -> Iterator[Document]:
    """Where what an operation moved since then may be: each is a range of an index."""
    if kind is OperationKind.ACKNOWLEDGE:
        yield {"feed": ANY_FEED, "kept_from": {"$gte": since}}
        return
    for state in State:
        yield in_state(state, None, None if state in OPEN_STATES else {"$gte": since})


def _marked(document: Document, mark: str) -> Marked:
    found = document.get("marks") or []
    marks = [found] if isinstance(found, str) else found
    return Marked(
        state=State(document["state"]),
        ours=any(one.rpartition("/")[0] == mark.rpartition("/")[0] for one in marks),
        this_round=mark in marks,
        has_payload=document["has_payload"],
        acknowledged=document["acknowledged"] is not None,
        in_batch="batch" in document,
        attempts=document.get("attempts", 0),
    )
