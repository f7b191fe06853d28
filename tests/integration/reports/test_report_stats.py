"""The statistics hold what a report needs, bounded, and are read by the index of their ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

from app.core.attempts import Answer, Outcome, Result, Verdict
from app.core.deliveries import Delivery
from app.delivery.deliver import Delivering
from app.ledger import Ledger
from app.ledger.client import Collection, Document
from app.ledger.stats import OTHER, REASONS_A_MINUTE, Failed, Gauge, Taken
from app.ledger.together import Together, upsert_each
from tests.support.doubles import Mood
from tests.support.feeds import make_feed
from tests.support.ledger import FEED, NOW
from tests.support.relay import Relay, replaced

MINUTE = timedelta(minutes=1)


async def only(ledger: Ledger, feed: str = FEED) -> Document:
    (bucket,) = await ledger.stats.between(feed, NOW - timedelta(days=1), NOW + timedelta(days=1))
    return bucket


def result(key: int, reason: str, outcome: Outcome = Outcome.RETRY, attempts: int = 0) -> Result:
    delivery = Delivery(f"{FEED}:{key}", FEED, str(key), "{}", NOW, attempts)
    return Result(delivery, Answer(NOW, 5, 500), Verdict(outcome, reason))


async def test_first_attempts_are_told_from_retries(ledger: Ledger) -> None:
    delivered = Outcome.DELIVERED
    await ledger.stats.add_results(
        FEED,
        [
            result(1, "200", delivered),
            result(2, "500"),
            result(3, "200", delivered, 2),
            result(4, "500", attempts=1),
        ],
        NOW,
    )
    bucket = await only(ledger)
    assert (bucket["first"], bucket["retries"]) == ({"made": 2, "delivered": 1}, 2)


async def test_failures_are_counted_by_reason_with_a_delivery_to_look_at(ledger: Ledger) -> None:
    await ledger.stats.add_results(
        FEED, [result(1, "500 a.b$c"), result(2, "500 a.b$c", Outcome.DEAD)], NOW
    )
    await ledger.stats.add_results(
        FEED, [result(3, "500 a.b$c"), result(4, "429 Too Many Requests")], NOW
    )
    failed = {found.pop("text"): found for found in (await only(ledger))["failed"].values()}
    assert failed == {
        "500 a.b$c": {"n": 3, "dead": 1, "id": "orders:3", "dead_id": "orders:2"},
        "429 Too Many Requests": {"n": 1, "id": "orders:4"},
    }


async def test_a_minute_tells_no_more_reasons_apart_than_it_may(ledger: Ledger) -> None:
    kinds = [f"reason {'abcdefghij'[n // 10]}{'abcdefghij'[n % 10]}" for n in range(60)]
    await ledger.stats.add_results(FEED, [result(n, kinds[n]) for n in range(15)], NOW)
    other_worker = type(ledger.stats)(ledger._database)
    await other_worker.add_results(FEED, [result(15, kinds[15]), result(0, kinds[0])], NOW)
    await ledger.stats.add_results(FEED, [result(n, kinds[n]) for n in range(16, 60)], NOW)
    await other_worker.add_results(FEED, [result(n, kinds[n]) for n in range(60)], NOW)
    failed = (await only(ledger))["failed"]
    assert len(failed) <= REASONS_A_MINUTE + 5 + 1, (
        "the second worker had not seen what came since its last group"
    )
    assert failed[OTHER]["text"] == "other reasons"
    assert sum(found["n"] for found in failed.values()) == 15 + 2 + 44 + 60


async def test_one_worker_never_goes_beyond_the_bound(ledger: Ledger) -> None:
    for start in (0, 30, 60):
        group = [
            result(n, f"reason {chr(97 + n // 26)}{chr(97 + n % 26)}")
            for n in range(start, start + 30)
        ]
        await ledger.stats.add_results(FEED, group, NOW)
    failed = (await only(ledger))["failed"]
    assert len(failed) == REASONS_A_MINUTE + 1
    assert failed[OTHER]["n"] == 90 - REASONS_A_MINUTE
    await ledger.stats.add_results(FEED, [result(1, "new minute, new reason")], NOW + MINUTE)
    later = (await ledger.stats.between(FEED, NOW, NOW + 2 * MINUTE))[-1]
    assert [found["text"] for found in later["failed"].values()] == ["new minute, new reason"]


async def test_rows_that_die_when_they_are_logged_have_their_reason(ledger: Ledger) -> None:
    page = Taken(read=9, skipped=2, unreadable=[("orders:5", "column 'x': no JSON form: 'Zoë'")])
    await ledger.stats.add_logged(FEED, 4, NOW, page)
    bucket = await only(ledger)
    assert (bucket["read"], bucket["logged"], bucket["skipped"], bucket["unreadable"]) == (
        9,
        4,
        2,
        1,
    )
    assert list(bucket["failed"].values()) == [
        {"text": "column 'x': no JSON form: '…'", "dead": 1, "dead_id": "orders:5"}
    ]


async def test_a_sample_takes_the_place_of_an_earlier_one_of_its_minute(ledger: Ledger) -> None:
    await ledger.stats.add_logged(FEED, 1, NOW)
    await ledger.stats.sample(
        {FEED: Gauge(3, NOW, paused=False), "idle": Gauge(0, None, paused=True)}, NOW
    )
    later = NOW + timedelta(seconds=20)
    await ledger.stats.sample({FEED: Gauge(2, NOW, paused=False)}, later)
    await ledger.stats.sample({}, later)
    assert (await only(ledger))["logged"] == 1
    assert (await only(ledger))["gauge"] == {
        "at": later,
        "open": 2,
        "oldest_open_at": NOW,
        "paused": False,
    }
    assert (await only(ledger, "idle"))["gauge"]["paused"] is True


async def test_an_opening_is_spread_over_the_minutes_that_it_lasts(ledger: Ledger) -> None:
    await ledger.stats.add_opening(
        FEED, NOW + timedelta(seconds=20), timedelta(seconds=80)
    )  # NOW is at second 30
    found = await ledger.stats.between(FEED, NOW.replace(second=0), NOW + 5 * MINUTE)
    assert [bucket["breaker"] for bucket in found] == [
        {"opened": 1, "ms": 10_000},
        {"opened": 0, "ms": 60_000},
        {"opened": 0, "ms": 10_000},
    ]


async def test_a_feeds_buckets_are_found_by_their_ids(ledger: Ledger) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for feed in ("orders", "orders2", "order", "Orders-x"):
        for minute in (-1, 0, 7, 59, 60):
            await ledger.stats.add_logged(feed, 1, start + minute * MINUTE)
    found = await ledger.stats.between("orders", start, start + 60 * MINUTE)
    assert [(bucket["feed"], bucket["minute"]) for bucket in found] == [
        ("orders", start),
        ("orders", start + 7 * MINUTE),
        ("orders", start + 59 * MINUTE),
    ]
    assert sorted(await ledger.stats.feeds()) == ["Orders-x", "order", "orders", "orders2"]


async def test_without_buckets_there_are_no_feeds(ledger: Ledger) -> None:
    assert await ledger.stats.feeds() == []


async def test_what_is_open_is_counted_for_each_feed(ledger: Ledger) -> None:
    relay = Relay(ledger)
    await relay.poll_rows(6)
    logged_at = relay.clock()
    relay.partner.moods = [Mood.ACCEPTS, Mood.FAILS]
    await relay.deliver_all()
    relay.clock.advance(MINUTE)
    relay.source.add(2)
    await relay.polling().poll(relay.feed)
    assert await ledger.backlog.open_by_feed() == {"orders": (5, logged_at)}


async def test_the_sweep_samples_each_feed_once_a_minute(ledger: Ledger) -> None:
    relay = Relay(ledger)
    await relay.poll_rows(3)
    sweeping = relay.sweeping()
    await sweeping.sweep()
    first = relay.clock()
    await relay.deliver_all()
    relay.clock.advance(timedelta(seconds=10))
    await sweeping.sweep()
    found = await ledger.stats.between("orders", first - MINUTE, first + 10 * MINUTE)
    assert found[0]["gauge"] == {"at": first, "open": 3, "oldest_open_at": first, "paused": False}
    relay.clock.advance(MINUTE)
    await ledger.pauses.pause("orders", "by an operator")
    await sweeping.sweep()
    found = await ledger.stats.between("orders", first - MINUTE, first + 10 * MINUTE)
    assert found[-1]["gauge"] == {
        "at": relay.clock(),
        "open": 0,
        "oldest_open_at": None,
        "paused": True,
    }


async def test_where_looking_is_slow_it_is_done_less_often(ledger: Ledger) -> None:
    relay = Relay(ledger)
    looked: list[datetime] = []

    async def slow() -> dict[str, tuple[int, datetime]]:
        looked.append(relay.clock())
        relay.clock.advance(timedelta(seconds=9))
        return {}

    sweeping = relay.sweeping(replaced(ledger, "backlog", open_by_feed=slow))
    start = relay.clock()
    while relay.clock() < start + timedelta(minutes=10):
        await sweeping.sweep()
        relay.clock.advance(timedelta(seconds=10))
    assert 3 <= len(looked) <= 4, "9 s of work, then 3 minutes of rest"


async def test_a_poll_counts_what_it_read_and_what_could_not_be_sent(ledger: Ledger) -> None:
    relay = Relay(ledger)
    relay.source.unreadable = {2}
    await relay.poll_rows(4)
    (bucket,) = await ledger.stats.between("orders", relay.clock() - MINUTE, relay.clock() + MINUTE)
    assert (bucket["read"], bucket["logged"], bucket["unreadable"]) == (4, 4, 1)
    assert [found["dead_id"] for found in bucket["failed"].values()] == ["orders:2"]


async def test_an_open_breaker_is_counted(ledger: Ledger) -> None:
    breaker = {"min_requests": 4, "open_for": "30s"}
    feed = make_feed(
        batch_size=10, partner={"url": "http://partner.invalid/rows", "breaker": breaker}
    )
    relay = Relay(ledger, feed)
    await relay.poll_rows(10)
    relay.partner.moods = [Mood.FAILS]
    worker: Delivering = relay.delivering()
    while relay.queue.messages:
        await worker.deliver(relay.feed, relay.queue.messages.pop(0)[1])
    found = await ledger.stats.between("orders", relay.clock() - MINUTE, relay.clock() + 5 * MINUTE)
    assert sum(bucket.get("breaker", {}).get("opened", 0) for bucket in found) == 1
    assert sum(bucket.get("breaker", {}).get("ms", 0) for bucket in found) == 30_000


async def test_a_group_is_one_update_however_many_failed(ledger: Ledger) -> None:
    calls: list[str] = []
    collection = ledger.stats._collection

    class Counting:
        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return getattr(collection, name)

    counting = cast("Collection", Counting())
    ledger.stats._collection = counting
    ledger.stats._added = Together(partial(upsert_each, counting))
    await ledger.stats.add_results(FEED, [result(n, f"reason {n}") for n in range(40)], NOW)
    assert len(calls) == 1
    await ledger.stats.add_results(FEED, [result(1, "200", Outcome.DELIVERED)], NOW)
    assert len(calls) == 2


def test_a_failure_is_an_attempt_unless_it_says_otherwise() -> None:
    assert Failed("orders:1", "500", dead=False).attempted
