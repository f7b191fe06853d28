"""What a key or cursor column holds goes from row to position, through the ledger, and back into a statement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.ledger import Ledger
from app.poll import Polling
from app.reconcile import Reconciling
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.sources import PRODUCTS, SourceTables, source_feed, source_tables

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=PRODUCTS)
async def tables(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SourceTables]:
    async with source_tables(request.param, tmp_path) as made:
        yield made


@pytest.mark.parametrize("strategy", ["rowversion", "timestamp", "identity"])
@pytest.mark.parametrize("first", [2**31 - 1, 2**53 + 1])
async def test_a_feed_reads_on_whatever_the_size_of_its_integer_key(
    tables: SourceTables, ledger: Ledger, strategy: str, first: int
) -> None:
    await tables.make("orders", id="BIGINT PRIMARY KEY", at="MOMENT", rv="ROWVERSION")
    column = {"rowversion": "rv", "timestamp": "at", "identity": "id"}[strategy]
    feed = source_feed(tables.named("orders"), strategy, column)
    source = tables.source()
    polling = Polling(source, ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock())
    try:
        for step in range(3):
            await tables.write("orders", [{"id": first + step, "at": f"2026-01-01 10:00:0{step}"}])
            assert (await polling.poll(feed)).logged == 1
        cursor = await ledger.cursors.get(feed.name)
        assert await source.waiting(feed, cursor, 10) == 0
        certificate = await Reconciling(source, ledger, MemoryQueue(), message_wait=MINUTE).reconcile(feed)
        assert (certificate.source_rows, certificate.complete) == (3, True)
    finally:
        await source.close()
