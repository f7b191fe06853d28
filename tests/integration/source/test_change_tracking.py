"""Reading a table by its tracked changes: no row is lost, deletes come where wanted, what is
forgotten is said.

On SQLite with triggers that keep what SQL Server keeps, and on the server that TEST_MSSQL_URL
names, where it tracks changes.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.source.findings import Level
from app.source.products.registry import PRODUCTS as KNOWN
from app.source.reader import Source
from tests.support.doubles import MemoryQueue
from tests.support.reconciled import Shop
from tests.support.sources import PRODUCTS, START, Reader, source_tables
from tests.support.tracked import TRACKING_SQLITE, Tracked


@dataclass
class Place:
    """A tracked table, and what reads it."""

    orders: Tracked
    source: Source

    def feed(self, *, start: str = "beginning", deletes: bool = False, **fields: Any) -> Feed:
        cursor: dict[str, Any] = {"strategy": "change_tracking", "start": start, "deletes": deletes}
        plain = {"name": "orders", "table": self.orders.name, "key": "id", "cursor": cursor}
        return Feed.model_validate(
            plain | {"partner": {"url": "https://partner.example/"}} | fields
        )

    def reader(self, **fields: Any) -> Reader:
        return Reader(self.source, self.feed(**fields))

    def changes(self, **fields: Any) -> Reader:
        return self.reader(deletes=True, capture="changes", **fields)


@pytest.fixture(params=PRODUCTS)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setitem(KNOWN, "sqlite", TRACKING_SQLITE)
    async with source_tables(request.param, tmp_path) as tables:
        orders, source = Tracked(tables), tables.source()
        await orders.make(1, 2, 3, 4, 5)
        await orders.track()
        yield Place(orders, source)
        await source.close()


async def test_rows_from_before_tracking_are_read_first_then_what_changes(place: Place) -> None:
    reader = place.reader(page_size=2)
    assert await reader.keys() == ["1", "2", "3", "4", "5"]
    await place.orders.insert(6)
    await place.orders.update(2, "again")
    assert await reader.keys() == ["6", "2"], "in the order of their commits"
    assert await reader.keys() == []


async def test_a_change_made_while_the_table_is_read_first_is_not_lost(place: Place) -> None:
    reader = place.reader(page_size=2)
    seen = {row.key: row.payload for row in (await reader.page()).rows}
    await place.orders.update(1, "meanwhile")
    await place.orders.insert(0)
    await place.orders.delete(5)
    for _ in range(2):
        seen |= {row.key: row.payload for row in await reader.poll()}
    assert {key: json.loads(payload)["note"] for key, payload in seen.items() if key != "5"} == {
        "0": "new", "1": "meanwhile", "2": "old", "3": "old", "4": "old",
    }  # fmt: skip


async def test_from_now_on_nothing_older_is_read(place: Place) -> None:
    reader = place.reader(start="now")
    assert await reader.keys() == []
    await place.orders.insert(6)
    assert await reader.keys() == ["6"]


async def test_a_page_may_end_between_rows_of_one_transaction(place: Place) -> None:
    reader = place.reader(page_size=3, start="now")
    await reader.poll()
    await place.orders.insert(*range(10, 17))
    await place.orders.insert(20, 21)
    assert await reader.keys() == [*map(str, range(10, 17)), "20", "21"]


async def test_a_delete_is_a_delivery_of_its_key_where_the_feed_wants_it(place: Place) -> None:
    reader = place.changes()
    await reader.poll()
    version = await place.orders.delete(3)
    (row,) = await reader.poll()
    assert json.loads(row.payload) == {"id": 3, "_deleted": True}
    assert (row.key, row.change, row.error) == ("3", str(version), None)


async def test_a_delete_is_passed_over_where_the_feed_does_not_want_it(place: Place) -> None:
    reader = place.reader(page_size=2)
    await reader.poll()
    for number in (1, 2, 3):
        await place.orders.delete(number)
    await place.orders.insert(9)
    assert await reader.keys() == ["9"]


async def test_several_changes_of_a_row_between_two_polls_are_one(place: Place) -> None:
    reader = place.changes()
    await reader.poll()
    await place.orders.update(1, "first")
    last = await place.orders.update(1, "last")
    (row,) = await reader.poll()
    assert json.loads(row.payload)["note"] == "last"
    assert row.change == str(last)


async def test_a_row_read_again_from_the_beginning_is_the_change_that_it_was(place: Place) -> None:
    """So a rewind delivers nothing twice, as long as SQL Server knows the row's version."""
    reader = place.changes()
    await reader.poll()
    await place.orders.update(1, "once")
    (first,) = await reader.poll()
    reader.cursor = Cursor("orders")
    again = {row.key: row.change for row in await reader.poll()}
    assert again == {"1": first.change, "2": "0", "3": "0", "4": "0", "5": "0"}
    found = await place.source.find(reader.feed, "1")
    assert found is not None
    assert (found.row.change, found.read) == (first.change, True)
    assert {row.change for row in await place.source.find_all(reader.feed, ["1", "2"])} == {
        first.change,
        "0",
    }


async def test_a_table_at_rest_does_not_fall_behind_what_is_kept(place: Place) -> None:
    if place.orders.tables.mssql:
        pytest.skip("nothing makes SQL Server clean up at once")
    reader = place.reader()
    await reader.poll()
    for _ in range(3):
        await place.orders.commit(
            "UPDATE ct_state SET oldest = oldest"
        )  # a transaction on another table
    await reader.poll()
    await place.orders.clean_up()
    page = await reader.page()
    assert page.ahead is None


