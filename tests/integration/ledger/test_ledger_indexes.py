"""The ledger has the indexes that are named, and no other, whichever version made it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.ledger import Ledger
from app.ledger.indexes import INDEXES, RETIRED


@pytest.fixture
async def ledger(bare_database_url: str) -> AsyncIterator[Ledger]:
    """One that nobody has prepared."""
    opened = Ledger.at(bare_database_url, timedelta(seconds=5))
    yield opened
    await opened.close()


async def _has_exactly_those_named(ledger: Ledger) -> None:
    for collection, indexes in INDEXES.items():
        found = await ledger._database[collection].index_information()
        assert found.keys() == {"_id_", *(index.document["name"] for index in indexes)}


async def test_indexes_are_made_once_however_often_and_by_however_many(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.prepare() for _ in range(4)))
    await _has_exactly_those_named(ledger)


async def test_indexes_of_earlier_versions_go_once_the_new_ones_are_there(ledger: Ledger) -> None:
    for collection, names in RETIRED.items():
        for name in names:
            await ledger._database[collection].create_index(f"of_{name}", name=name)
    await asyncio.gather(*(ledger.prepare() for _ in range(4)))
    await _has_exactly_those_named(ledger)


def test_no_name_is_both_in_use_and_retired() -> None:
    named = {
        collection: {index.document["name"] for index in indexes}
        for collection, indexes in INDEXES.items()
    }
    assert all(named[collection].isdisjoint(names) for collection, names in RETIRED.items())
