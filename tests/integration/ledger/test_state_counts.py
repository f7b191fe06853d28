"""How many deliveries are in each state: exact in a small ledger; in a large one remembered, and
called about right.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.states import State
from app.feeds.feed import Rate
from app.ledger import Ledger, state_counts
from app.ledger.client import Document
from app.ledger.counted import FOLD_EVERY, LEFT_OPEN
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.operations.replay import Replaying
from app.retention.archive.restore import Restoring
from app.retention.purge_lock import PurgeLock
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.feeds import make_feed
from tests.support.retention import Shelf, kept_feed

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ledger counts as a large one."""
    monkeypatch.setattr(state_counts, "EXACT_UP_TO", -1)


async def settle(
    ledger: Ledger, at: datetime, *keys: str, state: State = State.DELIVERED, feed: str = "orders"
) -> None:
    """Deliveries that were settled then."""
    documents: list[Document] = [
        {
            "_id": f"{feed}:{key}",
            "feed": feed,
            "key": key,
            "state": state.value,
            "created_at": at,
            "finished_at": at,
        }
        for key in keys
    ]
    await ledger._database["deliveries"].insert_many(documents)


async def stands(ledger: Ledger, now: datetime = NOW, feed: str = "orders") -> dict[str, int]:
    states = (await ledger.state_counts.by_feed(now))[feed].states
    return {state.value: count for state, count in states.items() if count}


def clock_at(moment: datetime) -> VirtualClock:
    clock = VirtualClock()
    clock.time = moment
    return clock


async def seed(ledger: Ledger) -> None:
    """Settled over ten days, and of two feeds."""
    for days in range(1, 11):
        await settle(ledger, NOW - days * DAY, f"a{days}", f"b{days}")
    await settle(ledger, NOW - 3 * DAY, "s1", "s2", state=State.SKIPPED)
    await settle(ledger, NOW - 2 * DAY, "d1", state=State.DEAD)
    await settle(ledger, NOW - 2 * HOUR, "c1", state=State.CANCELLED)
    await settle(ledger, NOW, "now")
    await settle(ledger, NOW - DAY, "other", feed="left")


async def test_a_small_ledger_is_counted_and_nothing_is_remembered(ledger: Ledger) -> None:
    await seed(ledger)
    assert await stands(ledger) == {"delivered": 21, "skipped": 2, "dead": 1, "cancelled": 1}
    assert await stands(ledger, feed="left") == {"delivered": 1}
    assert not (await ledger.state_counts.by_feed(NOW))["orders"].about
    assert await ledger._database["counted"].count_documents({}) == 0


@pytest.mark.usefixtures("large")
async def test_a_large_ledger_says_which_numbers_are_about_right(ledger: Ledger) -> None:
    await seed(ledger)
    assert await stands(ledger) == {"delivered": 21, "skipped": 2, "dead": 1, "cancelled": 1}
    standing = await ledger.state_counts.by_feed(NOW)
    assert standing["orders"].about == {State.DELIVERED, State.SKIPPED, State.CANCELLED}
    assert standing["left"].about == {State.DELIVERED}


@pytest.mark.usefixtures("large")
async def test_what_is_settled_later_is_counted_once_whenever_it_is_looked_at(
    ledger: Ledger,
) -> None:
    await seed(ledger)
    expected, now = 21, NOW
    for hour in range(30):
        await settle(ledger, now, f"later{hour}")
        expected += 1
        assert (await stands(ledger, now))["delivered"] == expected
        now += HOUR / 2 if hour % 2 else FOLD_EVERY + LEFT_OPEN


@pytest.mark.usefixtures("large")
async def test_a_day_that_is_over_is_not_counted_again(ledger: Ledger) -> None:
    await seed(ledger)
    await ledger.state_counts.by_feed(NOW)
    await settle(ledger, NOW - 5 * DAY, "dated back")
    assert (await stands(ledger))["delivered"] == 21, "it was remembered"
    recounted = await ledger.state_counts.by_feed(NOW, recount=True)
    assert recounted["orders"].states[State.DELIVERED] == 22
    assert not recounted["orders"].about
    assert (await stands(ledger))["delivered"] == 22, "and the recount is remembered"


async def exact(ledger: Ledger, feed: str = "orders") -> dict[str, int]:
    """As `stands`, counted from the deliveries."""
    found = ledger._database["deliveries"].aggregate(
        [{"$match": {"feed": feed}}, {"$group": {"_id": "$state", "n": {"$sum": 1}}}]
    )
    return {document["_id"]: document["n"] for document in await (await found).to_list()}


RATE = Rate(count=100_000, per_seconds=1)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("state", [State.DELIVERED, State.CANCELLED])
async def test_what_is_replayed_leaves_the_days_that_it_was_counted_on(
    ledger: Ledger, state: State
) -> None:
    for days in range(1, 6):
        await settle(ledger, NOW - days * DAY, *(f"{days}{part}" for part in "abc"), state=state)
    await ledger._database["deliveries"].update_many({}, {"$set": {"payload": "{}", "batch": None}})
    assert (await stands(ledger))[state] == 15
    replaying = Replaying(
        ledger, MemoryQueue(), {"orders": make_feed()}, message_wait=HOUR, now=lambda: NOW
    )
    selection = Selection((state,), feeds=("orders",), since=NOW - 3 * DAY)
    assert (await replaying.replay(selection, RATE, By("ada@desk"))).moved == 9
    for later in (timedelta(0), LEFT_OPEN, 2 * HOUR):
        assert await stands(ledger, NOW + later) == await exact(ledger) == {state: 6, "queued": 9}


