"""30,000 rows of four writers that commit out of order and roll back, polled meanwhile: each read
exactly once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from tests.support.sources import PRODUCTS, START, Reader, source_feed, source_tables
from tests.support.writers import Writers

ROWS = 30_000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", ["identity", "rowversion"])
@pytest.mark.parametrize("product", PRODUCTS)
async def test_every_committed_row_is_read_exactly_once_and_no_gap_stays(
    product: str, strategy: str, tmp_path: Path
) -> None:
    async with source_tables(product, tmp_path) as tables:
        writers = Writers(tables, ROWS, Random(11))
        await writers.prepare()
        column = "id" if strategy == "identity" else "rv"
        source = tables.source()
        bound = {"cursor_max_gaps": 100_000} if strategy == "identity" else {}
        reader = Reader(source, source_feed(tables.named("written"), strategy, column, **bound))
        seen: Counter[str] = Counter()
        writing = asyncio.create_task(writers.write())
        while not writing.done():
            seen.update(await reader.keys())
            await asyncio.sleep(0.01)
        await writing
        read_meanwhile = len(seen)
        seen.update(await reader.keys())
        seen.update(await reader.keys(START + timedelta(hours=1)))
        await source.close()
    assert read_meanwhile > ROWS / 10
    assert 0.9 * ROWS < len(writers.committed) < ROWS
    assert writers.rolled_back > 0
    assert set(seen) == {str(number) for number in writers.committed}
    assert set(seen.values()) == {1}
    assert reader.cursor.gaps == ()
