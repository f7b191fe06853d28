"""Polling a real source into a real ledger: what goes wrong with one feed, and what an operator
does about it.
"""

# S608: the tests write SQL of their own, from the constants in this file.

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.cursors import POLL_WAIT_LIMIT, Cursor
from app.core.errors import CursorMoved, SourceUnavailable
from app.feeds.feed import Feed
from app.intake.poll import Polling, wait_after
from app.ledger import Ledger
from app.operations.by import By
from app.operations.rewind import Rewinding
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.sources import SourceTables, source_feed, source_tables
from tests.support.writers import Writers

MINUTE = timedelta(minutes=1)


@dataclass
class System:
    """A source, a ledger, and what polls the one into the other."""

    tables: SourceTables
    source: Source
    ledger: Ledger
    clock: VirtualClock

    @property
    def polling(self) -> Polling:
        return Polling(self.source, self.ledger, MemoryQueue(), message_wait=MINUTE, now=self.clock)

    @property
    def rewinding(self) -> Rewinding:
        return Rewinding(self.source, self.ledger, now=self.clock)

    async def cursor(self, feed: Feed) -> Cursor:
        return await self.ledger.cursors.get(feed.name)

    async def logged(self, feed: Feed) -> set[str]:
        return set(await self.ledger.deliveries.ids(feed.name))


@pytest.fixture
async def system(tmp_path: Path, mongo_database_url: str) -> AsyncIterator[System]:
    ledger = Ledger.at(mongo_database_url, timedelta(seconds=5))
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make("orders", id="IDENTITY", note="NVARCHAR", rv="ROWVERSION")
        source = tables.source()
        yield System(tables, source, ledger, VirtualClock())
        await source.close()
    await ledger.close()


def _orders(table: str = "orders", **fields: Any) -> Feed:
    return source_feed(table, "identity", "id", **fields)


async def test_polling_and_sending_are_paused_each_by_itself(system: System) -> None:
    """What is read while sending is paused is logged, and waits."""
    feed, pauses = _orders(), system.ledger.pauses
    await system.tables.write("orders", [{"id": 1, "note": "a"}])
    await pauses.pause("orders", "by hand", sending=True)
    assert (await system.polling.poll(feed)).stopped == "paused"
    await pauses.resume_polling("orders")
    await pauses.pause_sending("orders", "by hand")
    assert (await system.polling.poll(feed)).logged == 1
    assert (await system.cursor(feed)).sending_paused == "by hand"


async def test_a_refusal_pauses_its_feed_with_the_reason_and_leaves_the_others(
    system: System,
) -> None:
    await system.tables.write("orders", [{"id": 1, "note": "a"}])
    wrong, right = _orders(name="wrong", table="ordres"), _orders()
    assert (await system.polling.poll(wrong)).stopped == "paused"
    assert (await system.polling.poll(right)).logged == 1
    cursor = await system.cursor(wrong)
    assert cursor.paused
    assert cursor.paused_reason is not None
    assert cursor.paused_reason.startswith("feed wrong: table 'ordres' does not exist")
    assert not (await system.cursor(right)).paused
    assert (await system.polling.poll(wrong)).stopped == "paused"


async def test_an_unavailable_source_is_left_alone_for_longer_and_longer(
    system: System, tmp_path: Path
) -> None:
    feed = _orders()
    away = Source(open_engine(f"sqlite:///{tmp_path}/away.db", timedelta(seconds=1)))
    polling = Polling(away, system.ledger, MemoryQueue(), message_wait=MINUTE, now=system.clock)
    for failures in (1, 2, 3):
        with pytest.raises(SourceUnavailable):
            await polling.poll(feed)
        cursor = await system.cursor(feed)
        assert cursor.failures == failures
        assert cursor.retry_at == system.clock() + wait_after(failures, feed.poll_every)
        assert cursor.last_error is not None
        assert "away.db" in cursor.last_error
        assert (await polling.poll(feed)).stopped == "backing off"
        system.clock.advance(wait_after(failures, feed.poll_every))
    assert (await system.polling.poll(feed)).stopped == "up to date"
    cursor = await system.cursor(feed)
    assert (cursor.failures, cursor.retry_at, cursor.last_error) == (0, None, None)
    await away.close()


def test_the_wait_grows_from_less_than_a_poll_to_its_bound() -> None:
    waits = [wait_after(failures, timedelta(seconds=5)) for failures in range(1, 60)]
    assert waits[:3] == [timedelta(seconds=2.5), timedelta(seconds=7.5), timedelta(seconds=17.5)]
    assert waits == sorted(waits)
    assert waits[-1] == POLL_WAIT_LIMIT == timedelta(minutes=5)


async def test_deleted_rows_are_noted_and_the_feed_goes_on(system: System) -> None:
    feed = source_feed("orders", "rowversion", "rv")
    await system.tables.write("orders", [{"id": n, "note": "a"} for n in (1, 2)])
    await system.polling.poll(feed)
    await system.tables.run("DELETE FROM orders")
    assert (await system.polling.poll(feed)).stopped == "up to date"
    cursor = await system.cursor(feed)
    assert not cursor.paused
    assert "ahead of the table's highest version" in str(cursor.last_error)
    await system.tables.write("orders", [{"id": 3, "note": "a"}])
    assert (await system.polling.poll(feed)).logged == 1
    assert (await system.cursor(feed)).last_error is None


