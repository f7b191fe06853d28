"""A dead letter whose row could not be read is delivered once the row is mended: a replay reads it
from the source.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import SourceUnavailable
from app.core.rows import NewForm, Page
from app.core.states import State
from app.feeds.feed import Feed, Rate
from app.intake import unreadable
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.delivery_documents import MEND_IT
from app.ledger.selection import Selection
from app.operations.account import Account
from app.operations.by import By
from app.operations.replay import Replaying
from app.reconcile import Reconciling
from app.source.reader import Source
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.sources import SourceTables, source_feed, source_tables

MINUTE = timedelta(minutes=1)
DEAD = Selection((State.DEAD,), feeds=("orders",))
FAST = Rate(count=100_000, per_seconds=1)


class Office:
    """A view over documents of which some are no JSON, a ledger, and an operator."""

    def __init__(self, tables: SourceTables, ledger: Ledger) -> None:
        self.tables, self.ledger = tables, ledger
        self.source, self.clock, self.queue = tables.source(), VirtualClock(), MemoryQueue()

    async def write(self, *ids: int, doc: str = '{"n": 5}') -> None:
        rows = [{"id": i, "at": f"2026-01-01 10:{i // 60:02}:{i % 60:02}", "doc": doc} for i in ids]
        await self.tables.write("documents", rows)

    async def mend(self, *ids: int) -> None:
        """As an application does it that tells nobody: no cursor column moves."""
        for number in ids:
            await self.tables.run(f"UPDATE documents SET doc = '{{\"n\": 7}}' WHERE id = {number}")  # noqa: S608 - names of ours

    async def poll(self, feed: Feed) -> None:
        self.clock.advance(MINUTE)
        await Polling(
            self.source, self.ledger, self.queue, message_wait=MINUTE, now=self.clock
        ).poll(feed)

    async def replay(self, feed: Feed, selection: Selection = DEAD, **options: Any) -> Account:
        self.clock.advance(MINUTE)
        source = self.tables.source()
        replaying = Replaying(
            self.ledger, self.queue, {"orders": feed},
            message_wait=MINUTE, source=lambda: source, now=self.clock, **options,
        )  # fmt: skip
        try:
            return await replaying.replay(selection, FAST, By("ada@desk"))
        finally:
            await source.close()

    async def get(self, number: int) -> Document:
        found = await self.ledger.deliveries.get(f"orders:{number}")
        assert found is not None
        return found

    async def states(self) -> dict[int, str]:
        found = await self.ledger._database["deliveries"].find().to_list()
        return {int(document["key"]): document["state"] for document in found}


@pytest.fixture
async def office(tmp_path: Path, ledger: Ledger) -> AsyncIterator[Office]:
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make(
            "documents", id="INTEGER PRIMARY KEY", rv="ROWVERSION", at="MOMENT", doc="TEXT"
        )
        await tables.run(
            "CREATE VIEW orders AS SELECT id, rv, at, json_extract(doc, '$.n') AS n FROM documents"
        )
        made = Office(tables, ledger)
        yield made
        await made.source.close()


def a_feed(strategy: str = "identity", column: str = "id", **fields: Any) -> Feed:
    return source_feed("orders", strategy, column, **fields)


@pytest.mark.parametrize(
    ("strategy", "column"), [("identity", "id"), ("rowversion", "rv"), ("timestamp", "at")]
)
async def test_a_mended_row_is_read_again_and_sent_as_it_is_now(
    office: Office, strategy: str, column: str
) -> None:
    feed = a_feed(strategy, column)
    await office.write(1, 2)
    await office.write(3, doc="no JSON")
    await office.poll(feed)
    letter = await office.get(3)
    assert letter["reason"].endswith(MEND_IT)
    await office.mend(3)
    await office.poll(feed)
    assert (await office.states())[3] == "dead", "no poll comes back to it"
    account = await office.replay(feed)
    assert (account.selected, account.moved, dict(+account.skipped)) == (1, 1, {})
    found = await office.get(3)
    assert (found["state"], json.loads(found["payload"])["n"]) == ("queued", 7)
    assert found["reread"]["by"] == found["replays"][0]["by"] == "ada@desk"
    assert "reason" not in found
    reconciling = Reconciling(
        office.source, office.ledger, office.queue, message_wait=MINUTE, now=office.clock
    )
    assert (await reconciling.reconcile(feed)).by_key == 0, "its hash is kept with it"


async def test_what_cannot_be_sent_now_either_stays_and_is_said(office: Office) -> None:
    feed = a_feed(filter=[{"column": "n", "op": "<", "value": 7}])
    await office.write(*range(1, 6), doc="no JSON")
    await office.poll(feed)
    await office.mend(1)
    await office.tables.run(
        "DELETE FROM documents WHERE id = 2", "UPDATE documents SET doc = '{\"n\": 6}' WHERE id = 5"
    )
    account = await office.replay(feed)
    left = {unreadable.FILTERED: 1, unreadable.NO_ROW: 1, unreadable.STILL_UNREADABLE: 2}
    assert (account.selected, account.moved, dict(+account.skipped)) == (5, 1, left)
    assert await office.states() == {1: "dead", 2: "dead", 3: "dead", 4: "dead", 5: "queued"}
    assert (await office.get(1))["reason"] == "filter: not n < 7"
    assert "malformed JSON" in (await office.get(3))["reason"]


async def test_an_update_that_mends_a_row_is_a_delivery_of_its_own_where_changes_are(
    office: Office,
) -> None:
    feed = a_feed("rowversion", "rv", capture="changes")
    await office.write(1, doc="no JSON")
    await office.poll(feed)
    await office.mend(1)
    await office.tables.run("UPDATE documents SET rv = rv + 1000")
    await office.poll(feed)
    account = await office.replay(feed)
    assert (account.moved, dict(+account.skipped)) == (0, {unreadable.CHANGED_SINCE: 1})
    states = sorted(
        d["state"] for d in await office.ledger._database["deliveries"].find().to_list()
    )
    assert states == ["dead", "queued"]


async def test_more_dead_letters_than_are_read_at_once_are_each_read_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a page died at the same moment."""
    monkeypatch.setattr(unreadable, "AT_ONCE", 3)
    feed, mended = a_feed(page_size=10), [2, 3, 5, 11, 14, 20]
    await office.write(*range(1, 21), doc="no JSON")
    await office.poll(feed)
    await office.mend(*mended)
    account = await office.replay(feed)
    assert (account.moved, dict(+account.skipped)) == (6, {unreadable.STILL_UNREADABLE: 14})
    assert {
        number for number, state in (await office.states()).items() if state == "queued"
    } == set(mended)


