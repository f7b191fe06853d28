"""What a key or cursor column holds goes from row to position, through the ledger, and back into a
statement.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from app.core.keys import LONGEST_KEY
from app.core.states import State
from app.intake.poll import Polling
from app.ledger import Ledger
from app.reconcile import Reconciling
from app.source.reader import Source
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.ledger import listed
from tests.support.sources import (
    MSSQL_URL,
    PRODUCTS,
    START,
    SourceTables,
    source_feed,
    source_tables,
)

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
        certificate = await Reconciling(
            source, ledger, MemoryQueue(), message_wait=MINUTE
        ).reconcile(feed)
        assert (certificate.source_rows, certificate.complete) == (3, True)
    finally:
        await source.close()


@pytest.mark.parametrize("strategy", ["timestamp", "rowversion"])
async def test_keys_that_differ_in_case_alone_are_all_delivered(
    tables: SourceTables, ledger: Ledger, strategy: str
) -> None:
    """The server holds them equal, so that none of them lies behind another."""
    collated = (
        "NVARCHAR(20) COLLATE Latin1_General_CI_AS" if tables.mssql else "TEXT COLLATE NOCASE"
    )
    await tables.make("orders", k=collated, at="MOMENT", rv="ROWVERSION")
    keys = ["abc", "ABC", "Abc", "abd", "ABD", "abe"]
    await tables.write("orders", [{"k": key, "at": "2026-01-01 10:00:00"} for key in keys])
    column = {"rowversion": "rv", "timestamp": "at"}[strategy]
    feed = source_feed(tables.named("orders"), strategy, column, key="k", page_size=2)
    source = tables.source()
    polling = Polling(source, ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock())
    try:
        assert (await polling.poll(feed)).logged == len(keys)
        assert set(await ledger.deliveries.ids(feed.name)) == {f"orders:{key}" for key in keys}
        reconciling = Reconciling(source, ledger, MemoryQueue(), message_wait=MINUTE)
        certificate = await reconciling.reconcile(feed, dry_run=True)
        assert (certificate.source_rows, certificate.complete) == (len(keys), True)
    finally:
        await source.close()


@pytest.mark.parametrize("strategy", ["timestamp", "rowversion"])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_key_that_is_no_unicode_is_a_dead_letter_and_the_others_go_on(
    tmp_path: Path, ledger: Ledger, strategy: str, place: int
) -> None:
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make("orders", k="TEXT", at="MOMENT", rv="ROWVERSION")
        keys = ["'a'", "'b'"]
        keys.insert(place, "CAST(x'61ff' AS TEXT)")
        moments = [f"2026-01-01 10:00:0{second}" for second in range(3)]
        rows = zip(keys, moments, strict=True)
        await tables.run(*(f"INSERT INTO orders VALUES ({k}, '{at}', {at[-1]})" for k, at in rows))  # noqa: S608 - names of ours
        column = {"rowversion": "rv", "timestamp": "at"}[strategy]
        feed, source = (
            source_feed("orders", strategy, column, key="k", page_size=1),
            tables.source(),
        )
        polling = Polling(source, ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock())
        try:
            assert (await polling.poll(feed)).logged == 3
            dead = "orders:a%ED%B3%BF"
            states = {"orders:a": State.QUEUED, "orders:b": State.QUEUED, dead: State.DEAD}
            assert await ledger.deliveries.ids(feed.name) == states
            assert not (await ledger.cursors.get(feed.name)).paused
            assert (await polling.poll(feed)).read == 0
            reconciling = Reconciling(source, ledger, MemoryQueue(), message_wait=MINUTE)
            certificate = await reconciling.reconcile(feed)
            assert (
                certificate.source_rows,
                certificate.states[State.DEAD],
                certificate.complete,
            ) == (3, 1, True)
        finally:
            await source.close()


@pytest.mark.parametrize("strategy", ["timestamp", "identity"])
async def test_long_keys_stand_in_ids_as_a_hash_and_their_rows_are_found_again(
    tmp_path: Path, ledger: Ledger, strategy: str
) -> None:
    """60 keys of 100 KB: as they are, their batch would be over what MongoDB takes in a document.
    It ends by what its rows cost in memory alone, which is about one and a half times what a batch
    may.
    """
    many = 60 if strategy == "identity" else 5
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make("orders", id="IDENTITY", k="TEXT", at="MOMENT", rv="ROWVERSION")
        keys = [f"{'ä' * 50_000}{number}" for number in range(many)] + ["k" * LONGEST_KEY]
        await tables.write("orders", [{"k": key, "at": "2026-01-01 10:00:00"} for key in keys])
        column = {"rowversion": "rv", "timestamp": "at", "identity": "id"}[strategy]
        feed, source = (
            source_feed("orders", strategy, column, key="k", batch_size=1000),
            tables.source(),
        )
        queue = MemoryQueue()
        polling = Polling(source, ledger, queue, message_wait=MINUTE, now=VirtualClock())
        try:
            assert (await polling.poll(feed)).logged == len(keys)
            logged = await ledger.deliveries.ids(feed.name)
            assert f"orders:{keys[-1]}" in logged
            assert max(map(len, logged)) <= len("orders:") + LONGEST_KEY
            assert {d["key"] for d in await listed(ledger, feed.name)} == {*map(quote, keys)}
            assert len(queue.messages) == (2 if strategy == "identity" else 1)
            loaded: list[str] = []
            for _, batch in queue.messages:
                claimed = await ledger.batches.claim(batch, feed.name, "w1", START, MINUTE)
                assert claimed is not None
                loaded += [delivery.id for delivery in await ledger.deliveries.load(claimed)]
            assert sorted(loaded) == sorted(logged), "each in one batch"
            await tables.run("DELETE FROM orders WHERE id = 1")
            reconciling = Reconciling(source, ledger, MemoryQueue(), message_wait=MINUTE)
            certificate = await reconciling.reconcile(feed)
            assert (certificate.source_rows, certificate.missing, certificate.deleted) == (
                len(keys) - 1,
                0,
                1,
            )
        finally:
            await source.close()


async def test_a_key_too_long_for_the_ledger_is_a_dead_letter_and_the_others_go_on(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make("orders", k="TEXT", at="MOMENT")
        at = "2026-01-01 10:00:00"
        rows = [{"k": "a", "at": at}, {"k": "k" * 600_000, "at": at}, {"k": "z", "at": at}]
        await tables.insert("orders", rows)
        feed, source = source_feed("orders", "timestamp", "at", key="k"), tables.source()
        polling = Polling(source, ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock())
        try:
            assert (await polling.poll(feed)).logged == 3
            states = await ledger.deliveries.ids(feed.name)
            assert Counter(states.values()) == {State.QUEUED: 2, State.DEAD: 1}
            (dead,) = await listed(ledger, feed.name, State.DEAD)
            assert dead["reason"] == "the key is 600,000 characters long as text, over 500,000"
            assert len(dead["_id"]) < LONGEST_KEY
        finally:
            await source.close()


@pytest.mark.skipif(not MSSQL_URL, reason="TEST_MSSQL_URL is not set")
async def test_a_moment_column_may_become_finer_under_a_running_feed_on_mssql(
    ledger: Ledger, tmp_path: Path
) -> None:
    async with source_tables("mssql", tmp_path) as tables:
        await tables.make("orders", id="INT PRIMARY KEY", at="DATETIME")
        named = tables.named("orders")
        moments = ["2026-01-31 10:20:30.993", "2026-01-31 10:20:30.997"]
        await tables.run(
            *(f"INSERT INTO {named} VALUES ({place}, '{at}')" for place, at in enumerate(moments))  # noqa: S608 - names of ours
        )
        feed, source = source_feed(named, "timestamp", "at", page_size=1), tables.source()
        polling = Polling(source, ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock())
        try:
            assert (await polling.poll(feed)).logged == 2
            await tables.run(f"ALTER TABLE {named} ALTER COLUMN at DATETIME2(6)")
            moments = ["2026-01-31 10:20:31.123456", "2026-01-31 10:20:31.123457"]
            await tables.run(
                *(
                    f"INSERT INTO {named} VALUES ({place}, '{at}')"  # noqa: S608 - names of ours
                    for place, at in enumerate(moments, 2)
                )
            )
            feed = feed.model_copy(update={"page_size": 3})  # and with it a new plan
            assert (await polling.poll(feed)).logged == 2
            assert (await ledger.cursors.get(feed.name)).position == [
                "2026-01-31 10:20:31.123457",
                3,
            ]
        finally:
            await source.close()


@dataclass
class Trip:
    """Rows of one column of values, read page by page into a real ledger and looked for from there."""

    tables: SourceTables
    source: Source
    ledger: Ledger
    feeds: Iterator[int] = field(default_factory=lambda: count(1))

    async def goes_round(
        self, declared: str, values: Sequence[Literal], strategy: str, page_size: int
    ) -> None:
        """Every value that the database takes is one delivery, and the row of each delivery is
        found again.
        """
        table = f"t{next(self.feeds)}"
        await self.tables.make(table, k=declared, at="MOMENT", rv="ROWVERSION")
        rows = await self._fill(table, values)
        column = {"timestamp": "at", "rowversion": "rv"}[strategy]
        feed = source_feed(
            self.tables.named(table), strategy, column, key="k", name=table, page_size=page_size
        )
        polling = Polling(
            self.source, self.ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock()
        )
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
        """Insert the values that differ, as the database sees it, all of one moment. Returns how
        many there are.
        """
        named, kept = self.tables.named(table), 0
        await self.tables.run(f"CREATE UNIQUE INDEX {table}_k ON {named} (k)")
        for place, value in enumerate(values):
            names, row = "k, at", f"{value}, '2026-01-01 10:00:00'"
            if not self.tables.mssql:
                names, row = f"{names}, rv", f"{row}, {place + 1}"
            with suppress(IntegrityError):  # as the database sees it, it is there
                await self.tables.run_plain(f"INSERT INTO {named} ({names}) VALUES ({row})")  # noqa: S608 - names of ours
                kept += 1
        return kept


Literal: TypeAlias = str
"""A value in SQL."""


def _hex(value: bytes) -> str:
    return value.hex().upper()


_SQLITE_TEXT = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "1",
            "01",
            "1.0",
            "1e3",
            "inf",
            " 1",
            "a",
            "A",
            "a ",
            "",
            "%s1",
            "%x61",
            "61",
            "a\0b",
            "0x61",
            ":",
            "@",
        ]
    ),
).filter(lambda text: text.isprintable() or "\0" in text)
SQLITE_VALUES: st.SearchStrategy[Literal] = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.sampled_from(
        [
            "0",
            "1",
            "61",
            str(2**31),
            str(2**53 + 1),
            str(2**63 - 1),
            str(-(2**63)),
            "9e999",
            "-9e999",
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    _SQLITE_TEXT.map(lambda text: f"CAST(x'{_hex(text.encode())}' AS TEXT)"),
    st.binary(max_size=6).map(lambda raw: f"CAST(x'{_hex(raw)}' AS TEXT)"),
    st.binary(max_size=6).map(lambda raw: f"x'{_hex(raw)}'"),
)
"""Of every storage class, and text that is no UTF-8."""


READ = st.tuples(st.sampled_from(["timestamp", "rowversion"]), st.sampled_from([1, 2, 100]))
"""Strategy and page size."""


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    declared=st.sampled_from(
        ["", "TEXT", "INTEGER", "NUMERIC(10, 2)", "REAL", "BLOB", "DATETIME", "BOOLEAN"]
    ),
    values=st.lists(SQLITE_VALUES, min_size=1, max_size=8),
    read=READ,
)
def test_any_value_of_sqlite_goes_to_the_ledger_and_back(
    runner: asyncio.Runner,
    sqlite_trip: Trip,
    declared: str,
    values: list[Literal],
    read: tuple[str, int],
) -> None:
    runner.run(sqlite_trip.goes_round(declared, values, *read))


def _text(prefix: str, alphabet: str, size: int) -> st.SearchStrategy[Literal]:
    values = st.text(st.sampled_from(alphabet), min_size=1, max_size=size)
    return values.map(lambda text: prefix + "'" + text.replace("'", "''") + "'")


def _numbers(low: int, high: int, places: int = 0) -> st.SearchStrategy[Literal]:
    """Decimals of that many places, both bounds in units of the last."""
    numbers = st.one_of(st.sampled_from([low, 0, high]), st.integers(low, high))
    sign = {True: "-", False: ""}
    digits = numbers.map(lambda number: (sign[number < 0], f"{abs(number):0{places + 1}}"))
    return digits.map(
        lambda made: made[0] + (f"{made[1][:-places]}.{made[1][-places:]}" if places else made[1])
    )


def _moments(
    first: str, last: str, digits: int, offsets: Sequence[str] = ("",)
) -> st.SearchStrategy[Literal]:
    """Moments with that many digits of a second."""
    whole = st.datetimes(datetime.fromisoformat(first), datetime.fromisoformat(last))
    fraction = st.integers(0, 10**digits - 1).map(
        lambda number: f".{number:0{digits}}" if digits else ""
    )
    parts = st.tuples(whole, fraction, st.sampled_from(offsets))
    return parts.map(
        lambda made: f"'{made[0].replace(microsecond=0).isoformat(' ')}{made[1]}{made[2]}'"
    )


_WIDE, _NARROW = "aAbé ä-_'%:日😀", "aAbé -_'%:"
TSQL_TYPES: Mapping[str, st.SearchStrategy[Literal]] = {
    "BIT": st.sampled_from(["0", "1"]),
    "TINYINT": _numbers(0, 255),
    "SMALLINT": _numbers(-(2**15), 2**15 - 1),
    "INT": _numbers(-(2**31), 2**31 - 1),
    "BIGINT": _numbers(-(2**63), 2**63 - 1),
    "DECIMAL(38, 0)": _numbers(-(10**38) + 1, 10**38 - 1),
    "NUMERIC(38, 20)": _numbers(-(10**38) + 1, 10**38 - 1, 20),
    "MONEY": _numbers(-(2**63), 2**63 - 1, 4),
    "SMALLMONEY": _numbers(-(2**31), 2**31 - 1, 4),
    "FLOAT": st.floats(-1e300, 1e300).map(
        lambda value: f"{value!r}" if "e" in f"{value!r}" else f"{value!r}e0"
    ),
    "REAL": st.floats(-(2.0**100), 2.0**100, width=32).map(
        lambda value: f"CAST({value:.9e} AS REAL)"
    ),
    "DATE": _moments("0001-01-01", "9999-12-31", 0).map(lambda text: text[:11] + "'"),
    "TIME(7)": _moments("2000-01-01", "2000-01-01 23:59:59", 7).map(lambda text: "'" + text[12:]),
    "DATETIME": _moments(
        "1753-01-01", "9999-12-31", 2
    ).flatmap(  # whole 1/300 s: Babelfish does not round what it is given
        lambda text: st.sampled_from("037").map(lambda digit: f"{text[:-1]}{digit}'")
    ),
    "SMALLDATETIME": _moments("1900-01-01", "2079-06-06", 0),
    "DATETIME2(7)": _moments("0001-01-01", "9999-12-31", 7),
    "DATETIME2(3)": _moments("0001-01-01", "9999-12-31", 3),
    "DATETIME2(0)": _moments("0001-01-01", "9999-12-31", 0),
    "DATETIMEOFFSET(7)": _moments(
        "0001-01-03", "9999-12-29", 7, ("+05:30", "-03:30", "+05:45", "+14:00", "-14:00")
    ),
    "CHAR(6)": _text("", _NARROW, 6),
    "VARCHAR(20)": _text("", _NARROW, 6),
    "NCHAR(8)": _text("N", _WIDE, 4),
    "NVARCHAR(20)": _text("N", _WIDE, 6),
    "BINARY(4)": st.binary(min_size=1, max_size=4).map(lambda raw: f"0x{_hex(raw)}"),
    "VARBINARY(8)": st.binary(min_size=1, max_size=8).map(lambda raw: f"0x{_hex(raw)}"),
    "UNIQUEIDENTIFIER": st.uuids().map(lambda value: f"'{value}'"),
}
"""Each of the product's types that a key may have, at its bounds too."""


