"""What reconciliation asks of the ledger and of the source's indexes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.core.certificates import Certificate
from app.core.cursors import Cursor
from app.core.position import ReadRange
from app.core.rows import Page
from app.core.states import State
from app.ledger import Ledger
from app.ledger.cursor_documents import SPANS_KEPT
from app.ledger.stamp import Stamp
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.ledger import NOW, log_batch, succeed
from tests.support.sources import source_feed

STAMP = Stamp("me", NOW)

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _certificate(feed: str, at: datetime, rows: int = 1) -> Certificate:
    return Certificate(
        feed, at, ["0x00000000000007D1", 7], rows, {State.DELIVERED: rows}, begun_at=at
    )


async def test_the_certificate_of_a_moment_is_the_last_one_up_to_it(ledger: Ledger) -> None:
    certificates = ledger.certificates
    first, second = _certificate("orders", AT), _certificate("orders", AT + timedelta(hours=1), 2)
    for certificate in (second, first, first, _certificate("orders2", AT + timedelta(days=1), 3)):
        await certificates.save(certificate)
    assert await certificates.latest("orders") == second
    assert await certificates.at_or_before("orders", AT) == first
    assert await certificates.at_or_before("orders", AT + timedelta(minutes=59)) == first
    assert await certificates.at_or_before("orders", AT - timedelta(seconds=1)) is None
    assert await certificates.latest("order") is None
    part = replace(second, at=AT + timedelta(hours=2), since=5)
    await certificates.save(part)
    assert await certificates.latest("orders") == second


@pytest.mark.parametrize("stride", [1, 4, 5, 9, 10, 1000])
async def test_deliveries_are_counted_a_stride_at_a_time(ledger: Ledger, stride: int) -> None:
    await log_batch(ledger, *range(9))
    await log_batch(ledger, *range(4), feed="orders2")
    assert await ledger.audit.total("orders", stride) == 9
    assert await ledger.audit.total("other", stride) == 0
    seen: list[str] = []
    while ids := await ledger.audit.ids_after("orders", seen[-1] if seen else "", stride):
        seen += ids
    assert seen == [f"orders:{number}" for number in range(9)]


async def test_states_are_asked_for_in_parts(ledger: Ledger) -> None:
    await log_batch(ledger, *range(3))
    await succeed(ledger, 1)
    ids = [f"orders:{number}" for number in range(1200)]
    counts, _ = await ledger.audit.count_states(ids)
    assert counts == {State.QUEUED: 2, State.DELIVERED: 1}
    assert (await ledger.audit.states_of(ids))["orders:1"] is State.DELIVERED
    assert await ledger.audit.states_of([]) == {}


async def test_a_cursor_remembers_what_it_was_given_to_read(ledger: Ledger) -> None:
    def page(position: int, began: int | None = None) -> Page:
        return Page((), position, (), full=False, began=began)

    cursor = await ledger.cursors.advance(Cursor("orders"), page(10, began=4), NOW)
    cursor = await ledger.cursors.advance(cursor, page(20), NOW)
    assert cursor.spans == (ReadRange(4, None),)
    await ledger.cursors.rewind(cursor, Cursor("orders", 30, spans=(ReadRange(30),)), "told", STAMP)
    assert (await ledger.cursors.get("orders")).spans == (ReadRange(4, 20), ReadRange(30, None))
    for position in range(100, 100 + 2 * SPANS_KEPT):
        cursor = await ledger.cursors.get("orders")
        await ledger.cursors.rewind(
            cursor, Cursor("orders", position, spans=(ReadRange(position),)), "told", STAMP
        )
    assert len((await ledger.cursors.get("orders")).spans) == SPANS_KEPT
    cursor = await ledger.cursors.get("orders")
    await ledger.cursors.rewind(
        cursor, Cursor("orders", -5, spans=(ReadRange(None),)), "told", STAMP
    )
    assert (await ledger.cursors.get("orders")).spans == (ReadRange(None, None),)


@pytest.mark.parametrize(
    ("strategy", "column"), [("identity", "id"), ("rowversion", "rv"), ("timestamp", "at")]
)
async def test_each_statement_of_a_walk_seeks_on_an_index(
    tmp_path: Path, strategy: str, column: str
) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, rv INTEGER, at TEXT, note TEXT)"
        )
        connection.execute("CREATE INDEX orders_rv ON orders (rv, id)")
        connection.execute("CREATE INDEX orders_at ON orders (at, id)")
        source = Source(open_engine(f"sqlite:///{path}", timedelta(seconds=5)))
        explained = await source.explain(source_feed("orders", strategy, column))
        await source.close()
        walk = {
            one.name: one
            for one in explained
            if one.name in ("walk", "left out", "left out, on", "missing", "deleted")
        }
        assert len(walk) == 5
        for name, one in walk.items():
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN {one.sql}", dict(one.parameters)
            ).fetchall()
            steps = [step[3] for step in plan]
            assert any(step.startswith("SEARCH") for step in steps), (name, steps)
            assert not any("TEMP B-TREE" in step or step == "SCAN orders" for step in steps), (
                name,
                steps,
            )
            if name not in ("walk", "missing", "deleted") and strategy != "identity":
                assert any("COVERING INDEX" in step for step in steps), (name, steps)