async def test_only_what_is_selected_and_open_is_read_again(office: Office) -> None:
    feed = a_feed()
    await office.write(1, 2, 3, doc="no JSON")
    await office.poll(feed)
    await office.mend(1, 2, 3)
    account = await office.replay(feed, Selection((State.DEAD,), ids=("orders:2", "orders:9")))
    assert (account.moved, dict(+account.skipped)) == (1, {"not in the ledger": 1})
    acknowledged = {
        "$set": {"acknowledged": {"at": office.clock(), "by": "me"}, "kept_from": office.clock()}
    }
    await office.ledger._database["deliveries"].update_one({"_id": "orders:1"}, acknowledged)
    account = await office.replay(feed)
    assert (account.moved, dict(+account.skipped)) == (1, {"acknowledged": 1})
    assert (await office.get(1))["payload"] == ""


async def test_the_others_are_replayed_while_the_source_is_away(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = a_feed()
    await office.write(1)
    await office.write(2, doc="no JSON")
    await office.poll(feed)
    dead = {"$set": {"state": "dead", "finished_at": office.clock()}, "$unset": {"batch": ""}}
    await office.ledger._database["deliveries"].update_one({"_id": "orders:1"}, dead)

    async def away(*_: object) -> Sequence[object]:
        raise SourceUnavailable("nobody there")

    monkeypatch.setattr(Source, "find_some", away)
    account = await office.replay(feed)
    assert (account.moved, dict(+account.skipped)) == (
        1,
        {f"{unreadable.NOT_ASKED}: nobody there": 1},
    )


async def test_without_a_letter_to_read_again_the_source_is_not_asked(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: object) -> Sequence[object]:
        raise AssertionError("nothing is to be read again")

    feed = a_feed()
    await office.write(1)
    await office.poll(feed)
    dead = {"$set": {"state": "dead", "finished_at": office.clock()}, "$unset": {"batch": ""}}
    await office.ledger._database["deliveries"].update_one({"_id": "orders:1"}, dead)
    monkeypatch.setattr(Source, "find_some", asked)
    assert (await office.replay(feed)).moved == 1


async def test_a_row_is_read_again_in_the_columns_agreed(office: Office) -> None:
    feed = a_feed()
    await office.write(1, doc="no JSON")
    await office.poll(feed)
    cursor = await office.ledger.cursors.get("orders")
    form = NewForm(tuple(column for column in cursor.columns if column[0] != "at"))
    await office.ledger.cursors.advance(
        cursor, Page((), cursor.position, (), full=False, form=form), office.clock()
    )
    await office.mend(1)
    await office.replay(feed)
    assert set(json.loads((await office.get(1))["payload"])) == {"id", "rv", "n"}


async def test_a_row_without_a_key_is_not_looked_for(office: Office) -> None:
    await office.tables.run(
        "CREATE TABLE loose (id INTEGER PRIMARY KEY, code TEXT)",
        "INSERT INTO loose VALUES (1, NULL)",
    )
    feed = source_feed("loose", "identity", "id", key="code")
    await office.poll(feed)
    (letter,) = await office.ledger._database["deliveries"].find().to_list()
    assert letter["reason"] == "a key column is NULL: the row has no identity"
    account = await office.replay(feed)
    assert (account.moved, dict(+account.skipped)) == (0, {unreadable.NO_ROW: 1})
