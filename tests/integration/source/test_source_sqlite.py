"""Reading a source over a real SQLite file, through the real driver."""

# S608: the tests write SQL of their own, from the constants in this file.

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiosqlite
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import SourceRefused, SourceUnavailable
from app.core.position import Gap
from app.core.rows import Page, SourceRow
from app.feeds.feed import Feed
from app.source import pages
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.sources import Reader, source_feed, source_tables
from tests.support.wait import until

START = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT = timedelta(minutes=10)


@dataclass
class Database:
    """A SQLite file and the application that writes to it."""

    path: Path

    def run(self, script: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(script)

    def insert(self, *ids: int, table: str = "orders") -> None:
        """Commit rows with these ids, each with a note of its own."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(
                f"INSERT INTO {table} (id, note) VALUES (?, ?)",  # noqa: S608 - names of ours
                ((i, f"note {i}") for i in ids),
            )
            connection.commit()

    def source(self) -> Source:
        return Source(open_engine(f"sqlite:///{self.path}", timedelta(seconds=2)))


@dataclass
class Poller:
    """Reads a feed as the poll does: saves the cursor after each page, and reads again while a page
    is full.
    """

    source: Source
    feed: Feed
    cursor: Cursor = field(default_factory=lambda: Cursor("orders"))
    pages: list[Page] = field(default_factory=list)

    async def read(self, now: datetime = START) -> Page:
        page = await self.source.read_page(self.feed, self.cursor, now)
        assert len(page.rows) <= self.feed.page_size
        self.cursor = replace(self.cursor, position=page.position, gaps=page.gaps)
        self.pages.append(page)
        return page

    async def poll(self, now: datetime = START) -> list[SourceRow]:
        rows: list[SourceRow] = []
        for _ in range(1000):
            page = await self.read(now)
            rows += page.rows
            if not page.full:
                return rows
        raise AssertionError("the pages never end")


@pytest.fixture(autouse=True)
async def _threads_end_with_their_test() -> AsyncIterator[None]:
    """SQLAlchemy lets go of a connection that could not be opened or set up without waiting for
    aiosqlite's thread: it would find the event loop closed, in the middle of another test.
    """
    yield
    await until(lambda: not _driver_threads(), message="the end of the connections' threads")


def _driver_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "connection_worker" in thread.name]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    found = Database(tmp_path / "shop.db")
    found.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
    return found


@pytest.fixture
async def source(database: Database) -> AsyncIterator[Source]:
    opened = database.source()
    yield opened
    await opened.close()


def a_feed(
    *, start: Any = "beginning", column: str = "id", max_gaps: int = 1000, **fields: Any
) -> Feed:
    cursor = {
        "strategy": "identity",
        "column": column,
        "start": start,
        "gap_timeout": TIMEOUT,
        "max_gaps": max_gaps,
    }
    partner = {"url": "https://partner.example/"}
    return Feed.model_validate(
        {"name": "orders", "table": "orders", "key": "id", "cursor": cursor, "partner": partner}
        | fields
    )


def ids(rows: Iterable[SourceRow]) -> list[int]:
    return [int(row.key) for row in rows]


async def test_pages_come_in_order_and_the_last_one_says_so(
    database: Database, source: Source
) -> None:
    database.insert(*range(1, 8))
    poller = Poller(source, a_feed(page_size=3))
    pages = [await poller.read() for _ in range(3)]
    assert [ids(page.rows) for page in pages] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [page.full for page in pages] == [True, True, False]
    assert pages[-1].position == 7


async def test_a_page_that_ends_with_the_table_is_not_full(
    database: Database, source: Source
) -> None:
    database.insert(1, 2, 3)
    assert not (await Poller(source, a_feed(page_size=3)).read()).full


async def test_a_read_asks_the_driver_for_its_page_and_for_nothing_else(
    database: Database, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call is a way to the connection's thread and back: what a poll costs is mostly that."""
    database.insert(1)
    feed = a_feed(start=0)
    poller = Poller(source, feed, replace(Cursor("orders"), lowest=1))
    await poller.poll()
    await poller.poll()  # the first that finds nothing looks whether the cursor is ahead
    calls: list[str] = []
    ask: Any = aiosqlite.Connection._execute

    async def counted(connection: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(function.__name__)
        return await ask(connection, function, *args, **kwargs)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    assert await poller.poll() == []
    assert calls == ["_run"], "no test of the connection, and no rollback"


async def test_an_empty_table_gives_nothing_and_loses_nothing(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed())
    assert await poller.poll() == []
    database.insert(1, 2)
    assert ids(await poller.poll()) == [1, 2]


async def test_rows_are_complete_json(database: Database, source: Source) -> None:
    database.insert(5)
    (row,) = await Poller(source, a_feed()).poll()
    assert replace(row, content=None) == SourceRow(
        key="5", position=5, payload='{"id":5,"note":"note 5"}'
    )


async def test_late_commits_are_found_exactly_once(database: Database, source: Source) -> None:
    poller = Poller(source, a_feed(page_size=4))
    database.insert(3, 4, 7, 10, 11)
    seen = ids(await poller.poll())
    for late in ([1, 8], [2], [5, 6, 9, 12]):
        database.insert(*late)
        found = ids(await poller.poll())
        assert found == late
        seen += found
    assert sorted(seen) == list(range(1, 13))
    assert await poller.poll() == []


async def test_late_rows_come_with_new_ones_in_order(database: Database, source: Source) -> None:
    poller = Poller(source, a_feed())
    database.insert(2, 5)
    await poller.poll()
    database.insert(1, 3, 6, 7)
    assert ids((await poller.read()).rows) == [1, 3, 6, 7]


async def test_ids_rolled_back_expire_after_the_timeout(database: Database, source: Source) -> None:
    poller = Poller(source, a_feed())
    database.insert(1, 4)
    await poller.poll(START)
    lowest, rolled_back = Gap(None, 0, START), Gap(2, 3, START)
    assert poller.cursor.gaps == (lowest, rolled_back)
    await poller.poll(START + TIMEOUT - timedelta(seconds=1))
    assert poller.cursor.gaps == (lowest, rolled_back)
    page = await poller.read(START + TIMEOUT)
    assert page.gaps == ()
    assert page.expired == (lowest, rolled_back)


@pytest.mark.parametrize("hours", [(0, 1), (-1, 0), (-1, 1), (1, 1), (-1, -1)], ids=str)
async def test_no_gap_is_given_up_early_by_a_worker_whose_clock_is_wrong(
    database: Database, source: Source, monkeypatch: pytest.MonkeyPatch, hours: tuple[int, int]
) -> None:
    """One worker opens the gap, another asks for it: each may have a clock of its own, an hour
    ahead or back.
    """
    poller = Poller(source, a_feed())
    database.insert(1, 4)
    for wrong in (timedelta(hours=hour) for hour in hours):
        monkeypatch.setattr(pages, "utc_now", lambda wrong=wrong: utc_now() + wrong)
        await poller.poll(utc_now() + wrong)
    assert [(gap.low, gap.high) for gap in poller.cursor.gaps] == [(None, 0), (2, 3)]
    database.insert(2)
    assert ids(await poller.poll(utc_now() + timedelta(hours=hours[1]))) == [2]


async def test_the_source_is_asked_for_its_time_where_a_gap_opens_or_may_be_given_up(
    database: Database, source: Source
) -> None:
    """Not by each poll for as long as a gap is open, which may be ten minutes."""
    asked: list[str] = []

    def note(*args: Any) -> None:
        if "utc_now" in args[2]:
            asked.append(args[2])

    event.listen(source._engine.sync_engine, "before_cursor_execute", note)
    poller = Poller(source, a_feed())
    database.insert(1, 4)
    await poller.poll(START)
    opened = len(asked)
    assert opened
    for seconds in range(5):
        await poller.poll(START + timedelta(seconds=seconds))
    assert len(asked) == opened, "what was known is enough to leave them open"
    database.insert(6)
    await poller.poll(START + timedelta(seconds=5))
    assert len(asked) == opened + 1, "one opened"
    page = await poller.read(START + TIMEOUT)
    assert len(asked) == opened + 2, "two are given up"
    assert [gap.high for gap in page.expired] == [0, 3]
    assert [gap.high for gap in page.gaps] == [5]


async def test_a_gap_that_is_overdue_by_a_clock_that_was_set_forward_is_kept(
    database: Database, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller = Poller(source, a_feed())
    database.insert(1, 4)
    await poller.poll(utc_now())
    monkeypatch.setattr(pages, "utc_now", lambda: utc_now() + 2 * TIMEOUT)
    page = await poller.read(utc_now() + 2 * TIMEOUT)
    assert [(gap.low, gap.high) for gap in page.gaps] == [(None, 0), (2, 3)]
    monkeypatch.setattr(pages, "utc_now", utc_now)
    page = await poller.read(utc_now())
    assert [(gap.low, gap.high) for gap in page.gaps] == [(None, 0), (2, 3)], "as it was set back"


async def test_a_gap_that_aged_while_nobody_polled_is_asked_for_before_it_expires(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed())
    database.insert(1, 4)
    await poller.poll(START)
    database.insert(3)
    page = await poller.read(START + timedelta(days=1))
    assert ids(page.rows) == [3]
    assert page.expired == (Gap(None, 0, START), Gap(2, 2, START))


async def test_gap_rows_over_the_limit_are_read_later_not_dropped(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed(page_size=4))
    database.insert(100)
    await poller.poll(START)
    database.insert(*range(1, 100), *range(101, 110))
    rows = await poller.poll(START + timedelta(days=1))
    assert sorted(ids(rows)) == [*range(1, 100), *range(101, 110)]
    assert len(rows) == len(set(ids(rows)))


async def test_new_rows_go_on_while_many_late_ones_arrive(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed(page_size=10))
    database.insert(1000)
    await poller.poll()
    database.insert(*range(1, 1000), 1001, 1002, 1003, 1004, 1005)
    assert ids((await poller.read()).rows) == [1, 2, 3, 4, 5, 1001, 1002, 1003, 1004, 1005]


async def test_a_page_of_one_row_still_reaches_late_and_new_rows(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed(page_size=1))
    database.insert(3)
    await poller.poll()
    database.insert(1, 2, 4, 5)
    assert sorted(ids(await poller.poll())) == [1, 2, 4, 5]


async def test_the_gap_set_stays_bounded_and_still_finds_every_late_row(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed(page_size=50, max_gaps=10))
    database.insert(*range(2, 400, 2))
    seen = Counter(ids(await poller.poll()))
    assert all(len(page.gaps) <= 10 for page in poller.pages)
    database.insert(*range(1, 400, 2))
    seen += Counter(ids(await poller.poll()))
    assert set(seen) == set(range(1, 400))


@pytest.mark.parametrize("page_size", [1, 2, 3])
async def test_rows_read_again_in_merged_gaps_never_keep_new_rows_out(
    database: Database, source: Source, page_size: int
) -> None:
    poller = Poller(source, a_feed(page_size=page_size, max_gaps=10))
    database.insert(*range(2, 100, 2), 99)
    assert set(ids(await poller.poll())) == {*range(2, 100, 2), 99}


async def test_gaps_beyond_one_statement_are_all_asked_for(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed(max_gaps=5000, page_size=5000))
    database.insert(*range(2, 4001, 2))
    await poller.poll()
    assert len(poller.cursor.gaps) == 2000
    database.insert(*range(1, 4000, 2))
    assert sorted(ids(await poller.poll())) == list(range(1, 4000, 2))
    assert poller.cursor.gaps == (Gap(None, 0, START),)


async def test_start_now_skips_what_is_there_but_not_what_was_in_flight(
    database: Database, source: Source
) -> None:
    database.insert(1, 2, 4, 5)
    poller = Poller(source, a_feed(start="now"))
    assert await poller.poll() == []
    assert poller.cursor.position == 5
    database.insert(3, 6)
    assert ids(await poller.poll()) == [3, 6]


async def test_start_now_on_an_empty_table_misses_nothing_after_it(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed(start="now"))
    await poller.poll()
    database.insert(2)
    assert ids(await poller.poll()) == [2]
    database.insert(1)
    assert ids(await poller.poll()) == [1]


async def test_start_at_a_number_reads_what_is_above_it(database: Database, source: Source) -> None:
    database.insert(1, 2, 3, 4)
    assert ids(await Poller(source, a_feed(start=2)).poll()) == [3, 4]


async def test_waiting_rows_are_counted_up_to_the_limit(database: Database, source: Source) -> None:
    database.insert(*range(1, 11))
    assert await source.waiting(a_feed(), Cursor("orders"), 100) == 10
    assert await source.waiting(a_feed(), Cursor("orders", position=7), 100) == 3
    assert await source.waiting(a_feed(), Cursor("orders", position=2), 5) == 5
    assert await source.waiting(a_feed(start="now"), Cursor("orders"), 5) == 0
    assert await source.waiting(a_feed(start=4), Cursor("orders"), 100) == 6


async def test_a_composite_key_keeps_the_order_of_the_feed(
    database: Database, source: Source
) -> None:
    database.run("CREATE TABLE lines (tenant TEXT, line INT, id INTEGER PRIMARY KEY)")
    database.run("INSERT INTO lines VALUES ('a:b', 7, 1), ('ä', 8, 2)")
    rows = await Poller(
        source, a_feed(table="lines", key=["tenant", "line"], columns=["line"])
    ).poll()
    assert [(row.key, row.payload) for row in rows] == [
        ("a%3Ab:7", '{"line":7}'),
        ("%C3%A4:8", '{"line":8}'),
    ]


ODD_TABLES = [
    "order",
    "my orders",
    'a"b',
    "a]b",
    "a[b",
    "100%",
    "semi;colon",
    "naïve",
    "select",
    "it's",
    "a?b",
    ":a",
]
ODD_COLUMNS = [
    "group",
    "the id",
    'q"q',
    "b]b",
    "50%",
    "%(x)s",
    ":bind",
    "q?",
    "naïve",
    "a.b",
    "from",
    "it's",
    "--",
]


def _written(name: str) -> str:
    return f"[{name.replace(']', ']]')}]"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("name", ODD_TABLES)
async def test_a_table_with_an_odd_name_is_read(
    database: Database, source: Source, name: str
) -> None:
    database.run(f"CREATE TABLE {_quoted(name)} (id INTEGER PRIMARY KEY, note TEXT)")
    database.insert(2, 3, table=_quoted(name))
    poller = Poller(source, a_feed(table=_written(name)))
    assert ids(await poller.poll()) == [2, 3]
    database.insert(1, table=_quoted(name))
    assert ids(await poller.poll()) == [1]


@pytest.mark.parametrize("name", ODD_COLUMNS)
async def test_a_column_with_an_odd_name_is_key_cursor_and_payload(
    database: Database, source: Source, name: str
) -> None:
    database.run(
        f"CREATE TABLE odd ({_quoted(name)} INTEGER PRIMARY KEY); INSERT INTO odd VALUES (2)"  # noqa: S608 - names of ours
    )
    poller = Poller(source, a_feed(table="odd", key=name, column=name))
    assert [json.loads(row.payload) for row in await poller.poll()] == [{name: 2}]
    database.run("INSERT INTO odd VALUES (1)")
    assert [json.loads(row.payload) for row in await poller.poll()] == [{name: 1}]


async def test_a_schema_may_be_named(database: Database, source: Source) -> None:
    database.insert(1)
    assert ids(await Poller(source, a_feed(table="main.orders")).poll()) == [1]
    assert ids(await Poller(source, a_feed(table='"main".[orders]')).poll()) == [1]


async def test_a_column_may_be_written_in_another_case(database: Database, source: Source) -> None:
    database.insert(1)
    rows = await Poller(source, a_feed(key="ID", column="Id", columns=["Note"])).poll()
    assert [row.payload for row in rows] == ['{"note":"note 1"}']


@pytest.mark.parametrize(
    "fields",
    [
        {"table": "orders; DROP TABLE orders"},
        {"table": "orders--"},
        {"table": "orders WHERE 1=1 UNION SELECT * FROM sqlite_master"},
        {"table": "(SELECT 1 AS id)"},
        {"table": 'orders" UNION SELECT 1 --'},
        {"table": "main.orders.id"},
        {"table": "[orders"},
        {"table": "orders."},
        {"table": "attached.orders"},
        {"key": "id) FROM orders; DROP TABLE orders; --"},
        {"columns": ["note, (SELECT 1)"]},
        {"columns": ['note" FROM orders; --']},
        {"column": "id OR 1=1"},
        {"column": "1"},
    ],
    ids=str,
)
async def test_sql_in_a_name_is_refused_and_never_run(
    database: Database, source: Source, fields: dict[str, Any]
) -> None:
    database.insert(1)
    with pytest.raises(SourceRefused, match="feed orders"):
        await Poller(source, a_feed(**fields)).poll()
    assert ids(await Poller(source, a_feed()).poll()) == [1]


async def test_a_view_is_read_like_a_table(database: Database, source: Source) -> None:
    database.run("CREATE VIEW recent AS SELECT id, upper(note) AS loud FROM orders WHERE id > 1")
    database.insert(1, 2)
    rows = await Poller(source, a_feed(table="recent")).poll()
    assert [row.payload for row in rows] == ['{"id":2,"loud":"NOTE 2"}']


async def test_a_missing_table_is_named_with_what_exists(
    database: Database, source: Source
) -> None:
    database.run("CREATE VIEW recent AS SELECT * FROM orders")
    with pytest.raises(SourceRefused) as caught:
        await source.check(a_feed(table="ordres"))
    assert (
        str(caught.value)
        == "feed orders: table 'ordres' does not exist; tables and views: 'orders', 'recent'"
    )


@pytest.mark.parametrize(
    ("fields", "setting"),
    [
        ({"key": "nope"}, "key"),
        ({"column": "nope"}, "cursor.column"),
        ({"columns": ["nope"]}, "columns"),
    ],
)
async def test_a_missing_column_is_named_with_what_exists(
    source: Source, fields: dict[str, Any], setting: str
) -> None:
    with pytest.raises(SourceRefused) as caught:
        await source.check(a_feed(**fields))
    assert (
        str(caught.value)
        == f"feed orders: {setting}: table 'orders' has no column 'nope'; its columns: 'id', 'note'"
    )


async def test_a_table_dropped_later_is_refused_and_found_again_when_it_is_back(
    database: Database, source: Source
) -> None:
    poller = Poller(source, a_feed())
    await poller.poll()
    database.run("DROP TABLE orders")
    with pytest.raises(
        SourceRefused, match=r"feed orders: table 'orders' does not exist; tables and views: none"
    ):
        await poller.poll()
    database.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT, added TEXT)")
    database.insert(1)
    assert [row.payload for row in await poller.poll()] == ['{"id":1,"note":"note 1","added":null}']


async def test_a_cursor_column_that_is_no_integer_is_refused(source: Source) -> None:
    with pytest.raises(
        SourceRefused, match=r"cursor.column 'note' is TEXT\(\); identity needs an integer column"
    ):
        await source.check(a_feed(column="note"))


@pytest.mark.parametrize(
    ("second", "found"), [("'x'", "a value of type str"), ("1", "1 more than once")]
)
async def test_a_cursor_column_that_cannot_be_returned_to_is_refused(
    database: Database, source: Source, second: str, found: str
) -> None:
    database.run(
        f"CREATE TABLE loose (id INT, note TEXT); INSERT INTO loose VALUES (1, 'a'), ({second}, 'b')"  # noqa: S608 - names of ours
    )
    with pytest.raises(SourceRefused, match=f"cursor.column 'id' holds {found}"):
        await Poller(source, a_feed(table="loose", page_size=1)).poll()


async def test_a_position_of_another_strategy_is_refused(source: Source) -> None:
    with pytest.raises(SourceRefused, match="the strategy was changed"):
        await source.read_page(a_feed(), Cursor("orders", position="0x01"), START)


TYPES = [
    ("INTEGER", "9223372036854775807", 2**63 - 1),
    ("DECIMAL(10,2)", "12.5", "12.50"),
    ("DECIMAL(10,2)", "3", "3.00"),
    ("DECIMAL(10,2)", "0.125", "0.125"),
    ("NUMERIC", "0.1", "0.1"),
    ("DECIMAL(38,10)", "123456789.0123456", "123456789.0123456000"),
    ("REAL", "0.1", 0.1),
    ("BOOLEAN", "1", True),
    ("BOOLEAN", "7", 7),
    ("TEXT", "'größer 😀'", "größer 😀"),
    ("TEXT", "''", ""),
    ("BLOB", "x'00ff'", "AP8="),
    ("DATETIME", "'2026-01-02 03:04:05.1234567'", "2026-01-02T03:04:05.1234567"),
    ("DATETIME", "'2026-01-02 03:04:05+02:00'", "2026-01-02T03:04:05+02:00"),
    ("DATETIME", "'not a time at all'", "not a time at all"),
    ("DATE", "'2026-01-02'", "2026-01-02"),
    ("TIME", "'03:04:05'", "03:04:05"),
    ("CHAR(36)", "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    ("JSON", "'{\"a\":1}'", '{"a":1}'),
    ("", "42", 42),
    ("TEXT", "NULL", None),
]


@pytest.mark.parametrize(("declared", "literal", "expected"), TYPES)
async def test_a_value_keeps_what_its_declared_type_means(
    database: Database, source: Source, declared: str, literal: str, expected: object
) -> None:
    database.run(f"CREATE TABLE typed (id INTEGER PRIMARY KEY, v {declared})")
    database.run(f"INSERT INTO typed VALUES (1, {literal})")  # noqa: S608 - names of ours
    (row,) = await Poller(source, a_feed(table="typed", columns=["v"])).poll()
    assert row.error is None
    value = json.loads(row.payload)["v"]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("literal", "reason"),
    [
        ("9e999", "column 'v': no JSON form"),
        ("CAST(x'61ff62' AS TEXT)", "column 'v': no JSON form"),
        ("zeroblob(200)", "payload of 283 bytes is over max_payload 200"),
        ("zeroblob(1000)", "payload of about 1012 bytes is over max_payload 200"),
    ],
)
async def test_a_row_that_cannot_be_sent_says_why_and_stops_no_other(
    database: Database, source: Source, literal: str, reason: str
) -> None:
    database.run("CREATE TABLE typed (id INTEGER PRIMARY KEY, v)")
    database.run(f"INSERT INTO typed VALUES (1, 1), (2, {literal}), (3, 3)")  # noqa: S608 - names of ours
    rows = await Poller(source, a_feed(table="typed", max_payload=200)).poll()
    assert [row.key for row in rows] == ["1", "2", "3"]
    assert [row.error is None for row in rows] == [True, False, True]
    assert rows[1].payload == ""
    assert rows[1].error is not None
    assert rows[1].error.startswith(reason)


async def test_check_and_version_say_what_was_found(source: Source) -> None:
    assert await source.check(a_feed()) == (("id", "INTEGER"), ("note", "TEXT"))
    assert await source.version() == f"sqlite {sqlite3.sqlite_version}"


async def test_a_missing_file_is_unavailable_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "no such place" / "shop.db"
    path.parent.mkdir()
    source = Database(path).source()
    with pytest.raises(
        SourceUnavailable, match=r"no such place/shop.db: version: unable to open database file"
    ):
        await source.version()
    await source.close()
    assert not path.exists()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    path.write_text("hello " * 1000)
    source = Database(path).source()
    with pytest.raises(SourceRefused, match="file is not a database"):
        await source.check(a_feed())
    await source.close()


async def test_the_source_is_never_written_to(database: Database) -> None:
    engine = open_engine(f"sqlite:///{database.path}", timedelta(seconds=2))
    async with engine.connect() as connection:
        with pytest.raises(Exception, match="readonly database"):
            await connection.exec_driver_sql("INSERT INTO orders (id) VALUES (1)")
    await engine.dispose()


async def test_a_locked_database_is_worth_a_retry(database: Database) -> None:
    source = Source(open_engine(f"sqlite:///{database.path}", timedelta(milliseconds=50)))
    with closing(sqlite3.connect(database.path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceUnavailable, match="database is locked"):
            await source.check(a_feed())
    assert await source.check(a_feed())
    await source.close()


async def test_many_feeds_read_at_once(database: Database, source: Source) -> None:
    database.insert(*range(1, 101))
    pollers = [Poller(source, a_feed(name=f"feed{number}", page_size=7)) for number in range(20)]
    results = await asyncio.gather(*(poller.poll() for poller in pollers))
    assert all(ids(rows) == list(range(1, 101)) for rows in results)


async def _write_and_poll(
    path: Path, groups: list[list[int]], page_size: int, max_gaps: int
) -> Counter[int]:
    """Commit the groups one after another, poll in between, and count how often each id was read."""
    database = Database(path)
    database.run(
        "DROP TABLE IF EXISTS orders; CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)"
    )
    source = database.source()
    poller = Poller(source, a_feed(page_size=page_size, max_gaps=max_gaps))
    for step, group in enumerate(groups):
        database.insert(*group)
        await poller.read(START + step * timedelta(seconds=1))
    await poller.poll(START + timedelta(minutes=5))
    await poller.poll(START + timedelta(minutes=6))
    assert all(len(page.gaps) <= max_gaps for page in poller.pages)
    await poller.poll(START + timedelta(hours=1))
    assert poller.cursor.gaps == ()
    await source.close()
    return Counter(number for page in poller.pages for number in ids(page.rows))


@st.composite
def commit_orders(draw: st.DrawFn) -> list[list[int]]:
    """Ids in any order of commit, some never committed, in groups that commit together."""
    order = draw(st.permutations(range(1, 41)))
    committed = order[: draw(st.integers(1, 40))]
    cuts = sorted(draw(st.sets(st.integers(1, 40), max_size=8)))
    return [committed[low:high] for low, high in zip([0, *cuts], [*cuts, 40], strict=True)]


@settings(max_examples=25, deadline=None)
@given(commit_orders(), st.integers(1, 9), st.sampled_from([10, 1000]))
def test_every_committed_row_is_read_in_whatever_order_it_commits(
    groups: list[list[int]], page_size: int, max_gaps: int
) -> None:
    with TemporaryDirectory() as folder:
        seen = asyncio.run(_write_and_poll(Path(folder) / "shop.db", groups, page_size, max_gaps))
    committed = {number for group in groups for number in group}
    assert set(seen) == committed
    if max_gaps == 1000:
        assert set(seen.values()) == {1}


LARGE = "x" * 5000


MOMENT = "2020-01-01 10:00:00"


@pytest.mark.parametrize(
    ("first", "second"), [(LARGE, "small"), ("small", LARGE), ("small", "small")]
)
async def test_a_row_that_ties_with_a_too_large_one_is_read(
    tmp_path: Path, first: str, second: str
) -> None:
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make(
            "orders", id="NVARCHAR(20) COLLATE NOCASE", at="MOMENT", note="NVARCHAR(100)"
        )
        await tables.insert(
            "orders",
            [{"id": "A", "at": MOMENT, "note": first}, {"id": "a", "at": MOMENT, "note": second}],
        )
        feed = source_feed("orders", "timestamp", "at", cursor_start="beginning", max_payload=1024)
        source = tables.source()
        try:
            assert set(await Reader(source, feed).keys()) == {"A", "a"}
        finally:
            await source.close()