async def test_changes_that_are_not_kept_any_more_stop_the_feed(
    place: Place, ledger: Ledger
) -> None:
    """Asked after the page, whose rows are not taken: what was cleaned up may be missing among
    them.
    """
    feed = place.feed()
    polling = Polling(place.source, ledger, MemoryQueue(), message_wait=timedelta(minutes=1))
    await polling.poll(feed)
    await place.orders.update(1, "lost")
    await place.orders.truncate()
    await place.orders.insert(7)
    assert (await polling.poll(feed)).stopped == "paused"
    cursor = await ledger.cursors.get("orders")
    assert cursor.paused_reason is not None
    assert "are kept from version" in cursor.paused_reason
    assert "feeds rewind orders --to beginning" in cursor.paused_reason
    assert set(await ledger.deliveries.ids("orders")) == {
        f"orders:{number}" for number in range(1, 6)
    }


async def test_a_rewind_to_before_what_is_kept_is_refused(place: Place) -> None:
    version = await place.orders.insert(6)
    await place.orders.truncate()
    with pytest.raises(SourceRefused, match="are kept from version"):
        await place.source.begin(place.feed(), version - 1, START)
    begun = await place.source.begin(place.feed(), "beginning", START)
    assert (await place.source.read_page(place.feed(), begun, START)).ahead is None


async def test_a_database_restored_to_an_older_state_stops_the_feed(place: Place) -> None:
    if place.orders.tables.mssql:
        pytest.skip("a restore takes more rights than the tests have")
    reader = place.reader()
    await reader.poll()
    await place.orders.tables.run("UPDATE ct_state SET current = 10, oldest = 10")
    page = await reader.page()
    assert page.ahead is not None
    assert page.ahead.certain
    assert "has only reached 10" in page.ahead.reason


async def test_changes_that_nobody_tracks_are_refused_with_what_to_do(place: Place) -> None:
    if place.orders.tables.mssql:
        await place.orders.tables.run(f"ALTER TABLE {place.orders.name} DISABLE CHANGE_TRACKING")
    else:
        await place.orders.tables.run("UPDATE ct_state SET oldest = NULL")
    with pytest.raises(
        SourceRefused, match=r"are not tracked, or the login may not see them: .*CHANGE_TRACKING"
    ):
        await place.reader().page()
    found = {finding.subject: finding.level for finding in await place.source.examine(place.feed())}
    assert found["change tracking"] is Level.FAILED


async def test_a_key_that_is_not_the_primary_key_is_refused(place: Place) -> None:
    with pytest.raises(SourceRefused, match="knows rows by the table's primary key, which is: id"):
        await place.reader(key="note").page()


async def test_conditions_hold_for_changes_and_for_the_first_reading(place: Place) -> None:
    reader = place.reader(where=[{"column": "note", "op": "!=", "value": "old"}])
    assert await reader.keys() == []
    await place.orders.update(2, "other")
    await place.orders.insert(8, note="old")
    assert await reader.keys() == ["2"]


async def test_a_row_too_large_is_left_behind_alone(place: Place) -> None:
    reader = place.reader(max_payload=60)
    await reader.poll()
    await place.orders.insert(6, note="x" * 100)
    await place.orders.insert(7)
    large, small = await reader.poll()
    assert (large.key, large.payload) == ("6", "")
    assert large.error is not None
    assert (small.key, small.error) == ("7", None)


async def test_waiting_rows_are_counted_before_and_after_the_first_reading(place: Place) -> None:
    reader = place.reader(page_size=3)
    assert await place.source.waiting(reader.feed, reader.cursor, 100) == 5
    await reader.page()
    assert await place.source.waiting(reader.feed, reader.cursor, 100) == 2
    await reader.poll()
    await reader.poll()
    await place.orders.insert(6, 7)
    assert await place.source.waiting(reader.feed, reader.cursor, 100) == 2
    assert [row.key for row in await place.source.latest(reader.feed)][:2] == ["7", "6"]


async def test_source_and_ledger_are_not_compared_and_it_says_so(
    place: Place, ledger: Ledger
) -> None:
    shop = Shop(place.orders.tables, place.source, ledger)
    with pytest.raises(
        SourceRefused, match="there is no certificate; for certificates use strategy rowversion"
    ):
        await shop.reconciling().reconcile(place.feed())


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_applies_what_is_read_has_the_table(place: Place, seed: int) -> None:
    """Whatever is committed between two pages: rows, changes and deletes, in transactions of
    several.
    """
    chance = random.Random(seed)
    reader, mirror = place.changes(page_size=3), dict[str, str]()

    async def read() -> None:
        for row in (await reader.page()).rows:
            values = json.loads(row.payload)
            if values.get("_deleted"):
                mirror.pop(row.key, None)
            else:
                mirror[row.key] = values["note"]

    for turn in range(40):
        there = [int(key) for key in await place.orders.rows()]
        gone = sorted(set(range(1, 15)) - set(there))
        kind = chance.choice(["insert", "update", "delete"])
        if kind == "insert" and gone:
            await place.orders.insert(
                *chance.sample(gone, min(len(gone), chance.randint(1, 4))), note=f"i{turn}"
            )
        elif there and kind == "delete":
            await place.orders.delete(chance.choice(there))
        elif there:
            await place.orders.update(chance.choice(there), f"u{turn}")
        if chance.random() < 0.6:
            await read()
    for _ in range(12):
        await read()
    assert mirror == await place.orders.rows()
