"""Polling: rows are in the ledger before the cursor passes them, wherever a poll dies, and within
bounds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from app.core.batches import NewBatch
from app.core.budget import Reservation
from app.core.cursors import READS_ON, Cursor, FollowUp
from app.core.errors import LedgerRefused, LedgerUnavailable, SourceUnavailable
from app.core.rows import LoggedRows, Page
from app.feeds.feed import Feed
from app.intake.backlog import KNOWN_FOR
from app.intake.follow_ups import Polled
from app.intake.poll import CURSOR_KNOWN_FOR, Polling
from app.ledger import Ledger
from tests.support.doubles import MemorySource, VirtualClock
from tests.support.feeds import make_feed
from tests.support.relay import MESSAGE_WAIT, Relay, replaced
from tests.support.steps import Crashed, Fate, Kind, Steps, stepped_ledger


class SlowSource(MemorySource):
    """Each page takes six seconds."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.pages = 0

    async def read_page(
        self, feed: Feed, cursor: Cursor, now: datetime, room: Reservation | None = None
    ) -> Page:
        self._clock.advance(timedelta(seconds=6))
        self.pages += 1
        return await super().read_page(feed, cursor, now, room)


@pytest.fixture
def relay(ledger: Ledger) -> Relay:
    return Relay(ledger)


async def everything_is_owed_once(relay: Relay) -> None:
    """Every committed row is logged, queued, and in exactly one batch that exists."""
    found = await relay.ledger._database["deliveries"].find().to_list()
    assert {document["_id"] for document in found} == {
        f"orders:{i}" for i in relay.source.committed
    }
    batches = {
        document["_id"]: document
        for document in await relay.ledger._database["batches"].find().to_list()
    }
    for document in found:
        assert document["_id"] in batches[document["batch"]]["ids"]


async def test_rows_are_logged_in_batches_and_each_batch_is_one_message(relay: Relay) -> None:
    messages = await relay.poll_rows(7)
    assert len(messages) == 4, "pages of 5 and 2 rows, batches of 2"
    assert set(messages) == await relay.batches()
    await everything_is_owed_once(relay)
    now, minute_long = relay.clock(), timedelta(minutes=1)
    (minute,) = await relay.ledger.stats.between(
        relay.feed.name, now - minute_long, now + minute_long
    )
    assert minute["logged"] == 7


@pytest.mark.parametrize(
    ("rows", "room", "published"),
    [(2, 1, 0), (2, 0, 1), (5, 2, 1), (0, 1, 0)],
    ids=["taken", "no room", "room for two of three", "none"],
)
async def test_batches_that_their_process_takes_need_no_message(
    relay: Relay, rows: int, room: int, published: int
) -> None:
    offered: list[str] = []

    def take(batch: NewBatch, _: LoggedRows | None) -> bool:
        offered.append(batch.id)
        return len(offered) <= room

    polling = Polling(
        relay.source,
        relay.ledger,
        relay.queue,
        message_wait=MESSAGE_WAIT,
        now=relay.clock,
        take=take,
    )
    relay.source.add(rows)
    await polling.poll(relay.feed)
    messages = [batch_id for _, batch_id in relay.queue.messages]
    assert len(messages) == published
    assert set(messages) | set(offered) == await relay.batches()
    await everything_is_owed_once(relay)
    relay.clock.advance(MESSAGE_WAIT)
    due = await relay.ledger.batches.due(relay.clock(), 100)
    assert {batch.id for batch in due} == await relay.batches(), "as if a message had been lost"


async def test_what_is_logged_is_on_its_way_before_the_cursor_moves(relay: Relay) -> None:
    """A row waits for one command of the ledger less."""
    seen: list[int] = []

    async def advance(
        cursor: Cursor, page: Page, now: datetime, reader: str | None = None
    ) -> Cursor:
        seen.append(len(relay.queue.messages))
        return await relay.ledger.cursors.advance(cursor, page, now, reader)

    relay.source.add(3)
    await relay.polling(replaced(relay.ledger, "cursors", advance=advance)).poll(relay.feed)
    assert seen == [2]
    await everything_is_owed_once(relay)


