"""Each question that purge asks is served by its own index, whatever lies beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.indexes import ARCHIVES_OPEN
from app.ledger.settled import CATEGORIES, KEPT_ONES, Category, TimeRange
from tests.support.doubles import VirtualClock
from tests.support.overheard import Overheard
from tests.support.retention import Shelf


async def _read(ledger: Ledger, category: Category, span: TimeRange) -> object:
    reading = await ledger.retention.read("orders", category, span)
    try:
        return await reading.next(10)
    finally:
        await reading.close()


async def _plan_of(
    shelf: Shelf, url: str, ask: Callable[[Ledger], Awaitable[object]]
) -> set[str | None]:
    """The indexes that the server plans to use for the last question asked; `None` stands for a
    whole collection.
    """
    overheard = Overheard()
    async with AsyncMongoClient[Document](
        url, tz_aware=True, event_listeners=[overheard]
    ) as client:
        await ask(Ledger(client))
    asked = {
        key: value
        for key, value in overheard.questions[-1].items()
        if not key.startswith("$") and key != "lsid"
    }
    return _indexes(await shelf.ledger._database.command("explain", asked))


def _indexes(plan: Any) -> set[str | None]:
    if isinstance(plan, list):
        return {name for item in plan for name in _indexes(item)}
    if not isinstance(plan, dict):
        return set()
    own = (
        {plan.get("indexName")}
        if plan.get("stage") in ("IXSCAN", "COLLSCAN", "COUNT_SCAN")
        else set()
    )
    inner = (value for key, value in plan.items() if key not in ("rejectedPlans", "executionStats"))
    return own.union(*(_indexes(value) for value in inner))


@pytest.fixture
async def shelf(ledger: Ledger) -> Shelf:
    """Records of every category, and of other feeds, behind a few that are over."""
    shelf = Shelf(ledger, VirtualClock())
    for key, category in enumerate(CATEGORIES * 3):
        state = category.state or State.DELIVERED
        at = shelf.ago(days=key)
        fields: Document = {"restored_at": at} if category is KEPT_ONES else {}
        await shelf.add(key, at, state, **fields)
        await shelf.add(key, at, state, feed="other")
    return shelf


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda category: category.name)
async def test_what_settled_in_a_span_is_found_by_its_index(
    shelf: Shelf, mongo_database_url: str, category: Category
) -> None:
    span = TimeRange(shelf.ago(days=9), shelf.ago(days=1))
    plan = await _plan_of(shelf, mongo_database_url, lambda ledger: _read(ledger, category, span))
    assert plan == {category.index}


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda category: category.name)
async def test_the_first_that_settled_is_found_by_the_same_index(
    shelf: Shelf, mongo_database_url: str, category: Category
) -> None:
    plan = await _plan_of(
        shelf,
        mongo_database_url,
        lambda ledger: ledger.retention._first("orders", category, shelf.clock()),
    )
    assert plan == {category.index}


async def test_open_archive_files_are_found_by_an_index(
    shelf: Shelf, mongo_database_url: str
) -> None:
    plan = await _plan_of(shelf, mongo_database_url, lambda ledger: ledger.archives.open("orders"))
    assert plan == {ARCHIVES_OPEN}


async def test_what_is_open_has_no_entry_in_these_indexes(shelf: Shelf) -> None:
    """So logging a row costs them nothing; a row that is settled adds one entry to one of them."""
    information = await shelf.ledger._database["deliveries"].index_information()
    for category in CATEGORIES:
        (moment,) = information[category.index]["partialFilterExpression"]
        assert moment == category.moment
