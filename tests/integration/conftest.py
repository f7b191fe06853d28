"""A ledger of its own for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from app.ledger import Ledger


@pytest.fixture
async def ledger(mongo_database_url: str) -> AsyncIterator[Ledger]:
    opened = Ledger.at(mongo_database_url, timedelta(seconds=5))
    yield opened
    await opened.close()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture
def runner_ledger(runner: asyncio.Runner, mongo_database_url: str) -> Iterator[Ledger]:
    """As `ledger`, for a test that runs coroutines itself."""
    opened = Ledger.at(mongo_database_url, timedelta(seconds=5))
    yield opened
    runner.run(opened.close())