async def test_a_table_that_went_back_pauses_its_feed_until_it_is_rewound(system: System) -> None:
    feed = _orders()
    await system.tables.write("orders", [{"note": f"{n}"} for n in range(5)])
    await system.polling.poll(feed)
    await system.tables.run("DELETE FROM orders", "UPDATE sqlite_sequence SET seq = 2")
    assert (await system.polling.poll(feed)).stopped == "paused"
    reason = str((await system.cursor(feed)).paused_reason)
    assert "the cursor stands at 5, but the identity of orders has only reached 2" in reason
    assert "python -m app feeds rewind orders --to beginning --dry-run" in reason
    await system.tables.write("orders", [{"note": "after the restore"} for _ in range(4)])
    target = await system.rewinding.target(feed, 2)
    reread = await system.rewinding.reread(feed, target, 1000)
    assert (reread.rows, reread.known, reread.complete) == (4, 3, True)
    await system.rewinding.rewind(feed, 2, By("ada@desk"))
    await system.ledger.pauses.resume(feed.name)
    assert (await system.polling.poll(feed)).logged == 1
    assert await system.logged(feed) == {f"orders:{n}" for n in range(1, 7)}


@pytest.mark.parametrize("strategy", ["identity", "rowversion"])
async def test_a_rewind_reads_again_and_delivers_nothing_twice(
    system: System, strategy: str
) -> None:
    feed = source_feed(
        "orders",
        strategy,
        "id" if strategy == "identity" else "rv",
        cursor_start="now",
        page_size=2,
    )
    await system.tables.write("orders", [{"note": "before"} for _ in range(3)])
    await system.polling.poll(feed)
    await system.tables.write("orders", [{"note": "after"} for _ in range(3)])
    assert (await system.polling.poll(feed)).logged == 3
    stood = await system.cursor(feed)
    target = await system.rewinding.target(feed, "beginning")
    reread = await system.rewinding.reread(feed, target, 1000)
    assert (reread.rows, reread.known) == (6, 3)
    assert await system.cursor(feed) == stood
    assert not (await system.rewinding.reread(feed, target, 1)).complete
    await system.rewinding.rewind(feed, "beginning", By("ada@desk"))
    assert (await system.cursor(feed)).gaps == ()
    polled = await system.polling.poll(feed)
    assert (polled.read, polled.logged) == (6, 3)


async def test_a_rewind_that_meets_a_poll_does_nothing(system: System) -> None:
    feed = _orders()
    stale = await system.cursor(feed)
    await system.tables.write("orders", [{"note": "a"}])
    await system.polling.poll(feed)
    with pytest.raises(CursorMoved, match="a poll moved its cursor"):
        await system.ledger.cursors.rewind(
            stale, Cursor(feed.name, 0), "told", By("me").at(system.clock())
        )
    assert (await system.cursor(feed)).position == 1


async def test_each_change_is_logged_once_with_changes_and_each_row_once_with_inserts(
    system: System,
) -> None:
    inserts = source_feed("orders", "rowversion", "rv", name="inserts")
    changes = source_feed("orders", "rowversion", "rv", name="changes", capture="changes")
    await system.tables.write("orders", [{"id": 1, "note": "a"}])
    for feed in (inserts, changes):
        assert (await system.polling.poll(feed)).logged == 1
    await system.tables.touch("orders", 1)
    polled = await system.polling.poll(inserts)
    assert (polled.read, polled.logged) == (1, 0)
    polled = await system.polling.poll(changes)
    assert (polled.read, polled.logged) == (1, 1)
    assert await system.logged(inserts) == {"inserts:1"}
    assert await system.logged(changes) == {
        f"changes:1:0x{version:016X}" for version in (2001, 2002)
    }


async def test_rows_that_come_to_meet_the_where_later_are_delivered_then(system: System) -> None:
    feed = source_feed(
        "orders", "rowversion", "rv", where=[{"column": "note", "op": "=", "value": "changed"}]
    )
    await system.tables.write("orders", [{"id": 1, "note": "new"}])
    assert (await system.polling.poll(feed)).logged == 0
    await system.tables.touch("orders", 1)
    assert (await system.polling.poll(feed)).logged == 1


async def test_every_row_of_concurrent_writers_is_logged_exactly_once(system: System) -> None:
    writers = Writers(system.tables, total=4_000, random=random.Random(7))
    feed = _orders(table="written", page_size=500, cursor_gap_timeout="10m", max_backlog=1_000_000)
    await writers.prepare()
    logged = 0
    writing = asyncio.create_task(writers.write())
    while not writing.done():
        logged += (await system.polling.poll(feed)).logged
        await asyncio.sleep(0.02)
    await writing
    logged += (await system.polling.poll(feed)).logged
    system.clock.advance(timedelta(hours=1))
    assert (await system.polling.poll(feed)).logged == 0
    assert logged == len(writers.committed)
    assert await system.logged(feed) == {f"orders:{number}" for number in writers.committed}
    assert (await system.cursor(feed)).gaps == ()
