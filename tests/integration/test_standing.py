"""How many deliveries are in each state: exact in a small ledger; in a large one remembered, and called about right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.ledger import Ledger, tally
from app.ledger.client import Document
from app.ledger.counted import FOLD_EVERY, LEFT_OPEN
from app.models import State

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ledger counts as a large one."""
    monkeypatch.setattr(tally, "EXACT_UP_TO", -1)


async def settle(
    ledger: Ledger, at: datetime, *keys: str, state: State = State.DELIVERED, feed: str = "orders"
) -> None:
    """Deliveries that were settled then."""
    documents: list[Document] = [
        {"_id": f"{feed}:{key}", "feed": feed, "key": key, "state": state.value, "created_at": at, "finished_at": at}
        for key in keys
    ]
    await ledger._database["deliveries"].insert_many(documents)


async def stands(ledger: Ledger, now: datetime = NOW, feed: str = "orders") -> dict[str, int]:
    states = (await ledger.tally.standing(now))[feed].states
    return {state.value: count for state, count in states.items() if count}


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
    assert not (await ledger.tally.standing(NOW))["orders"].about
    assert await ledger._database["counted"].count_documents({}) == 0


@pytest.mark.usefixtures("large")
async def test_a_large_ledger_says_which_numbers_are_about_right(ledger: Ledger) -> None:
    await seed(ledger)
    assert await stands(ledger) == {"delivered": 21, "skipped": 2, "dead": 1, "cancelled": 1}
    standing = await ledger.tally.standing(NOW)
    assert standing["orders"].about == {State.DELIVERED, State.SKIPPED, State.CANCELLED}
    assert standing["left"].about == {State.DELIVERED}


@pytest.mark.usefixtures("large")
async def test_what_is_settled_later_is_counted_once_whenever_it_is_looked_at(ledger: Ledger) -> None:
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
    await ledger.tally.standing(NOW)
    await settle(ledger, NOW - 5 * DAY, "restored")
    assert (await stands(ledger))["delivered"] == 21, "it was remembered"
    recounted = await ledger.tally.standing(NOW, recount=True)
    assert recounted["orders"].states[State.DELIVERED] == 22
    assert not recounted["orders"].about
    assert (await stands(ledger))["delivered"] == 22, "and the recount is remembered"


@pytest.mark.usefixtures("large")
async def test_days_that_purge_has_deleted_are_no_longer_in_the_count(ledger: Ledger) -> None:
    await seed(ledger)
    await ledger.tally.standing(NOW)
    midnight = (NOW - 4 * DAY).replace(hour=0)
    await ledger._database["deliveries"].delete_many({"finished_at": {"$lt": midnight}})
    claim = await ledger.purges.claim("orders", "purge", NOW, HOUR)
    assert claim
    await ledger.purges.note_purged(claim, midnight)
    assert (await stands(ledger))["delivered"] == 9
    later = NOW + 2 * HOUR
    assert (await stands(ledger, later))["delivered"] == 9
    assert await ledger._database["counted"].count_documents({"days.2026-03-01": {"$exists": True}}) == 0


async def test_two_who_count_at_once_count_nothing_twice(ledger: Ledger) -> None:
    await seed(ledger)
    kept, purged = await ledger.counts._get("orders")
    assert await ledger.counts.fold("orders", NOW)
    slower = {"2026-02-28": {"delivered": 1000}}
    await ledger.counts._keep("orders", kept, slower, NOW)
    assert purged is None
    assert (await ledger.counts.about("orders", NOW))[State.DELIVERED] == 21


async def test_an_empty_ledger_stands_at_nothing(ledger: Ledger) -> None:
    assert await ledger.tally.standing(NOW) == {}
    assert not await ledger.counts.fold("orders", NOW)
