"""What a key or cursor column holds goes from row to position, through the ledger, and back into a statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from app.ledger import Ledger
from app.poll import Polling
from app.reconcile import Reconciling
from app.source.reader import Source
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.sources import PRODUCTS, SourceTables, source_feed, source_tables

MINUTE = timedelta(minutes=1)


@pytest.fixture
def sqlite_trip(runner: asyncio.Runner, runner_ledger: Ledger, tmp_path: Path) -> Iterator[Trip]:
    yield from _trip(runner, runner_ledger, "sqlite", tmp_path)


def _trip(runner: asyncio.Runner, ledger: Ledger, product: str, folder: Path) -> Iterator[Trip]:
    entered = source_tables(product, folder)
    made = runner.run(entered.__aenter__())
    source = made.source()
    yield Trip(made, source, ledger)
    runner.run(source.close())
    runner.run(entered.__aexit__(None, None, None))


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


@dataclass
class Trip:
    """Rows of one column of values, read page by page into a real ledger and looked for from there."""

    tables: SourceTables
    source: Source
    ledger: Ledger
    feeds: Iterator[int] = field(default_factory=lambda: count(1))

    async def goes_round(self, declared: str, values: Sequence[Literal], strategy: str, page_size: int) -> None:
        """Every value that the database takes is one delivery, and the row of each delivery is found again."""
        table = f"t{next(self.feeds)}"
        await self.tables.make(table, k=declared, at="MOMENT", rv="ROWVERSION")
        rows = await self._fill(table, values)
        column = {"timestamp": "at", "rowversion": "rv"}[strategy]
        feed = source_feed(self.tables.named(table), strategy, column, key="k", name=table, page_size=page_size)
        polling = Polling(self.source, self.ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock())
        await polling.poll(feed)
        logged = await self.ledger.deliveries.ids(table)
        assert len(logged) == rows, (declared, values)
        assert (await polling.poll(feed)).logged == 0
        assert await self.source.waiting(feed, await self.ledger.cursors.get(table), 10) == 0
        keys = (await self.ledger.audit.keys_of(list(logged))).values()
        assert None not in (await self.source.present(feed, list(keys))).values()
        reconciling = Reconciling(self.source, self.ledger, MemoryQueue(), message_wait=MINUTE)
        certificate = await reconciling.reconcile(feed)
        assert (certificate.source_rows, certificate.missing, certificate.deleted) == (rows, 0, 0)

    async def _fill(self, table: str, values: Sequence[Literal]) -> int:
        """Insert the values that differ, as the database sees it, all of one moment. Returns how many there are."""
        named, kept = self.tables.named(table), 0
        await self.tables.run(f"CREATE UNIQUE INDEX {table}_k ON {named} (k)")
        for place, value in enumerate(values):
            version = "DEFAULT" if self.tables.mssql else place + 1
            row = f"{value}, '2026-01-01 10:00:00', {version}"
            with suppress(IntegrityError):  # as the database sees it, it is there
                await self.tables.run_plain(f"INSERT INTO {named} VALUES ({row})")  # noqa: S608
                kept += 1
        return kept


Literal: TypeAlias = str
"""A value in SQL."""


def _hex(value: bytes) -> str:
    return value.hex().upper()


_SQLITE_TEXT = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["1", "01", "1.0", "1e3", "inf", " 1", "a", "A", "a ", "", "%s1", "%x61", "61", "a\0b", "0x61", ":", "@"]
    ),
).filter(lambda text: text.isprintable() or "\0" in text)
SQLITE_VALUES: st.SearchStrategy[Literal] = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.sampled_from(["0", "1", "61", str(2**31), str(2**53 + 1), str(2**63 - 1), str(-(2**63)), "9e999", "-9e999"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    _SQLITE_TEXT.map(lambda text: f"CAST(x'{_hex(text.encode())}' AS TEXT)"),
    st.binary(max_size=6).map(lambda raw: f"CAST(x'{_hex(raw)}' AS TEXT)"),
    st.binary(max_size=6).map(lambda raw: f"x'{_hex(raw)}'"),
)
"""Of every storage class, and text that is no UTF-8."""


READ = st.tuples(st.sampled_from(["timestamp", "rowversion"]), st.sampled_from([1, 2, 100]))
"""Strategy and page size."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    declared=st.sampled_from(["", "TEXT", "INTEGER", "NUMERIC(10, 2)", "REAL", "BLOB", "DATETIME", "BOOLEAN"]),
    values=st.lists(SQLITE_VALUES, min_size=1, max_size=8),
    read=READ,
)
def test_any_value_of_sqlite_goes_to_the_ledger_and_back(
    runner: asyncio.Runner, sqlite_trip: Trip, declared: str, values: list[Literal], read: tuple[str, int]
) -> None:
    runner.run(sqlite_trip.goes_round(declared, values, *read))
