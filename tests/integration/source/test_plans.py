"""What was believed of a table is looked at again: before its feed is paused, and so that all
workers send alike.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from app.core.cursors import Cursor
from app.core.errors import SourceUnavailable
from app.feeds.feed import Feed
from app.intake.follow_ups import Polled
from app.intake.poll import Polling
from app.ledger import Ledger
from app.reads.doctor.check import Check
from app.reads.doctor.source import check_feed
from app.source import plans
from app.source.findings import Level
from app.source.reader import Source
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.sources import PRODUCTS, SourceTables, source_feed, source_tables

MINUTE = timedelta(minutes=1)
COLUMNS = {"id": "IDENTITY", "rv": "ROWVERSION", "at": "MOMENT", "note": "NVARCHAR", "extra": "INT"}


@dataclass
class Workers:
    """Worker processes over one ledger, each with plans of its own."""

    tables: SourceTables
    ledger: Ledger
    clock: VirtualClock = field(default_factory=VirtualClock)
    _sources: list[Source] = field(default_factory=list)

    def start(self) -> Polling:
        self._sources.append(self.tables.source())
        return Polling(
            self._sources[-1], self.ledger, MemoryQueue(), message_wait=MINUTE, now=self.clock
        )

    async def poll(self, worker: Polling, feed: Feed) -> Polled:
        self.clock.advance(MINUTE)
        return await worker.poll(feed)

    async def write(self, **row: Any) -> None:
        moment = {"at": "2026-01-01 10:00:00"}
        await self.tables.write("orders", [moment | row])

    async def add_column(self, name: str) -> None:
        word = "ADD" if self.tables.mssql else "ADD COLUMN"
        await self.tables.run(f"ALTER TABLE {self.tables.named('orders')} {word} {name} INT")

    async def drop_column(self, name: str) -> None:
        await self.tables.run(f"ALTER TABLE {self.tables.named('orders')} DROP COLUMN {name}")

    async def cursor(self) -> Cursor:
        return await self.ledger.cursors.get("orders")

    async def sent(self) -> list[list[str]]:
        """The columns of each row logged, in the rows' order."""
        found = await self.ledger._database["deliveries"].find().to_list()
        rows = [json.loads(document["payload"]) for document in found]
        return [list(row) for row in sorted(rows, key=lambda row: row["id"])]

    async def close(self) -> None:
        for source in self._sources:
            await source.close()


@pytest.fixture(params=PRODUCTS)
async def workers(
    request: pytest.FixtureRequest, tmp_path: Path, ledger: Ledger
) -> AsyncIterator[Workers]:
    async with source_tables(request.param, tmp_path) as tables:
        try:
            await tables.make("orders", **COLUMNS)
        except DBAPIError:  # Babelfish, as it comes, makes no rowversion
            await tables.make(
                "orders", **{name: kind for name, kind in COLUMNS.items() if name != "rv"}
            )
        made = Workers(tables, ledger)
        yield made
        await made.close()


def a_feed(workers: Workers, strategy: str = "identity", column: str = "id", **fields: Any) -> Feed:
    return source_feed(workers.tables.named("orders"), strategy, column, **fields)


@pytest.fixture
def _plans_live_for_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "LIFE", timedelta(0))


@pytest.mark.parametrize(
    ("strategy", "column"), [("identity", "id"), ("rowversion", "rv"), ("timestamp", "at")]
)
async def test_a_column_that_nobody_names_may_go(
    workers: Workers, strategy: str, column: str
) -> None:
    if strategy == "rowversion" and workers.tables.mssql:
        try:
            await workers.tables.run("SELECT MIN_ACTIVE_ROWVERSION()")
        except DBAPIError as error:
            pytest.skip(f"this server: {error.orig}")
    feed, worker = a_feed(workers, strategy, column), workers.start()
    await workers.write(note="a")
    assert (await workers.poll(worker, feed)).logged == 1
    await workers.drop_column("extra")
    await workers.write(note="b")
    try:
        polled = await workers.poll(worker, feed)
    except (
        SourceUnavailable
    ):  # Babelfish has no number of SQL Server's for it: the poll after that one goes on
        workers.clock.advance(MINUTE)
        polled = await workers.poll(worker, feed)
    assert polled.logged == 1
    cursor = await workers.cursor()
    assert not cursor.paused
    assert "gone from table" in (cursor.noted or "")
    assert [("extra" in row) for row in await workers.sent()] == [True, False]