@pytest.fixture
def tsql_trip(runner: asyncio.Runner, runner_ledger: Ledger, tmp_path: Path) -> Iterator[Trip]:
    if not MSSQL_URL:
        pytest.skip("TEST_MSSQL_URL is not set")
    yield from _trip(runner, runner_ledger, "mssql", tmp_path)


@pytest.mark.parametrize("declared", TSQL_TYPES)
def test_any_value_of_mssql_goes_to_the_ledger_and_back(
    runner: asyncio.Runner, tsql_trip: Trip, declared: str
) -> None:
    @settings(max_examples=2, deadline=None, database=None, phases=[Phase.generate])
    @given(values=st.lists(TSQL_TYPES[declared], min_size=1, max_size=8), read=READ)
    def goes_round(values: list[Literal], read: tuple[str, int]) -> None:
        runner.run(tsql_trip.goes_round(declared, values, *read))

    goes_round()


@pytest.mark.parametrize("bad", ["x" * 5000, "bad"], ids=["too large", "breaks"])
async def test_beside_a_bad_row_keys_that_differ_in_case_alone_are_all_logged(
    tmp_path: Path, ledger: Ledger, bad: str
) -> None:
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make("plain", k="TEXT COLLATE NOCASE", at="MOMENT", note="TEXT")
        await tables.run("INSERT INTO plain VALUES ('A', '2026-01-01 10:00:00', :bad)", bad=bad)
        await tables.run(
            "INSERT INTO plain VALUES ('a', '2026-01-01 10:00:00', 'good')",
            "INSERT INTO plain VALUES ('b', '2026-01-01 10:00:01', 'good')",
            "CREATE VIEW orders AS SELECT k, at, note, "
            "CASE WHEN note = 'bad' THEN abs(-9223372036854775807 - 1) ELSE 1 END AS n FROM plain",
        )
        feed = source_feed(
            "orders", "timestamp", "at", key="k", max_payload=1024, cursor_start="beginning"
        )
        source = tables.source()
        polling = Polling(source, ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock())
        try:
            await polling.poll(feed)
            certificate = await Reconciling(
                source, ledger, MemoryQueue(), message_wait=MINUTE
            ).reconcile(feed, dry_run=True)
            assert (certificate.source_rows, certificate.complete) == (3, True)
            assert set(await ledger.deliveries.ids(feed.name)) == {
                "orders:A",
                "orders:a",
                "orders:b",
            }
        finally:
            await source.close()
