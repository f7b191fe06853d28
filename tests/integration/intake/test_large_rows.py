"""Rows of any legal size go their way within the process's memory: pages, batches and what is
loaded end by bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from app.core.attempts import Answer, Outcome
from app.core.batches import Batch
from app.core.budget import Budget, cost
from app.core.cursors import Cursor
from app.core.deliveries import Delivery
from app.core.errors import LedgerUnavailable
from app.core.position import ReadRange
from app.core.rows import SourceRow
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.batches import IDS_BYTES, new_batch
from app.reconcile import Reconciling
from app.source.engine import open_engine
from app.source.reader import Source
from app.source.scan import ScanRange
from tests.support.doubles import MemoryQueue, ScriptedPartner, VirtualClock
from tests.support.feeds import make_feed
from tests.support.relay import LEASE, replaced
from tests.support.sources import (
    CONNECT_TIMEOUT,
    PRODUCTS,
    START,
    SourceTables,
    source_feed,
    source_tables,
)
from tests.support.wait import until

LIMIT = 8 * 2**20
"""Of the budget in these tests: a page costs 1 MiB at most, so that rows of 100 KB are large."""
PAGE = LIMIT // 8
LARGE, FEW_A_PAGE = 100_000, 2
STRATEGIES = [("identity", "id"), ("rowversion", "rv"), ("timestamp", "at")]
MINUTE = timedelta(minutes=1)


@dataclass
class Place:
    """A table, a ledger, and one process that polls and delivers."""

    tables: SourceTables
    ledger: Ledger
    budget: Budget = field(default_factory=lambda: Budget(LIMIT))
    clock: VirtualClock = field(default_factory=VirtualClock)
    queue: MemoryQueue = field(default_factory=MemoryQueue)

    def __post_init__(self) -> None:
        self.partner = ScriptedPartner(self.clock)
        self.source = Source(open_engine(self.tables.url, CONNECT_TIMEOUT), self.budget)
        self.largest = 0
        """The most bytes of text that one answer of the source held."""

    async def write(self, ids: Sequence[int], size: int = LARGE) -> None:
        rows = [
            {"id": i, "at": f"2026-01-01 10:{i // 60:02}:{i % 60:02}", "v": "x" * size} for i in ids
        ]
        await self.tables.write("orders", rows)

    async def poll(self, feed: Feed) -> None:
        self.clock.advance(MINUTE)
        polling = Polling(self.source, self.ledger, self.queue, message_wait=MINUTE, now=self.clock)
        await polling.poll(feed)

    def delivering(self, ledger: Ledger | None = None) -> Delivering:
        terms = DeliverySettings("w1", LEASE, group_size=50, group_wait=timedelta(milliseconds=20))
        return Delivering(
            ledger or self.ledger, self.partner, terms, now=self.clock, budget=self.budget
        )

    async def deliver_all(self, feed: Feed) -> None:
        """All messages at once, as the threads of a worker take them."""
        messages, self.queue.messages = self.queue.messages, []
        worker = self.delivering()
        await asyncio.gather(*(worker.deliver(feed, batch_id) for _, batch_id in messages))

    async def documents(self, collection: str) -> list[dict[str, Any]]:
        return await self.ledger._database[collection].find().to_list()

    async def states(self) -> dict[int, str]:
        return {
            int(document["key"]): document["state"]
            for document in await self.documents("deliveries")
        }


@pytest.fixture
def product() -> str:
    """Tests that are run on T-SQL too give it as a parameter."""
    return "sqlite"


@pytest.fixture
async def place(tmp_path: Path, ledger: Ledger, product: str) -> AsyncIterator[Place]:
    async with source_tables(product, tmp_path) as tables:
        text = "VARCHAR(MAX)" if tables.mssql else "TEXT"
        await tables.make("orders", id="INTEGER PRIMARY KEY", rv="ROWVERSION", at="MOMENT", v=text)
        made = Place(tables, ledger)
        yield made
        await made.source.close()
    assert made.budget.held == 0, "memory was not given back"


def feed_by(strategy: str, column: str, table: str = "orders", **fields: Any) -> Feed:
    return source_feed(table, strategy, column, page_size=1000, batch_size=1000, **fields)


# --- reading


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(("strategy", "column"), STRATEGIES)
async def test_a_page_ends_where_its_rows_take_too_much_and_the_next_goes_on_there(
    place: Place, strategy: str, column: str
) -> None:
    await place.write(range(1, 12))
    await place.write(range(12, 300), size=10)
    await place.write([300])
    feed = feed_by(strategy, column, place.tables.named("orders"))
    cursor, seen = Cursor("orders"), list[list[str]]()
    while True:
        page = await place.source.read_page(feed, cursor, START)
        seen.append([row.key for row in page.rows])
        cursor = Cursor("orders", page.position, page.gaps, version=1)
        if not page.full:
            break
    assert [key for keys in seen for key in keys] == [str(i) for i in range(1, 301)], (
        "each once, in their order"
    )
    assert [len(keys) for keys in seen[:5]] == [FEW_A_PAGE] * 5
    assert max(map(len, seen)) > 50, "small rows are read many at a time again"
    assert place.budget.peak <= PAGE


async def test_a_row_larger_than_a_page_is_read_alone(place: Place) -> None:
    await place.write([1, 2], size=400_000)
    feed = feed_by("identity", "id")
    page = await place.source.read_page(feed, Cursor("orders"), START)
    assert [row.key for row in page.rows] == ["1"]
    assert page.full
    assert place.budget.peak >= cost(400_000)


async def test_late_rows_in_gaps_end_a_page_too(place: Place) -> None:
    feed = feed_by("identity", "id")
    await place.write([30], size=10)
    first = await place.source.read_page(feed, Cursor("orders"), START)
    await place.write(range(1, 21))
    cursor, found = Cursor("orders", first.position, first.gaps, version=1), list[str]()
    for _ in range(30):
        page = await place.source.read_page(feed, cursor, START)
        assert len(page.rows) <= 2 * FEW_A_PAGE
        found += [row.key for row in page.rows]
        cursor = Cursor("orders", page.position, page.gaps, version=1)
        if not page.full:
            break
    assert sorted(map(int, found)) == list(range(1, 21))


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_row_that_no_payload_can_hold_is_never_read_and_is_a_dead_letter_with_the_reason(
    place: Place,
) -> None:
    await place.write([1, 3], size=10)
    await place.write([2], size=LARGE)
    feed = feed_by("identity", "id", place.tables.named("orders"), max_payload=20_000)
    widest = watched(place.source)
    await place.poll(feed)
    found = {document["key"]: document for document in await place.documents("deliveries")}
    assert {key: document["state"] for key, document in found.items()} == {
        "1": "queued",
        "2": "dead",
        "3": "queued",
    }
    assert found["2"]["reason"].startswith("payload of about 100"), found["2"]["reason"]
    assert "over max_payload 20000" in found["2"]["reason"]
    assert widest() < LARGE, "it came here after all"


async def test_a_row_that_no_payload_can_hold_and_that_where_leaves_out_is_left_out(
    place: Place,
) -> None:
    await place.write([1, 2], size=LARGE)
    await place.write([3], size=10)
    feed = feed_by(
        "identity", "id", max_payload=20_000, where=[{"column": "id", "op": "!=", "value": 1}]
    )
    await place.poll(feed)
    assert await place.states() == {2: "dead", 3: "queued"}


async def test_broken_rows_are_looked_for_within_memory(place: Place) -> None:
    await place.tables.run(
        "CREATE VIEW seen AS SELECT id, v, json_extract(iif(id = 7, 'none', '{}'), '$') AS n FROM orders"
    )
    await place.write(range(1, 12))
    feed, cursor, seen = (
        source_feed("seen", "identity", "id", page_size=1000),
        Cursor("seen"),
        list[SourceRow](),
    )
    for _ in range(20):
        page = await place.source.read_page(feed, cursor, START)
        assert len(page.rows) <= FEW_A_PAGE + 1
        seen += page.rows
        cursor = Cursor("seen", page.position, page.gaps, version=1)
        if not page.full:
            break
    assert [(row.key, row.error is None) for row in seen] == [
        (str(i), i != 7) for i in range(1, 12)
    ]
    assert place.budget.peak <= PAGE + cost(LARGE)


async def test_what_reconciliation_reads_and_heals_ends_by_bytes(place: Place) -> None:
    feed = feed_by("identity", "id")
    await place.write(range(1, 10))
    await place.poll(feed)
    await place.ledger._database["deliveries"].delete_many(
        {"key": {"$in": ["2", "3", "4", "5", "6", "7"]}}
    )
    stretch = ScanRange(ReadRange(None, (await place.ledger.cursors.get("orders")).position))
    window = await place.source.walk(feed, stretch, None, 2000)
    assert (len(window.rows), window.more) == (FEW_A_PAGE, True)
    certificate = await Reconciling(
        place.source, place.ledger, place.queue, message_wait=MINUTE, now=place.clock
    ).reconcile(feed)
    assert (certificate.missing, certificate.healed, certificate.source_rows) == (6, 6, 9)
    assert place.budget.peak <= 2 * PAGE


# --- batches


async def test_rows_are_put_into_batches_that_a_worker_can_load_at_once(
    place: Place, monkeypatch: Any
) -> None:
    monkeypatch.setattr("app.intake.intake.BATCH", PAGE)
    await place.write(range(1, 6), size=300_000)
    await place.write(range(6, 40), size=10)
    await place.poll(feed_by("identity", "id"))
    batches = sorted(
        await place.documents("batches"), key=lambda batch: int(batch["ids"][0].partition(":")[2])
    )
    counts = [batch["n"] for batch in batches]
    assert (counts[:5], sum(counts[5:])) == ([1, 1, 1, 1, 1], 34)
    assert len(counts) < 10, "small rows go together"
    assert all(batch["n"] == len(batch["ids"]) for batch in batches)
    assert all(batch["bytes"] >= 300_000 for batch in batches[:5])


async def test_a_batch_of_long_keys_stays_a_small_document(ledger: Ledger) -> None:
    from app.intake.intake import Intake

    rows = [SourceRow(f"{i:04}" + "k" * 1020, i, "{}") for i in range(3000)]
    await Intake(ledger, MemoryQueue(), message_wait=MINUTE, now=VirtualClock()).log(
        make_feed(batch_size=1000), rows
    )
    found = await ledger._database["batches"].find().to_list()
    assert sum(batch["n"] for batch in found) == 3000
    for batch in found:
        assert sum(map(len, batch["ids"])) <= IDS_BYTES


# --- delivering


async def queued(place: Place, feed: Feed, ids: Sequence[int], size: int = LARGE) -> str:
    """Rows in one batch of which nobody knows what it holds, as a sweep or a replay makes it."""
    batch = new_batch(feed.name, [f"{feed.name}:{i}" for i in ids])
    await place.ledger.batches.insert([batch], place.clock())
    rows = [SourceRow(str(i), i, '{"v":"' + "x" * size + '"}') for i in ids]
    await place.ledger.deliveries.log([(batch, rows)], place.clock())
    return batch.id


async def test_a_batch_of_large_rows_is_loaded_a_portion_at_a_time_and_sent_whole(
    place: Place,
) -> None:
    feed = make_feed(batch_size=1000)
    batch_id = await queued(place, feed, range(1, 31))
    assert await place.delivering().deliver(feed, batch_id) == {Outcome.DELIVERED: 30}
    assert set((await place.states()).values()) == {"delivered"}
    assert await place.documents("batches") == []
    assert place.budget.peak <= LIMIT
    assert place.budget.peak < cost(30 * LARGE), "all of it was loaded at once"


async def test_what_a_row_took_is_given_back_as_soon_as_its_request_is_over(place: Place) -> None:
    feed = make_feed(batch_size=1000)
    batch_id = await queued(place, feed, range(1, 31))
    answer = place.partner.held["orders:1"] = asyncio.Event()
    running = asyncio.create_task(place.delivering().deliver(feed, batch_id))
    await until(
        lambda: place.partner.requests == 30,
        message="the others to be sent past the one that waits",
    )
    await until(
        lambda: place.budget.held <= cost(LARGE + 100), message="only what waits to be held"
    )
    answer.set()
    assert await running == {Outcome.DELIVERED: 30}


async def test_a_batch_that_is_stopped_while_it_waits_for_memory_goes_back_with_what_was_not_loaded(
    place: Place,
) -> None:
    feed = make_feed(batch_size=1000)
    batch_id = await queued(place, feed, range(1, 31))
    answer = asyncio.Event()
    place.partner.held = {f"orders:{i}": answer for i in range(1, 31)}
    worker = place.delivering()
    running = asyncio.create_task(worker.deliver(feed, batch_id))
    await until(lambda: place.budget.waiting == 1, message="the batch to wait for memory")
    sent = place.partner.requests
    assert 0 < sent < 30
    worker.drain(timedelta(seconds=30))
    answer.set()
    assert await asyncio.wait_for(running, 20) == {Outcome.DELIVERED: sent}
    (batch,) = await place.documents("batches")
    assert batch.get("lease") is None
    place.partner.held = {}
    assert await place.delivering().deliver(feed, batch_id) == {Outcome.DELIVERED: 30 - sent}
    assert place.partner.requests == 30, "a row was sent twice"


async def test_a_ledger_that_is_away_for_a_later_portion_stops_no_request_and_loses_no_row(
    place: Place,
) -> None:
    feed = make_feed(batch_size=1000)
    batch_id = await queued(place, feed, range(1, 31))
    calls = 0

    async def load(batch: Batch, ids: Sequence[str] | None = None) -> list[Delivery]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise LedgerUnavailable("away")
        return await place.ledger.deliveries.load(batch, ids)

    found = await place.delivering(replaced(place.ledger, "deliveries", load=load)).deliver(
        feed, batch_id
    )
    assert found is not None
    assert 0 < found[Outcome.DELIVERED] < 30
    assert await place.delivering().deliver(feed, batch_id) == {
        Outcome.DELIVERED: 30 - found[Outcome.DELIVERED]
    }


async def test_polls_and_batches_together_stay_within_the_budget(place: Place) -> None:
    feeds = [
        source_feed("orders", "identity", "id", name=f"feed{n}", page_size=1000) for n in range(4)
    ]
    await place.write(range(1, 41))
    await asyncio.gather(*(place.poll(feed) for feed in feeds))
    by_name = {feed.name: feed for feed in feeds}
    worker, messages = place.delivering(), place.queue.messages
    await asyncio.gather(*(worker.deliver(by_name[name], batch_id) for name, batch_id in messages))
    states = [document["state"] for document in await place.documents("deliveries")]
    assert states == ["delivered"] * 160
    assert LIMIT // 8 < place.budget.peak <= LIMIT


def watched(source: Source) -> Any:
    """The most characters that one value had which the source gave; ask when it is over."""
    widest = [0]
    engine = source._engine.sync_engine

    @event.listens_for(engine, "after_cursor_execute")
    def _seen(conn: Any, cursor: Any, *_: Any) -> None:
        del conn
        rows = getattr(cursor, "_rows", None) or ()
        for row in rows:
            widest[0] = max(widest[0], *(len(value) for value in row if isinstance(value, str)), 0)

    return lambda: widest[0]


async def test_a_poll_that_looks_rows_up_does_not_wait_for_the_memory_of_its_own_page(
    place: Place,
) -> None:
    feed = feed_by("rowversion", "rv")
    await place.write([1])
    await place.poll(feed)
    place.tables.version += 1
    await place.tables.run("UPDATE orders SET rv = :rv WHERE id = 1", rv=place.tables.version)
    await place.write([2])  # beside the updated row: a page of most of what a feed may hold
    await asyncio.wait_for(place.poll(feed), 30)
    assert place.budget.held == 0


async def test_a_row_that_fails_unforeseen_leaves_no_memory_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the batch while the next portion is being loaded."""
    feed = make_feed(batch_size=1000)
    batch_id = await queued(place, feed, range(1, 31))
    answer, cancelled = asyncio.Event(), list[bool]()
    place.partner.held |= {f"orders:{number}": answer for number in range(1, 31)}
    loads = 0

    async def load(batch: Batch, ids: Sequence[str] | None = None) -> list[Delivery]:
        nonlocal loads
        loads += 1
        if loads == 2:
            answer.set()
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.append(True)
        return await place.ledger.deliveries.load(batch, ids)

    def fails(_: Answer) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("app.delivery.sending.accepted", fails)
    ledger = replaced(place.ledger, "deliveries", load=load)
    with pytest.raises(BaseExceptionGroup):
        await place.delivering(ledger).deliver(feed, batch_id)
    assert cancelled == [True]
    assert place.budget.held == 0
