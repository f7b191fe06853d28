"""A shop on SQLite; files that try other products too have a `shop` of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.ledger import Ledger
from tests.support.reconciled import Shop, open_shop


@pytest.fixture
async def shop(tmp_path: Path, ledger: Ledger) -> AsyncIterator[Shop]:
    async with open_shop("sqlite", tmp_path, ledger) as opened:
        yield opened
