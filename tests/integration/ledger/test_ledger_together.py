"""What many feeds ask of the ledger at once takes few commands, and each gets what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from app.core.batches import NewBatch
from app.core.cursors import Cursor
from app.core.errors import LedgerRefused
from app.core.rows import Page
from app.ledger import Ledger, merge
from app.ledger.client import Document
from app.ledger.merge import FEW
from tests.support.ledger import LATER, NOW, claim, log_batch

FEEDS = [f"feed{number}" for number in range(30)]


class Commands(CommandListener):
    """The names of the commands sent, without those that open a connection."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if not event.command_name.startswith(("sasl", "hello")):
            self.sent.append(event.command_name)

    def succeeded(self, event: object) -> None:
        del event

    def failed(self, event: object) -> None:
        del event


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def counted(
    ledger: Ledger, mongo_database_url: str, commands: Commands
) -> AsyncIterator[Ledger]:
    """The ledger, over a client whose commands are counted."""
    del ledger  # it has made the indexes
    async with AsyncMongoClient[Document](
        mongo_database_url, tz_aware=True, event_listeners=[commands]
    ) as client:
        opened = Ledger(client)
        await opened.cursors.get("warm up")
        commands.sent.clear()
        yield opened


async def test_a_batch_of_any_size_is_loaded_by_one_question(
    counted: Ledger, commands: Commands
) -> None:
    batch = await claim(counted, await log_batch(counted, *range(300)))
    commands.sent.clear()
    assert len(await counted.deliveries.load(batch)) == 300
    assert commands.sent == ["find"]


async def test_cursors_asked_for_at_once_are_few_questions(
    counted: Ledger, commands: Commands
) -> None:
    await asyncio.gather(
        *(counted.cursors.advance(Cursor(name), _page(place), NOW) for place, name in _odd())
    )
    commands.sent.clear()
    found = await asyncio.gather(*map(counted.cursors.get, [*FEEDS, FEEDS[1]]))
    assert commands.sent == ["find", "find"], "the first at once, the others together"
    assert [cursor.feed for cursor in found] == [*FEEDS, FEEDS[1]]
    there = {cursor.feed: cursor.position for cursor in found if cursor.version}
    assert there == {name: place for place, name in _odd()}


async def test_polls_without_rows_are_noted_in_few_commands(
    counted: Ledger, commands: Commands
) -> None:
    await asyncio.gather(*(counted.cursors.note_poll(name, NOW, name) for name in FEEDS))
    assert commands.sent == ["update", "update"]
    found = await asyncio.gather(*map(counted.cursors.get, FEEDS))
    assert [(one.last_poll_at, one.last_error) for one in found] == [(NOW, name) for name in FEEDS]


async def test_what_one_feed_notes_in_no_form_is_no_fault_of_the_others(counted: Ledger) -> None:
    lone_surrogate = "\udc80"
    notes = [
        counted.cursors.note_poll(name, NOW, lone_surrogate if name == FEEDS[1] else None)
        for name in FEEDS
    ]
    found = await asyncio.gather(*notes, return_exceptions=True)
    assert [name for name, error in zip(FEEDS, found, strict=True) if error] == [FEEDS[1]]
    assert isinstance(found[1], LedgerRefused)
    assert (await counted.cursors.get(FEEDS[2])).last_poll_at == NOW


async def test_what_the_server_refuses_of_one_feed_is_no_fault_of_the_others(
    counted: Ledger,
) -> None:
    minute = f"{FEEDS[1]}|2026-01-01T12:00Z"
    await counted._database["stats"].insert_one({"_id": minute, "logged": "no number"})
    added = [counted.stats.add_logged(name, 3, NOW) for name in FEEDS]
    found = await asyncio.gather(*added, return_exceptions=True)
    assert [name for name, error in zip(FEEDS, found, strict=True) if error] == [FEEDS[1]]
    assert isinstance(found[1], LedgerRefused)
    for name in (FEEDS[0], FEEDS[2]):
        assert await _logged(counted, name) == 3, "once"


async def test_counts_of_one_minute_that_come_at_once_are_all_counted(
    counted: Ledger, commands: Commands
) -> None:
    await asyncio.gather(*(counted.stats.add_logged("orders", 1, NOW) for _ in range(40)))
    assert commands.sent == ["update", "update"]
    assert await _logged(counted, "orders") == 40


async def test_batches_settled_at_once_are_deleted_but_for_those_that_another_holds(
    counted: Ledger, commands: Commands
) -> None:
    held = [await claim(counted, await _batch(counted, name)) for name in FEEDS[:5]]
    lost = await counted.batches.claim(held[0].id, held[0].feed, "w2", LATER, timedelta(minutes=1))
    assert lost is not None
    commands.sent.clear()
    await asyncio.gather(*map(counted.batches.settle, held))
    assert commands.sent == ["delete", "delete"]
    assert await counted.batches.existing(batch.id for batch in held) == {lost.id}


@pytest.mark.parametrize("most", [4, FEW])
async def test_what_is_due_of_many_feeds_is_one_question_unless_it_is_much(
    counted: Ledger, commands: Commands, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(merge, "FEW", most)
    batches = [await _batch(counted, name) for name in FEEDS[:5]]
    more = [await _batch(counted, FEEDS[0]) for _ in range(3)]
    commands.sent.clear()
    due = await counted.batches.due(NOW, 2)
    assert len(commands.sent) == (2 if most == FEW else 2 + 5), "which feeds; then"
    assert {batch.id for batch in due} >= {batch.id for batch in batches[1:]}
    assert len(due) == 4 + 2, "two of the feed that has more"
    assert len({batch.id for batch in due} & {batch.id for batch in (batches[0], *more)}) == 2


def _odd() -> list[tuple[int, str]]:
    return [(place, name) for place, name in enumerate(FEEDS) if place % 2]


def _page(position: int) -> Page:
    return Page((), position, (), full=False)


async def _batch(ledger: Ledger, feed: str) -> NewBatch:
    return await log_batch(ledger, 1, feed=feed)


async def _logged(ledger: Ledger, feed: str) -> int:
    (minute,) = await ledger.stats.between(feed, NOW - timedelta(minutes=1), LATER)
    return int(minute["logged"])