async def test_a_table_swapped_for_another_is_read_on(workers: Workers) -> None:
    """The poll falls between the two renames."""
    if workers.tables.mssql:
        pytest.skip("one statement renames on SQLite")
    feed, worker = a_feed(workers), workers.start()
    await workers.write(note="a")
    await workers.poll(worker, feed)
    await workers.tables.run(
        "CREATE TABLE fresh (id INTEGER PRIMARY KEY, note TEXT)",
        "INSERT INTO fresh VALUES (1, 'a'), (2, 'b')",
        "ALTER TABLE orders RENAME TO old",
    )
    polling = asyncio.create_task(workers.poll(worker, feed))
    await asyncio.sleep(0.1)
    await workers.tables.run("ALTER TABLE fresh RENAME TO orders")
    assert (await polling).logged == 1
    assert not (await workers.cursor()).paused


async def test_a_table_that_is_gone_pauses_the_reading_and_not_the_sending(
    workers: Workers,
) -> None:
    feed, worker = a_feed(workers), workers.start()
    await workers.write(note="a")
    await workers.poll(worker, feed)
    await workers.tables.run(f"DROP TABLE {workers.tables.named('orders')}")
    workers.tables.made.clear()
    try:
        assert (await workers.poll(worker, feed)).stopped == "paused"
    except SourceUnavailable as error:
        pytest.skip(f"this server has no number of SQL Server's for that: {error}")
    cursor = await workers.cursor()
    assert cursor.paused
    assert "does not exist" in (cursor.paused_reason or "")
    assert await workers.ledger.pauses.paused() == [], "what is logged is still sent"
    await workers.ledger.pauses.pause("orders", "by hand")
    assert await workers.ledger.pauses.paused() == ["orders"]
    await workers.ledger.pauses.resume("orders")
    assert not (await workers.cursor()).paused


async def test_a_column_that_comes_is_sent_by_all_workers_from_one_page_on(
    workers: Workers,
) -> None:
    feed, old = a_feed(workers), workers.start()
    await workers.write(note="a")
    await workers.poll(old, feed)
    await workers.add_column("added")
    await workers.write(note="b", added=42)
    await workers.poll(workers.start(), feed)
    assert "new in table" in ((await workers.cursor()).noted or "")
    await workers.write(note="c", added=43)
    await workers.poll(old, feed)
    assert [("added" in row) for row in await workers.sent()] == [False, True, True]


@pytest.mark.usefixtures("_plans_live_for_no_time")
async def test_a_worker_notices_by_itself_that_a_column_came(workers: Workers) -> None:
    feed, worker = a_feed(workers), workers.start()
    await workers.write(note="a")
    await workers.poll(worker, feed)
    await workers.add_column("added")
    assert (await workers.poll(worker, feed)).read == 0, "noticed though no row came"
    assert "'added'" in ((await workers.cursor()).noted or "")
    await workers.write(note="b", added=42)
    await workers.poll(worker, feed)
    assert [("added" in row) for row in await workers.sent()] == [False, True]


@pytest.mark.usefixtures("_plans_live_for_no_time")
async def test_a_column_that_is_to_be_ignored_is_said_once_and_sent_by_nobody(
    workers: Workers,
) -> None:
    feed, worker = a_feed(workers, on_new_column="ignore"), workers.start()
    await workers.write(note="a")
    await workers.poll(worker, feed)
    await workers.add_column("added")
    for note in ("b", "c"):
        await workers.write(note=note, added=42)
        await workers.poll(worker, feed)
        await workers.poll(workers.start(), feed)
    cursor = await workers.cursor()
    assert "not sent" in (cursor.noted or "")
    assert cursor.noted_at == workers.clock.time - 3 * MINUTE, (
        "said by the first poll, and not by those after it"
    )
    assert not any("added" in row for row in await workers.sent())


