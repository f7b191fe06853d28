"""`attempts`: append-only, one document an attempt; written before its delivery is updated.

    {_id: "<delivery>#<lease token>", feed, at, outcome, status, error, duration_ms, response, note,
    worker}

A lease sends each of its deliveries once, so the id is the attempt's own: recording it twice is a
no-op, and a worker that takes a batch over can tell which attempts of the lease before it are on
record and which are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pymongo import errors as driver

from app.core.attempts import Outcome, Result
from app.core.batches import Batch, Lease
from app.ledger.client import DUPLICATE_KEY, Collection, Database, Document, query
from app.ledger.ids import attempts_under


async def insert_ignoring_duplicates(collection: Collection, documents: Sequence[Document]) -> int:
    """Insert documents, ignoring duplicates; return how many were new. Raises other write errors."""
    return len(documents) - len(await insert_telling_duplicates(collection, documents))


async def insert_telling_duplicates(
    collection: Collection, documents: Sequence[Document]
) -> list[str]:
    """Insert documents; return the ids of the duplicates, including repeats among the documents
    themselves.
    """
    if not documents:
        return []
    try:
        await collection.insert_many(documents, ordered=False)
    except driver.BulkWriteError as error:
        refused = error.details["writeErrors"]
        if any(item["code"] != DUPLICATE_KEY for item in refused) or error.details.get(
            "writeConcernErrors"
        ):
            raise
        return [documents[item["index"]]["_id"] for item in refused]
    return []


class Attempts:
    """Every query on `attempts`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["attempts"]

    @query
    async def record(self, batch: Batch, results: Sequence[Result]) -> None:
        """Record the outcomes of attempts made under the batch's lease."""
        await insert_ignoring_duplicates(
            self._collection, [_document(batch, result) for result in results]
        )

    @query
    async def record_unknown(
        self, batch: Batch, tokens: Mapping[str, str], lapsed: Lease
    ) -> list[str]:
        """Record that a lease ran out over these deliveries (id → token they may have been sent
        under).

        Attempts on record keep their outcome. Returns the ids of their deliveries.
        """
        unknown = [
            {
                "_id": f"{delivery_id}#{token}",
                "feed": batch.feed,
                "at": lapsed.until,
                "outcome": Outcome.UNKNOWN.value,
                "worker": lapsed.worker,
            }
            for delivery_id, token in tokens.items()
        ]
        on_record = await insert_telling_duplicates(self._collection, unknown)
        return [attempt_id.rpartition("#")[0] for attempt_id in on_record]

    @query
    async def delivered_under(self, tokens: Mapping[str, str]) -> dict[str, int]:
        """Which of the deliveries (id → lease token) succeeded under that lease: delivery id → HTTP
        status.
        """
        ids = [f"{delivery_id}#{token}" for delivery_id, token in tokens.items()]
        found = self._collection.find(
            {"_id": {"$in": ids}, "outcome": Outcome.DELIVERED.value}, {"status": 1}
        )
        return {d["_id"].rpartition("#")[0]: d["status"] for d in await found.to_list()}

    @query
    async def of_delivery(self, delivery_id: str, limit: int = 1000) -> list[Document]:
        """All attempts of one delivery, oldest first."""
        found = self._collection.find({"_id": attempts_under(delivery_id)})
        return sorted(await found.limit(limit).to_list(), key=_turn)


def _turn(document: Document) -> tuple[datetime, bool]:
    """A lapsed lease sorts before the next one's attempt, though both may have the same moment."""
    return document["at"], document["outcome"] != Outcome.UNKNOWN.value


def _document(batch: Batch, result: Result) -> Document:
    document: Document = {
        "_id": f"{result.delivery.id}#{batch.lease.token}",
        "feed": batch.feed,
        "at": result.answer.at,
        "outcome": result.verdict.outcome.value,
        "duration_ms": result.answer.duration_ms,
        "worker": batch.lease.worker,
    }
    if result.answer.status is not None:
        document["status"] = result.answer.status
    if result.answer.error is not None:
        document["error"] = result.answer.error
    if result.answer.note is not None:
        document["note"] = result.answer.note
    if result.answer.body:
        document["response"] = result.answer.body
    return document
