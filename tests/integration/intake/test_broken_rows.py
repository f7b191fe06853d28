"""A row whose own value breaks the statement is a dead letter with the reason, and the others go
on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from app.core.position import ReadRange
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.source.broken import STATEMENTS
from app.source.scan import ScanRange
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.sources import Reader, SourceTables, source_feed, source_tables

MINUTE = timedelta(minutes=1)
STRATEGIES = [("identity", "id"), ("rowversion", "rv"), ("timestamp", "at")]


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[SourceTables]:
    """A view with a column that is worked out when it is read, from text that may be no JSON."""
    async with source_tables("sqlite", tmp_path) as made:
        await made.make(
            "documents", id="INTEGER PRIMARY KEY", rv="ROWVERSION", at="MOMENT", doc="TEXT"
        )
        await made.run(
            "CREATE VIEW orders AS SELECT id, rv, at, json_extract(doc, '$.n') AS n FROM documents"
        )
        yield made


async def write(tables: SourceTables, ids: Sequence[int], broken: Sequence[int] = ()) -> None:
    await tables.write(
        "documents",
        [
            {
                "id": i,
                "at": f"2026-01-01 10:{i // 60:02}:{i % 60:02}",
                "doc": "no JSON" if i in broken else '{"n": 5}',
            }
            for i in ids
        ],
    )


class Poller:
    """Polls a feed of `tables`."""

    def __init__(self, tables: SourceTables, ledger: Ledger) -> None:
        self.source = tables.source()
        self.ledger = ledger
        self.clock = VirtualClock()
        self._polling = Polling(
            self.source, ledger, MemoryQueue(), message_wait=MINUTE, now=self.clock
        )

    async def poll(self, feed: Feed) -> None:
        self.clock.advance(MINUTE)
        await self._polling.poll(feed)

    async def states(self) -> dict[int, str]:
        found = await self.ledger._database["deliveries"].find().to_list()
        return {int(document["key"]): document["state"] for document in found}

    async def reason(self, key: int) -> str:
        document = await self.ledger.deliveries.get(f"orders:{key}")
        assert document is not None
        return str(document["reason"])

    async def paused_reason(self) -> str | None:
        return (await self.ledger.cursors.get("orders")).paused_reason


@pytest.fixture
async def poller(tables: SourceTables, ledger: Ledger) -> AsyncIterator[Poller]:
    made = Poller(tables, ledger)
    yield made
    await made.source.close()


def expected(ids: Sequence[int], broken: Sequence[int]) -> dict[int, str]:
    return {i: "dead" if i in broken else "queued" for i in ids}


@pytest.mark.parametrize(("strategy", "column"), STRATEGIES)
@pytest.mark.parametrize("broken", [[1], [4], [9], [3, 4, 8], list(range(1, 10))], ids=str)
async def test_a_row_that_cannot_be_worked_out_is_left_behind_alone(
    tables: SourceTables, poller: Poller, strategy: str, column: str, broken: list[int]
) -> None:
    await write(tables, range(1, 10), broken)
    feed = source_feed("orders", strategy, column, page_size=4)
    await poller.poll(feed)
    assert await poller.states() == expected(range(1, 10), broken)
    assert "malformed JSON" in await poller.reason(broken[0])
    assert await poller.paused_reason() is None
    await write(tables, [10])
    await poller.poll(feed)
    assert (await poller.states())[10] == "queued"


@pytest.mark.parametrize(("strategy", "column"), STRATEGIES)
async def test_a_row_of_which_where_cannot_be_told_is_left_behind_alone(
    tables: SourceTables, poller: Poller, strategy: str, column: str
) -> None:
    where = [{"column": "n", "op": ">", "value": 1}]
    feed = source_feed("orders", strategy, column, columns=["id"], where=where)
    await write(tables, range(1, 6), [3])
    await poller.poll(feed)
    assert await poller.states() == expected(range(1, 6), [3])
    assert "where cannot be told" in await poller.reason(3)
    await write(tables, [6], [6])
    await poller.poll(feed)
    assert (await poller.states())[6] == "dead", "the rows before it show that where can be told"


@pytest.mark.parametrize(("strategy", "column"), STRATEGIES)
async def test_a_where_that_can_be_told_of_no_row_is_the_feeds_fault(
    tables: SourceTables, poller: Poller, strategy: str, column: str
) -> None:
    where = [{"column": "n", "op": ">", "value": 1}]
    await write(tables, range(1, 4), range(1, 4))
    await poller.poll(source_feed("orders", strategy, column, columns=["id"], where=where))
    assert await poller.states() == {}
    assert "where cannot be told of the row of key 1, nor of any other" in (
        await poller.paused_reason() or ""
    )


async def test_a_broken_row_that_commits_late_is_left_behind_alone(
    tables: SourceTables, poller: Poller
) -> None:
    feed = source_feed("orders", "identity", "id")
    await write(tables, [1, 2, 6, 7])
    await poller.poll(feed)
    await write(tables, [3, 4, 5], [4])
    await poller.poll(feed)
    assert await poller.states() == expected(range(1, 8), [4])


@pytest.mark.parametrize(("strategy", "column"), STRATEGIES)
async def test_a_reconciliation_sees_the_rows_of_which_where_cannot_be_told(
    tables: SourceTables, poller: Poller, strategy: str, column: str
) -> None:
    """They are dead letters, so they are the feed's; those behind them are seen, too."""
    feed = source_feed(
        "orders", strategy, column, columns=["id"], where=[{"column": "n", "op": ">", "value": 1}]
    )
    await write(tables, range(1, 10), [3, 8])
    await poller.poll(feed)
    position = (await poller.ledger.cursors.get("orders")).position
    stretch = ScanRange(ReadRange(None, position))
    first = await poller.source.walk(feed, stretch, None, 5)
    assert ([row.key for row in first.rows], first.more) == ([str(i) for i in range(1, 6)], True)
    rest = await poller.source.walk(feed, stretch, first.reached, 5)
    assert ([row.key for row in rest.rows], rest.more) == ([str(i) for i in range(6, 10)], False)
    assert await poller.source.count(feed, stretch, None, 100) == (9, None)
    there = await poller.source.present(feed, ["3", "4", "99"])
    assert {key: row is not None for key, row in there.items()} == {
        "3": True,
        "4": True,
        "99": False,
    }
    found, _ = await poller.source.find_some(feed, ["2", "3", "4"])
    assert [(row.key, row.error is None) for row in found] == [
        ("2", True),
        ("3", False),
        ("4", True),
    ]


async def test_a_key_that_breaks_is_refused_by_name(tables: SourceTables, poller: Poller) -> None:
    await write(tables, [1, 2], [2])
    await poller.poll(source_feed("orders", "identity", "id", key="n"))
    assert "malformed JSON" in (await poller.paused_reason() or "")
    assert await poller.states() == {}


async def test_looking_for_broken_rows_is_bounded_and_goes_on_with_the_next_page(
    tables: SourceTables, poller: Poller
) -> None:
    ids = range(1, 201)
    await write(tables, ids, ids)
    asked: list[object] = []
    event.listen(
        poller.source._engine.sync_engine,
        "before_cursor_execute",
        lambda *args: asked.append(args[2]),
    )
    reader = Reader(poller.source, source_feed("orders", "identity", "id", page_size=200))
    page = await reader.page()
    assert len([sql for sql in asked if "FROM orders" in str(sql)]) <= STATEMENTS + 2
    assert page.full
    assert STATEMENTS // 4 <= len(page.rows) < 200
    assert [row.key for row in page.rows] + await reader.keys() == [str(i) for i in ids]