@pytest.mark.usefixtures("large")
async def test_a_day_is_counted_again_until_all_that_was_about_to_move_has(ledger: Ledger) -> None:
    """Whoever looks between the mark and the move does not end the looking; nor does a replay that
    dies there.
    """
    await seed(ledger)
    await ledger.state_counts.by_feed(NOW)
    await ledger.counts.mark("orders", [NOW - 5 * DAY], NOW)
    assert (await stands(ledger))["delivered"] == 21
    await ledger._database["deliveries"].update_one(
        {"_id": "orders:a5"}, {"$set": {"state": "queued"}}
    )
    assert (await stands(ledger))["delivered"] == 20
    assert (await stands(ledger, NOW + LEFT_OPEN))["delivered"] == 20
    document = await ledger._database["counted"].find_one({"_id": "orders"})
    assert document
    assert document["stale"] == {}


@pytest.mark.usefixtures("large")
async def test_what_is_marked_before_anything_was_counted_is_counted(ledger: Ledger) -> None:
    await seed(ledger)
    await ledger.counts.mark("orders", [NOW - 5 * DAY], NOW)
    assert await stands(ledger) == await exact(ledger)
    assert await stands(ledger, NOW + HOUR) == await exact(ledger)


@pytest.mark.usefixtures("large")
async def test_a_cancel_that_takes_longer_than_a_stretch_is_left_open_is_counted(
    ledger: Ledger,
) -> None:
    await settle(ledger, NOW - 2 * DAY, "old")
    open_ones: list[Document] = [
        {
            "_id": f"orders:{key}",
            "feed": "orders",
            "state": "retrying",
            "next_attempt_at": NOW,
            "created_at": NOW - DAY,
        }
        for key in range(5)
    ]
    await ledger._database["deliveries"].insert_many(open_ones)
    clock = clock_at(NOW - 2 * HOUR)
    cancelling = Cancelling(ledger, clock)
    cancel = ledger.selections.cancel

    async def slow(*arguments: Any) -> int:
        clock.advance(2 * HOUR)
        assert await stands(ledger) == {"delivered": 1, "retrying": 5}
        return await cancel(*arguments)

    ledger.selections.cancel = slow  # type: ignore[assignment, method-assign] # the time that it takes
    assert (await cancelling.cancel(Selection((State.RETRYING,)), By("ada@desk"))).moved == 5
    assert await stands(ledger) == {"delivered": 1, "cancelled": 5}


@pytest.mark.usefixtures("large")
async def test_what_is_put_back_from_an_archive_is_counted_until_it_leaves_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    shelf = Shelf(ledger, clock_at(NOW), tmp_path, {"orders": kept_feed()})
    for days in (40, 35, 10):
        for key in range(3):
            await shelf.add(
                f"{days}-{key}", shelf.ago(days=days), State.DELIVERED if key else State.SKIPPED
            )
    assert await stands(ledger) == {"delivered": 6, "skipped": 3}
    await shelf.purging().purge(shelf.feeds["orders"])
    assert await stands(ledger) == await exact(ledger) == {"delivered": 2, "skipped": 1}
    restoring = Restoring(ledger, PurgeLock(ledger, "operator", HOUR, now=shelf.clock), shelf.clock)
    for path in shelf.files():
        await restoring.restore(path)
    for later in (timedelta(0), 2 * HOUR):
        assert (
            await stands(ledger, NOW + later)
            == await exact(ledger)
            == {"delivered": 6, "skipped": 3}
        )
    shelf.clock.advance(45 * DAY)
    await shelf.purging().purge(shelf.feeds["orders"])
    assert await exact(ledger) == {}
    assert await ledger.counts.about("orders", shelf.clock()) == {}


@pytest.mark.usefixtures("large")
async def test_days_that_purge_has_deleted_are_no_longer_in_the_count(ledger: Ledger) -> None:
    await seed(ledger)
    await ledger.state_counts.by_feed(NOW)
    midnight = (NOW - 4 * DAY).replace(hour=0)
    await ledger._database["deliveries"].delete_many({"finished_at": {"$lt": midnight}})
    claim = await ledger.purges.claim("orders", "purge", NOW, HOUR)
    assert claim
    await ledger.purges.note_purged(claim, midnight)
    assert (await stands(ledger))["delivered"] == 9
    later = NOW + 2 * HOUR
    assert (await stands(ledger, later))["delivered"] == 9
    assert (
        await ledger._database["counted"].count_documents({"days.2026-03-01": {"$exists": True}})
        == 0
    )


async def test_two_who_count_at_once_count_nothing_twice(ledger: Ledger) -> None:
    await seed(ledger)
    kept, purged = await ledger.counts._get("orders")
    assert await ledger.counts.fold("orders", NOW)
    slower = {"2026-02-28": {"delivered": 1000}}
    await ledger.counts._keep(
        "orders", kept, slower, NOW
    )  # as one that began before the other ended
    assert purged is None
    assert (await ledger.counts.about("orders", NOW))[State.DELIVERED] == 21


async def test_an_empty_ledger_stands_at_nothing(ledger: Ledger) -> None:
    assert await ledger.state_counts.by_feed(NOW) == {}
    assert not await ledger.counts.fold("orders", NOW)
