"""A ledger of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.ledger import Ledger


@pytest.fixture
async def ledger(mongo_database_url: str) -> AsyncIterator[Ledger]:
    opened = Ledger.at(mongo_database_url, timedelta(seconds=5))
    await opened.prepare()
    yield opened
    await opened.close()
