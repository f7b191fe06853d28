"""What was written under a clock that was wrong ends within minutes of its being right again, by
itself.
"""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from app.core.attempts import HOLD_LIMIT
from app.core.clock import AGREED, ServerClock, server_clock, utc_now
from app.core.cursors import POLL_WAIT_LIMIT, Cursor
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat, Role
from app.ledger.leases import LONGEST
from app.monitoring.health import Bounds, judge_feed, judge_process
from app.runtime.timekeeping import Timekeeper
from tests.support.doubles import Mood
from tests.support.feeds import make_feed
from tests.support.ledger import FEED, LEASE, NOW, claim, log_batch
from tests.support.relay import Relay
from tests.support.wait import until

DAYS = timedelta(days=40)
MINUTE = timedelta(minutes=1)
ALL = {"delivered"}
BOUNDS = Bounds(timedelta(seconds=45), timedelta(seconds=1), timedelta(seconds=30))


@pytest.fixture
def relay(ledger: Ledger) -> Relay:
    return Relay(ledger)


@pytest.mark.parametrize("ahead", [timedelta(minutes=15), timedelta(hours=2), DAYS])
async def test_rows_held_by_a_worker_that_died_with_its_clock_ahead_are_delivered(
    relay: Relay, ahead: timedelta
) -> None:
    """By its lease they would wait until then."""
    (batch_id,) = await relay.poll_rows(2)
    relay.queue.messages.clear()
    assert await relay.ledger.batches.claim(batch_id, FEED, "dead", relay.clock() + ahead, LEASE)
    await relay.sweeping().sweep()
    await relay.sweeping().sweep()
    await relay.deliver_all()
    assert set((await relay.states()).values()) == ALL
    assert await relay.batches() == set()


async def test_a_lease_that_may_run_is_left_alone(relay: Relay) -> None:
    (batch_id,) = await relay.poll_rows(1)
    relay.queue.messages.clear()
    for ahead in (timedelta(0), timedelta(minutes=8)):
        relay.clock.advance(2 * LEASE)
        assert await relay.ledger.batches.claim(batch_id, FEED, "w9", relay.clock() + ahead, LEASE)
        assert await relay.ledger.batches.claim(batch_id, FEED, "w2", relay.clock(), LEASE) is None
        assert (await relay.sweeping().sweep()).messages == 0


async def test_batches_that_were_put_into_the_future_come_back(relay: Relay) -> None:
    """Logged, swept, parked and given back under a clock that was ahead."""
    logged, swept, parked, released = [(await relay.poll_rows(1))[0] for _ in range(4)]
    batches, now, ahead = relay.ledger.batches, relay.clock(), relay.clock() + DAYS
    relay.queue.messages.clear()
    for batch_id, due in ((logged, ahead + LEASE), (swept, ahead)):
        put_off = {"$set": {"visible_at": due}}
        await relay.ledger._database["batches"].update_one({"_id": batch_id}, put_off)
    await batches.park(parked, FEED, ahead + timedelta(hours=1), ahead)
    held = await batches.claim(released, FEED, "w", now, LEASE)
    assert held
    await batches.release(held, ahead + timedelta(hours=1), ahead)
    assert await batches.hasten(now) == 4
    assert (await relay.sweeping().sweep()).messages == 4
    await relay.deliver_all()
    assert set((await relay.states()).values()) == ALL


async def test_a_batch_that_waits_for_its_endpoint_is_left_alone(relay: Relay) -> None:
    parked, released = [(await relay.poll_rows(1))[0] for _ in range(2)]
    batches, now = relay.ledger.batches, relay.clock()
    await batches.park(parked, FEED, now + HOLD_LIMIT, now)
    held = await batches.claim(released, FEED, "w", now, LEASE)
    assert held
    await batches.release(held, now + HOLD_LIMIT, now)
    assert await batches.hasten(now) == 0
    assert await batches.hasten(now + timedelta(hours=1)) == 0


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=2)])
async def test_retries_that_failed_in_the_future_are_due(relay: Relay, ahead: timedelta) -> None:
    relay.partner.moods = [Mood.FAILS]
    right = relay.clock()
    await relay.poll_rows(3)
    relay.clock.advance(ahead)
    await relay.deliver_all()
    relay.clock.time = right
    relay.partner.moods = [Mood.ACCEPTS]
    sweeping = relay.sweeping()
    await sweeping.sweep()
    relay.clock.advance(MINUTE)
    await sweeping.sweep()
    await relay.deliver_all()
    assert set((await relay.states()).values()) == ALL