async def test_a_follow_up_poll_that_finds_nothing_writes_nothing_unless_there_was_trouble(
    relay: Relay,
) -> None:
    noted: list[str] = []

    async def note_empty(cursor: Cursor, page: Page, now: datetime) -> None:
        noted.append(cursor.feed)
        await relay.ledger.cursors.note_empty(cursor, page, now)

    polling = relay.polling(replaced(relay.ledger, "cursors", note_empty=note_empty))
    follow_up = FollowUp(timedelta(seconds=1), relay.clock() + timedelta(minutes=1))
    await polling.poll(relay.feed)
    assert noted == ["orders"], "of beat's polls status tells when the last was"
    await polling.poll(relay.feed, follow_up)
    assert noted == ["orders"]
    await relay.ledger.cursors.note_poll("orders", relay.clock(), "the cursor is ahead")
    relay.clock.advance(CURSOR_KNOWN_FOR)
    await polling.poll(relay.feed, follow_up)
    assert noted == ["orders"] * 2
    assert (await relay.ledger.cursors.get("orders")).last_error is None


async def test_a_follow_up_poll_goes_by_the_cursor_that_it_knows_for_a_second(relay: Relay) -> None:
    asked: list[str] = []

    async def get(feed: str) -> Cursor:
        asked.append(feed)
        return await relay.ledger.cursors.get(feed)

    polling = relay.polling(replaced(relay.ledger, "cursors", get=get))
    follow_up = FollowUp(timedelta(seconds=1), relay.clock() + timedelta(minutes=1))
    relay.source.add(1)
    await polling.poll(relay.feed)
    relay.source.add(1)
    assert (await polling.poll(relay.feed, follow_up)).logged == 1
    assert (await polling.poll(relay.feed, follow_up)).logged == 0
    assert len(asked) == 1
    await relay.ledger.pauses.pause("orders", "by hand")
    relay.clock.advance(CURSOR_KNOWN_FOR)
    assert (await polling.poll(relay.feed, follow_up)).stopped == "paused"
    await relay.ledger.pauses.resume("orders")
    await polling.poll(relay.feed)
    await polling.poll(relay.feed)
    assert len(asked) == 4, "beat's polls always ask"


async def test_a_cursor_that_another_process_moved_is_not_moved_by_a_follow_up_poll(
    relay: Relay,
) -> None:
    polling = relay.polling()
    follow_up = FollowUp(timedelta(seconds=1), relay.clock() + timedelta(minutes=1))
    await polling.poll(relay.feed)
    await relay.poll_rows(3)
    moved = await relay.ledger.cursors.get("orders")
    assert (await polling.poll(relay.feed, follow_up)).stopped == "another poll"
    assert await relay.ledger.cursors.get("orders") == moved
    await everything_is_owed_once(relay)


async def test_a_feed_with_a_full_backlog_is_not_polled(ledger: Ledger) -> None:
    relay = Relay(ledger, make_feed(page_size=4, max_backlog=8))
    relay.source.add(30)
    first = await relay.polling().poll(relay.feed)
    assert (first.read, first.stopped) == (8, "backlog")
    second = await relay.polling().poll(relay.feed)
    assert (second.read, second.stopped) == (0, "backlog")
    await relay.deliver_all()
    assert (await relay.polling().poll(relay.feed)).read == 8


