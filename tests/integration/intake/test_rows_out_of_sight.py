"""Rows that a cursor cannot see: each is said where it can be, by the poll, by `doctor` or by the
certificate.

On SQLite always, and on the T-SQL server that TEST_MSSQL_URL names.
"""

# S608: the tests write SQL of their own, from their own constants.

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.certificates import DiscrepancyKind
from app.feeds.cursors import SPECS
from app.intake.poll import Polling
from app.ledger import Ledger
from app.source.cursors.registry import STRATEGIES
from app.source.findings import Finding, Level
from tests.support.doubles import VirtualClock
from tests.support.reconciled import WAIT, Shop
from tests.support.sources import PRODUCTS, source_feed, source_tables

LONGER_THAN_A_GAP = timedelta(minutes=11)


@pytest.fixture(params=PRODUCTS)
async def shop(
    request: pytest.FixtureRequest, tmp_path: Path, ledger: Ledger
) -> AsyncIterator[Shop]:
    async with source_tables(request.param, tmp_path) as tables:
        await tables.make("orders", id="IDENTITY", note="NVARCHAR")
        source = tables.source()
        yield Shop(tables, source, ledger)
        await source.close()


@pytest.fixture
def new_york() -> Iterator[None]:
    """A server whose local time is behind UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


async def given(shop: Shop, *ids: int) -> None:
    """Insert rows under ids of the test's own."""
    rows = ", ".join(f"({number}, 'row')" for number in ids)
    table = shop.tables.named("orders")
    insert = f"INSERT INTO {table} (id, note) VALUES {rows}"  # noqa: S608 - names of ours
    allowed = f"SET IDENTITY_INSERT {table} ON; {insert}; SET IDENTITY_INSERT {table} OFF"
    await shop.tables.run(allowed if shop.tables.mssql else insert)


async def findings(shop: Shop) -> dict[str, Finding]:
    return {found.subject: found for found in await shop.source.examine(shop.feed)}


@pytest.mark.parametrize("start", ["beginning", "now"])
async def test_new_rows_below_all_that_was_read_are_said_and_certified(
    shop: Shop, start: str
) -> None:
    """Reseeded to the lowest id, or an identity that counts down."""
    shop.feed_by("identity", cursor_start=start)
    clock = VirtualClock()
    polling = Polling(shop.source, shop.ledger, shop.queue, message_wait=WAIT, now=clock)
    await given(shop, 1_000_001)
    await polling.poll(shop.feed)
    await given(shop, 1_000_002)
    for _ in range(3):
        await polling.poll(shop.feed)
        clock.advance(LONGER_THAN_A_GAP)
    await given(shop, -1000, -999, -998)
    await polling.poll(shop.feed)
    cursor = await shop.cursor()
    assert not cursor.paused, "one row put in by hand stops no feed"
    assert cursor.last_error is not None
    assert "a row under id -1000 lies below all that were there" in cursor.last_error
    certificate = await shop.reconciling(now=clock).reconcile(shop.feed)
    if start == "beginning":
        assert set(certificate.missing_ids) >= {"orders:-1000", "orders:-999", "orders:-998"}, (
            "healed"
        )
    else:
        (found,) = certificate.discrepancies
        assert (found.kind, found.count) == (DiscrepancyKind.BELOW_START, 3)
        assert set(found.ids) == {"orders:-1000", "orders:-999", "orders:-998"}
        assert not certificate.complete


async def test_an_identity_whose_counter_went_back_pauses_the_feed_though_high_ids_stay(
    shop: Shop,
) -> None:
    shop.feed_by("identity")
    await given(shop, 100, 101)
    await shop.poll()
    table = shop.tables.named("orders")
    reseed = f"DBCC CHECKIDENT('{table}', RESEED, 7)"
    sqlite = "UPDATE sqlite_sequence SET seq = 7 WHERE name = 'orders'"
    try:
        await shop.tables.run(reseed if shop.tables.mssql else sqlite)
    except Exception as error:
        if shop.tables.mssql:
            pytest.skip(f"no DBCC CHECKIDENT here: {error}")
        raise
    await shop.poll()
    cursor = await shop.cursor()
    assert cursor.paused
    assert cursor.paused_reason is not None
    assert "has only reached 7" in cursor.paused_reason


async def test_a_table_with_null_in_the_cursor_column_is_warned_about(shop: Shop) -> None:
    await shop.tables.make("changed", id="BIGINT PRIMARY KEY", at="MOMENT")
    shop.feed = source_feed(shop.tables.named("changed"), "timestamp", "at", cursor_clock="utc")
    assert (await findings(shop))["cursor column"].level is Level.OK
    await shop.tables.insert("changed", [{"id": n, "at": None} for n in (1, 2)])
    found = (await findings(shop))["cursor column"]
    assert (found.level, found.detail.split(":")[0]) == (Level.WARNING, "at is NULL in 2 rows")


@pytest.mark.parametrize(("clock", "warned"), [("local", True), ("either", True), ("utc", False)])
@pytest.mark.usefixtures("new_york")
async def test_a_column_of_local_time_is_warned_about(shop: Shop, clock: str, warned: bool) -> None:
    if shop.tables.mssql and clock == "either":
        pytest.skip("the server's own time zone counts")
    await shop.tables.make("written", id="BIGINT PRIMARY KEY", at="MOMENT")
    shop.feed = source_feed(shop.tables.named("written"), "timestamp", "at", cursor_clock=clock)
    assert ("clock" in await findings(shop)) is warned


async def test_a_database_that_is_read_only_is_warned_about_whatever_the_strategy() -> None:
    assert set(STRATEGIES) == set(SPECS), "a schema without a strategy, or the other way round"
    assert all("read from the primary" in strategy.on_replica for strategy in STRATEGIES.values())


async def test_a_column_that_the_catalogue_hides_is_sent(shop: Shop) -> None:
    """Where nothing is hidden the columns are as they were found."""
    shop.feed_by("identity")
    assert [name for name, _ in await shop.source.check(shop.feed)] == ["id", "note"]