async def test_a_retry_that_waits_as_it_should_is_left_alone(relay: Relay) -> None:
    relay.partner.moods = [Mood.FAILS]
    await relay.poll_rows(3)
    await relay.deliver_all()
    requeueing = relay.ledger.requeueing
    assert (
        await requeueing.hasten(relay.clock(), HOLD_LIMIT)
        == await requeueing.hasten_failed_later(relay.clock())
        == 0
    )


async def test_a_feed_whose_source_failed_in_the_future_is_polled(relay: Relay) -> None:
    now = relay.clock()
    await relay.ledger.cursors.note_failure(FEED, now + DAYS, "away", now + DAYS + POLL_WAIT_LIMIT)
    assert len(await relay.poll_rows(1)) == 1


async def test_a_purge_that_was_taken_in_the_future_is_free(ledger: Ledger) -> None:
    assert await ledger.purges.claim(FEED, "w1", NOW + DAYS, LEASE)
    assert await ledger.purges.claim(FEED, "w2", NOW, LEASE)
    assert await ledger.purges.claim(FEED, "w3", NOW, LEASE) is None


async def test_a_lease_ends_where_it_ended_though_it_is_long(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    await claim(ledger, batch)
    assert await ledger.batches.claim(
        batch.id, FEED, "w2", NOW + LEASE - LONGEST - timedelta(seconds=1), LEASE
    )


def test_health_does_not_take_a_sign_from_the_future_for_one_of_life() -> None:
    mark = Heartbeat(
        Role.WORKER, "celery@a", "a", 1, NOW, NOW + DAYS, broker_seconds=99.0, consumer_seconds=0.0
    )
    assert judge_process(mark, BOUNDS, NOW).problems
    feed, cursor = make_feed(), Cursor(FEED, last_poll_at=NOW + DAYS)
    assert judge_feed(feed, cursor, BOUNDS, NOW).problems
    assert not judge_feed(feed, Cursor(FEED, last_poll_at=NOW + AGREED / 2), BOUNDS, NOW).problems


@pytest.mark.parametrize(
    ("seconds", "ready"), [(None, True), (0.4, True), (-0.9, True), (1.5, False), (-3600.0, False)]
)
def test_health_says_that_a_machines_clock_is_wrong_and_has_no_process_restarted_for_it(
    seconds: float | None, ready: bool
) -> None:
    mark = Heartbeat(
        Role.BEAT,
        "beat@a",
        "a",
        1,
        NOW,
        NOW,
        broker_seconds=99.0,
        sent_seconds=0.0,
        clock_seconds=seconds,
    )
    health = judge_process(mark, BOUNDS, NOW)
    assert (health.live, health.ready) == (True, ready)
    assert ready or "run NTP" in health.waits_for[0]


# --- the clock that all go by


@pytest.fixture
def hours_behind(monkeypatch: pytest.MonkeyPatch) -> ServerClock:
    """This process is on a machine whose clock is two hours behind, and has not asked the ledger
    yet.
    """
    monkeypatch.setattr(server_clock, "_wall", lambda: time.time() - 7200)
    monkeypatch.setattr(server_clock, "_reading", None)
    return server_clock


async def test_a_process_goes_by_the_servers_clock_from_its_first_question_on(
    ledger: Ledger, hours_behind: ServerClock
) -> None:
    before = utc_now()
    keeper = Timekeeper(ledger, pause_seconds=0.01)
    await keeper.start()
    try:
        assert timedelta(hours=1.9) < utc_now() - before < timedelta(hours=2.1)
        hours_behind._reading = None
        await until(lambda: hours_behind.machine_ahead is not None)
        assert hours_behind.machine_ahead == pytest.approx(-7200, abs=5)
    finally:
        await keeper.close()