async def test_a_poll_that_finds_nothing_does_not_ask_what_is_open_and_one_of_a_full_feed_asks_before_it_reads(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(ledger, make_feed(page_size=4, max_backlog=8))
    relay.source = source = SlowSource(relay.clock)
    asked = _counted(ledger, monkeypatch)
    polling = relay.polling()
    await polling.poll(relay.feed)
    assert (source.pages, asked.times) == (1, 0), "no rows"
    source.add(30)
    while (await polling.poll(relay.feed)).stopped != "backlog":
        pass
    pages = source.pages
    assert (await polling.poll(relay.feed)).stopped == "backlog"
    assert source.pages == pages, "a full feed's table is not read at each poll"
    await relay.deliver_all()
    assert (await polling.poll(relay.feed)).read


@dataclass
class _Asked:
    """How often the ledger was asked what of a feed is open."""

    times: int = 0


def _counted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> _Asked:
    owed, asked = ledger.batches.owed, _Asked()

    async def counted(feed: str) -> int:
        asked.times += 1
        return await owed(feed)

    monkeypatch.setattr(ledger.batches, "owed", counted)
    return asked


async def test_a_feed_that_has_a_row_now_and_then_is_asked_what_is_open_once_in_a_while(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(ledger, make_feed(page_size=4, max_backlog=100))
    polling, asked = relay.polling(), _counted(ledger, monkeypatch)
    for _ in range(5):
        relay.source.add(1)
        assert (await polling.poll(relay.feed)).logged == 1
        assert (await polling.poll(relay.feed)).logged == 0
    assert asked.times == 1
    relay.clock.advance(KNOWN_FOR)
    relay.source.add(1)
    await polling.poll(relay.feed)
    assert asked.times == 2


async def test_two_workers_that_take_turns_log_no_more_than_the_backlog_may_hold(
    ledger: Ledger,
) -> None:
    relay = Relay(ledger, make_feed(page_size=4, max_backlog=20))
    workers = [relay.polling(), relay.polling()]
    logged = 0
    for turn in range(10):
        relay.source.add(3)
        logged += (await workers[turn % 2].poll(relay.feed)).logged
    assert 20 <= logged < 20 + relay.feed.page_size, "a page that began with room is logged whole"


async def test_a_poll_that_failed_leaves_nothing_known_of_the_backlog(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(ledger, make_feed(page_size=4, max_backlog=100))
    polling, asked = relay.polling(), _counted(ledger, monkeypatch)
    relay.source.add(1)
    await polling.poll(relay.feed)
    with monkeypatch.context() as patched:
        patched.setattr(ledger.cursors, "advance", _refused)
        relay.source.add(1)
        with pytest.raises(LedgerRefused):
            await polling.poll(relay.feed)
    await ledger.cursors.note_poll(relay.feed.name, relay.clock())
    await polling.poll(relay.feed)
    assert asked.times == 2


async def _refused(*_: object) -> None:
    raise LedgerRefused("no")


async def test_a_new_worker_logs_nothing_of_a_full_feed(ledger: Ledger) -> None:
    relay = Relay(ledger, make_feed(page_size=4, max_backlog=8))
    relay.source.add(30)
    while (await relay.polling().poll(relay.feed)).stopped != "backlog":
        pass
    before, cursor = await relay.states(), await ledger.cursors.get(relay.feed.name)
    assert (await relay.polling().poll(relay.feed)).stopped == "backlog"
    assert await relay.states() == before
    assert (await ledger.cursors.get(relay.feed.name)).position == cursor.position


async def test_retries_are_part_of_the_backlog(ledger: Ledger) -> None:
    relay = Relay(ledger, make_feed(page_size=4, max_backlog=8))
    relay.source.add(30)
    await relay.polling().poll(relay.feed)
    await ledger._database["batches"].delete_many({})
    await ledger._database["deliveries"].update_many(
        {},
        {"$set": {"state": "retrying", "next_attempt_at": relay.clock()}, "$unset": {"batch": ""}},
    )
    assert (await relay.polling().poll(relay.feed)).stopped == "backlog"


async def test_a_poll_ends_with_its_time_budget_page_by_page(ledger: Ledger) -> None:
    relay = Relay(ledger, make_feed(page_size=4, poll_budget=timedelta(seconds=10)))
    relay.source = source = SlowSource(relay.clock)
    source.add(20)
    first = await relay.polling().poll(relay.feed)
    assert (first.read, first.stopped, source.pages) == (8, "budget", 2)
    assert (await relay.polling().poll(relay.feed)).stopped == "budget"
    last = await relay.polling().poll(relay.feed)
    assert (last.read, last.stopped) == (4, "up to date")
    await everything_is_owed_once(relay)


async def test_a_paused_feed_is_not_polled(relay: Relay) -> None:
    await relay.ledger.pauses.pause("orders", "by hand")
    assert await relay.poll_rows(3) == []
    assert await relay.states() == {}
    assert (await relay.polling().poll(relay.feed)).stopped == "paused"
    await relay.ledger.pauses.resume("orders")
    assert (await relay.polling().poll(relay.feed)).read == 3


async def test_without_a_broker_rows_are_logged_and_the_sweep_queues_them(relay: Relay) -> None:
    relay.queue.takes = 1
    assert len(await relay.poll_rows(5)) == 1, "the broker went away after one message"
    await everything_is_owed_once(relay)
    relay.queue.takes = None
    assert await relay.sweep_later(timedelta(0)) == 0, "their messages may still come"
    assert await relay.sweep_later(MESSAGE_WAIT) == 3


async def test_messages_go_out_though_the_rows_cannot_be_counted(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise LedgerUnavailable("no ledger")

    monkeypatch.setattr(relay.ledger.stats, "add_logged", away)
    relay.source.add(3)
    with pytest.raises(LedgerUnavailable):
        await relay.polling().poll(relay.feed)
    assert {batch_id for _, batch_id in relay.queue.messages} == await relay.batches()


async def test_a_feed_whose_rows_the_ledger_refuses_is_said_to_fail(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise LedgerRefused("no form for it")

    monkeypatch.setattr(relay.ledger.deliveries, "log", refused)
    relay.source.add(3)
    for failures in (1, 2):
        with pytest.raises(LedgerRefused):
            await relay.polling().poll(relay.feed)
        cursor = await relay.ledger.cursors.get("orders")
        assert (cursor.failures, cursor.last_error) == (failures, "no form for it")
        relay.clock.advance(timedelta(minutes=5))


async def test_a_look_that_fails_does_not_keep_beats_poll_away(relay: Relay) -> None:
    class Deadlocked(MemorySource):
        async def read_page(
            self, feed: Feed, cursor: Cursor, now: datetime, room: Reservation | None = None
        ) -> Page:
            del feed, cursor, now, room
            raise SourceUnavailable("1205: chosen as the deadlock victim")

    relay.source, rows = Deadlocked(), relay.source
    look = FollowUp(timedelta(seconds=1), relay.clock() + timedelta(seconds=5))
    with pytest.raises(SourceUnavailable):
        await relay.polling().poll(relay.feed, look)
    relay.source = rows
    assert len(await relay.poll_rows(3)) == 2


async def test_an_unreadable_row_is_a_dead_letter_and_the_others_go_on(relay: Relay) -> None:
    relay.source.unreadable.add(2)
    await relay.poll_rows(3)
    assert await relay.states() == {"orders:1": "queued", "orders:2": "dead", "orders:3": "queued"}


async def test_a_row_that_commits_late_is_delivered_too(relay: Relay) -> None:
    late = relay.source.begin(1)
    await relay.poll_rows(2)
    assert "orders:1" not in await relay.states()
    relay.source.commit(late)
    await relay.polling().poll(relay.feed)
    await everything_is_owed_once(relay)


async def test_two_polls_at_once_log_each_row_once(relay: Relay) -> None:
    relay.source.add(12)
    polled = await asyncio.gather(*(relay.polling().poll(relay.feed) for _ in range(3)))
    await everything_is_owed_once(relay)
    assert sum(each.logged for each in polled) <= 12
    assert any(each.stopped == "another poll" for each in polled)
    await relay.deliver_all()
    assert set((await relay.states()).values()) == {"delivered"}, (
        "whichever poll logged a row, its message was sent"
    )


class MeetingSource(MemorySource):
    """Whenever a page was read, but for the first, another process polls the feed too."""

    def __init__(self) -> None:
        super().__init__()
        self.other: Polling | None = None
        self.met: list[Polled] = []

    async def read_page(
        self, feed: Feed, cursor: Cursor, now: datetime, room: Reservation | None = None
    ) -> Page:
        if cursor.version and (other := self.other) is not None:
            self.met.append(await other.poll(feed))
        return await super().read_page(feed, cursor, now, room)


async def test_while_a_process_reads_page_after_page_no_other_reads_the_same_pages(
    ledger: Ledger,
) -> None:
    relay = Relay(ledger, make_feed(page_size=4))
    relay.source = source = MeetingSource()
    source.add(20)
    source.other = relay.polling(process="other")
    polled = await relay.polling(process="one").poll(relay.feed)
    assert (polled.read, polled.stopped) == (20, "up to date")
    assert [(each.read, each.stopped) for each in source.met] == [(0, "another poll")] * 4
    source.add(1)
    assert (await source.other.poll(relay.feed)).read == 1, "the other was done"
    await everything_is_owed_once(relay)


async def test_a_process_that_died_with_pages_to_read_is_not_waited_for(ledger: Ledger) -> None:
    relay = Relay(ledger, make_feed(page_size=4, poll_budget=timedelta(seconds=6)))
    relay.source = SlowSource(relay.clock)
    relay.source.add(20)
    dead = relay.polling(process="dead")
    assert (await dead.poll(relay.feed)).read == 4
    other = relay.polling(process="other")
    assert (await other.poll(relay.feed)).stopped == "another poll"
    relay.clock.advance(READS_ON)
    assert (await other.poll(relay.feed)).read == 4
    assert (await other.poll(relay.feed)).read == 4, "its own reading keeps no process away"
    relay.clock.advance(-timedelta(hours=1))
    assert (await relay.polling(process="third").poll(relay.feed)).read == 4, (
        "what a clock that was an hour ahead wrote is not believed"
    )


async def test_a_process_does_not_poll_a_feed_twice_at_once(relay: Relay) -> None:
    relay.source.add(12)
    polling = relay.polling()
    polled = await asyncio.gather(polling.poll(relay.feed), polling.poll(relay.feed))
    assert sorted(each.read for each in polled) == [0, 12]
    assert (await polling.poll(relay.feed)).stopped == "up to date"


async def test_a_follow_up_poll_that_beats_poll_meets_keeps_the_chain_going(relay: Relay) -> None:
    polling = relay.polling()
    relay.source.add(3)
    chain = (await polling.poll(relay.feed)).again
    assert chain is not None
    relay.clock.advance(relay.feed.poll_every)
    relay.source.add(3)
    follow_up, beats = await asyncio.gather(
        polling.poll(relay.feed, FollowUp(chain.after, relay.clock() + timedelta(seconds=1))),
        polling.poll(relay.feed),
    )
    assert (follow_up.logged, beats.stopped, beats.again) == (3, "another poll", None)
    assert follow_up.again is not None
    assert follow_up.again.until == relay.clock() + relay.feed.poll_every


async def test_beats_poll_goes_on_following_up_a_feed_whose_rows_another_process_took(
    relay: Relay,
) -> None:
    await relay.poll_rows(3)
    other = relay.polling()
    assert (await other.poll(relay.feed)).again is not None, "rows are coming"
    relay.clock.advance(relay.feed.poll_every)
    assert (await other.poll(relay.feed)).again is None


@pytest.mark.parametrize("step", range(1, 18))
async def test_wherever_a_poll_dies_the_next_one_completes_it(relay: Relay, step: int) -> None:
    relay.source.add(8)
    relay.source.unreadable.add(3)
    steps = Steps(Fate(Kind.CRASH, step, after=True))
    try:
        await relay.polling(stepped_ledger(relay.ledger, steps)).poll(relay.feed)
    except Crashed:
        cursor = await relay.ledger.cursors.get("orders")
        read = (
            {f"orders:{i}" for i in range(1, (cursor.position or 0) + 1)}
            if isinstance(cursor.position, int)
            else set()
        )
        assert read <= (await relay.states()).keys()
    await relay.polling().poll(relay.feed)
    await relay.sweep_later(timedelta(minutes=5))
    await relay.deliver_all()
    states = await relay.states()
    assert states == {f"orders:{i}": "dead" if i == 3 else "delivered" for i in range(1, 9)}
    assert await relay.batches() == set()
    assert relay.partner.requests == 7