@pytest.mark.usefixtures("_plans_live_for_no_time")
async def test_a_column_that_is_to_be_asked_about_is_sent_once_an_operator_resumes(
    workers: Workers,
) -> None:
    feed, worker = a_feed(workers, on_new_column="pause"), workers.start()
    await workers.write(note="a")
    await workers.poll(worker, feed)
    await workers.add_column("added")
    await workers.write(note="b", added=42)
    assert (await workers.poll(worker, feed)).stopped == "paused"
    cursor = await workers.cursor()
    assert "feeds resume orders" in (cursor.paused_reason or "")
    assert "'added'" in (cursor.paused_reason or "")
    await workers.ledger.pauses.resume("orders")
    assert (await workers.poll(worker, feed)).logged == 1
    assert [("added" in row) for row in await workers.sent()] == [False, True]


@pytest.mark.usefixtures("_plans_live_for_no_time")
async def test_a_type_that_changes_is_said(workers: Workers) -> None:
    if workers.tables.mssql:
        change = [f"ALTER TABLE {workers.tables.named('orders')} ALTER COLUMN extra BIGINT"]
    else:
        change = [
            "ALTER TABLE orders DROP COLUMN extra",
            "ALTER TABLE orders ADD COLUMN extra BIGINT",
        ]
    feed, worker = a_feed(workers), workers.start()
    await workers.poll(worker, feed)
    await workers.tables.run(*change)
    await workers.poll(worker, feed)
    assert "'extra' from INTEGER to BIGINT" in ((await workers.cursor()).noted or "")


async def test_a_feed_that_names_its_columns_is_told_nothing(workers: Workers) -> None:
    feed, worker = a_feed(workers, columns=["id", "note"]), workers.start()
    await workers.poll(worker, feed)
    await workers.add_column("added")
    await workers.drop_column("extra")
    await workers.write(note="a", added=1)
    assert (await workers.poll(worker, feed)).logged == 1
    assert (await workers.cursor()).noted is None
    assert await workers.sent() == [["id", "note"]]


async def _columns_check(workers: Workers, feed: Feed) -> Check:
    """What `doctor` says of the feed's columns."""
    source = workers.tables.source()
    checks = await check_feed(source, feed, await workers.cursor())
    await source.close()
    return next(check for check in checks if check.name == "feed orders: columns")


@pytest.mark.parametrize(
    ("policy", "follows"),
    [
        ("include", "'added': sent from the next page on"),
        ("ignore", "'added': not sent (on_new_column = \"ignore\")"),
        ("pause", "'added': the next page pauses the feed"),
    ],
)
async def test_doctor_shows_the_columns_agreed_and_how_the_table_differs(
    workers: Workers, policy: str, follows: str
) -> None:
    feed, worker = a_feed(workers, on_new_column=policy), workers.start()
    check = await _columns_check(workers, feed)
    assert (check.level, check.detail[:16]) == (Level.OK, "none agreed yet;")
    await workers.write(note="a")
    await workers.poll(worker, feed)
    check = await _columns_check(workers, feed)
    assert check.level is Level.OK
    assert check.detail.startswith("agreed and sent: 'id'")
    await workers.add_column("added")
    await workers.drop_column("extra")
    check = await _columns_check(workers, feed)
    assert check.level is Level.WARNING
    assert f"new: {follows}" in check.detail
    assert "gone: 'extra': the next page is sent without" in check.detail


@pytest.mark.usefixtures("_plans_live_for_no_time")
async def test_doctor_does_not_warn_of_a_column_that_is_ignored_on_purpose(
    workers: Workers,
) -> None:
    feed, worker = a_feed(workers, on_new_column="ignore"), workers.start()
    await workers.write(note="a")
    await workers.poll(worker, feed)
    await workers.add_column("added")
    await workers.write(note="b")
    await workers.poll(worker, feed)
    check = await _columns_check(workers, feed)
    assert check.level is Level.OK
    assert "not sent (on_new_column = \"ignore\"): 'added'" in check.detail
