"""Counters never go back: not when the exporter starts anew, nor when retention purges the minutes
they came from.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from app.core.attempts import Answer, Outcome, Result, Verdict
from app.ledger import Ledger
from app.ledger.counters import FOLD_AFTER, FOLD_EVERY, Sums
from tests.support.ledger import FEED, accepted, failed
from tests.support.partners import delivery

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def count(ledger: Ledger, at: datetime, delivered: int = 0, dead: int = 0) -> None:
    """What a worker counts of a group of results."""
    sent = delivery()
    results = [accepted(sent)] * delivered + [failed(sent, None)] * dead
    await ledger.stats.add_results(FEED, results, at)


async def outcomes(ledger: Ledger, now: datetime = NOW) -> dict[str, int]:
    return (await ledger.counters.of(FEED, now)).under("outcomes")


async def minutes(ledger: Ledger) -> int:
    return int(await ledger._database["stats"].count_documents({}))


async def purge_before(ledger: Ledger, moment: datetime) -> None:
    """What retention does."""
    await ledger._database["stats"].delete_many({"minute": {"$lt": moment}})


async def test_a_feed_without_a_count_has_none(ledger: Ledger) -> None:
    assert await ledger.counters.of(FEED, NOW) == Sums()


async def test_what_is_counted_is_there_at_once_and_once(ledger: Ledger) -> None:
    await count(ledger, NOW, delivered=3)
    assert await outcomes(ledger) == {"delivered": 3}
    await count(ledger, NOW, delivered=2, dead=1)
    assert await outcomes(ledger) == {"delivered": 5, "dead": 1}
    sums = await ledger.counters.of(FEED, NOW)
    assert sums.under("answers") == {"delivered_200": 5, "dead_500": 1}
    assert sum(sums.under("attempt_ms").values()) == 6
    assert sums.counts["attempt_ms_sum"] == 5 * 12 + 30


async def test_counters_stand_when_the_minutes_they_came_from_are_purged(ledger: Ledger) -> None:
    for days in (400, 40, 2, 0):
        await count(ledger, NOW - timedelta(days=days), delivered=10)
    assert await outcomes(ledger) == {"delivered": 40}
    await purge_before(ledger, NOW - timedelta(hours=1))
    assert await minutes(ledger) == 1
    assert await outcomes(ledger) == {"delivered": 40}
    later = NOW + timedelta(days=90)
    await count(ledger, later, delivered=1)
    assert await outcomes(ledger, later) == {"delivered": 41}
    await purge_before(ledger, later - timedelta(hours=1))
    assert await outcomes(ledger, later) == {"delivered": 41}


async def test_minutes_that_may_still_change_are_not_added_up_for_good(ledger: Ledger) -> None:
    open_minute = NOW - FOLD_AFTER + timedelta(minutes=1)
    await count(ledger, NOW - timedelta(hours=2), delivered=1)
    await count(ledger, open_minute, delivered=1)
    assert await outcomes(ledger) == {"delivered": 2}
    await count(ledger, open_minute, delivered=5)
    assert await outcomes(ledger) == {"delivered": 7}
    assert await outcomes(ledger, NOW + FOLD_EVERY + timedelta(minutes=5)) == {"delivered": 7}


async def test_exporters_that_read_at_the_same_time_add_nothing_up_twice(ledger: Ledger) -> None:
    for hour in range(5, 0, -1):
        await count(ledger, NOW - timedelta(hours=hour), delivered=hour)
        at = NOW - timedelta(hours=hour) + timedelta(minutes=40)
        found = await asyncio.gather(*(outcomes(ledger, at) for _ in range(4)))
        assert found == [{"delivered": sum(range(hour, 6))}] * 4
    found = await asyncio.gather(*(outcomes(ledger) for _ in range(8)))
    assert found == [{"delivered": 15}] * 8


async def test_feeds_whose_names_begin_alike_are_told_apart(ledger: Ledger) -> None:
    result = Result(delivery(), Answer(NOW, 1, 200), Verdict(Outcome.DELIVERED, "200"))
    for feed in ("orders", "orders2", "orders-eu", "ORDERS"):
        await ledger.stats.add_results(feed, [result], NOW - timedelta(days=3))
    for feed in ("orders", "orders2", "orders-eu", "ORDERS"):
        assert (await ledger.counters.of(feed, NOW)).under("outcomes") == {"delivered": 1}
