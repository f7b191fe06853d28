"""What operators do with a feed is on record with who, when and why, and the record is bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.cursors import FeedMoveKind, Origin
from app.ledger import Ledger
from app.ledger.cursor_documents import DETAIL_LIMIT, MOVES_KEPT
from app.ledger.stamp import BY_LIMIT, WHY_LIMIT
from app.operations.adopt import adopt
from app.operations.by import By
from app.operations.pause import Part, pause, resume
from app.operations.rewind import Rewinding
from app.source.catalogue import other_source
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.feeds import make_feed
from tests.support.sources import CONNECT_TIMEOUT, SourceTables, source_tables

ADA, BOB = By("ada@desk", "the partner moves house"), By("bob@desk")


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[SourceTables]:
    async with source_tables("sqlite", tmp_path) as made:
        yield made


async def _moves(ledger: Ledger) -> list[tuple[FeedMoveKind, str, str | None, str]]:
    cursor = await ledger.cursors.get("orders")
    assert list(cursor.moves) == sorted(cursor.moves, key=lambda move: move.at)
    return [(move.kind, move.by, move.why, move.detail) for move in cursor.moves]


async def test_each_pause_and_resume_is_on_record_and_none_that_changed_nothing(
    ledger: Ledger,
) -> None:
    await pause(ledger, "orders", ADA, Part.SENDING)
    await pause(ledger, "orders", BOB, Part.SENDING)
    await resume(ledger, "orders", BOB, Part.SENDING)
    await resume(ledger, "orders", BOB, Part.SENDING)
    await pause(ledger, "orders", BOB)
    await resume(ledger, "orders", ADA, Part.POLLING)
    await resume(ledger, "orders", BOB)
    both, paused, resumed = "polling and sending", FeedMoveKind.PAUSED, FeedMoveKind.RESUMED
    assert await _moves(ledger) == [
        (paused, ADA.who, ADA.why, "sending"),
        (resumed, BOB.who, None, "sending"),
        (paused, BOB.who, None, both),
        (resumed, ADA.who, ADA.why, "polling"),
        (resumed, BOB.who, None, both),
    ]


async def test_what_rowrelay_does_by_itself_is_no_operators(ledger: Ledger) -> None:
    await ledger.pauses.pause("orders", "401 Unauthorized")
    assert await _moves(ledger) == []


async def test_a_rewind_is_on_record_with_where_from_and_where_to(
    ledger: Ledger, tables: SourceTables
) -> None:
    await tables.make("orders", id="IDENTITY", note="NVARCHAR")
    source, feed = Source(open_engine(tables.url, CONNECT_TIMEOUT)), make_feed()
    await Rewinding(source, ledger).rewind(feed, 70, ADA)
    await Rewinding(source, ledger).rewind(feed, "beginning", BOB)
    await source.close()
    assert await _moves(ledger) == [
        (
            FeedMoveKind.REWOUND,
            ADA.who,
            ADA.why,
            "from the beginning (nothing was read yet) to id 70",
        ),
        (FeedMoveKind.REWOUND, BOB.who, None, "from id 70 to the beginning"),
    ]


async def test_an_adoption_and_the_resume_that_follows_are_on_record_once(ledger: Ledger) -> None:
    feed, former = make_feed(), Origin("invoices", ("id",), "identity", "id")
    await ledger.cursors.originate("orders", former)
    await ledger.pauses.pause("orders", other_source(feed, former), sending=True)
    assert (await adopt(ledger, feed, ADA)).resumed
    assert not (await adopt(ledger, feed, BOB)).changed
    adopted, resumed = await _moves(ledger)
    assert adopted[:3] == (FeedMoveKind.ADOPTED, ADA.who, ADA.why)
    assert "from table invoices" in adopted[3]
    assert resumed[:2] == (FeedMoveKind.RESUMED, ADA.who)


async def test_the_record_holds_the_latest_and_no_more_text_than_it_may(ledger: Ledger) -> None:
    long = By("a" * 10_000, "w" * 10_000)
    for _ in range(MOVES_KEPT):
        await pause(ledger, "orders", long)
        await resume(ledger, "orders", long)
    stamp = long.at((await ledger.cursors.get("orders")).moves[-1].at)
    await ledger.cursors.adopt(
        "orders", Origin("t", ("id",), "identity", "id"), "d" * 10_000, stamp
    )
    moves = (await ledger.cursors.get("orders")).moves
    assert len(moves) == MOVES_KEPT
    assert moves[-1].kind is FeedMoveKind.ADOPTED
    assert {(len(move.by), len(move.why or ""), len(move.detail)) for move in moves[-1:]} == {
        (BY_LIMIT, WHY_LIMIT, DETAIL_LIMIT)
    }
