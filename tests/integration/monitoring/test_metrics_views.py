"""What metrics read beside the counts: queue depths, the endpoints' throttles, and states by their
indexes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import redis as sync_redis

from app.broker.depths import Broker
from app.core.errors import BrokerUnavailable
from app.core.states import State
from app.ledger import Ledger
from app.partner.throttle.results import Results
from app.partner.throttle.store import Said, ThrottleStore
from app.partner.throttle.view import BreakerState, EndpointView, view_endpoints
from tests.support.ledger import LATER, NOW, claim, failed, loaded, log_batch, source_rows, succeed
from tests.support.wait import until

TIMEOUT = timedelta(seconds=5)


@pytest.fixture
async def broker(clean_redis_url: str) -> AsyncIterator[Broker]:
    opened = Broker(clean_redis_url, TIMEOUT)
    yield opened
    await opened.close()


@pytest.fixture
async def store(clean_redis_url: str) -> AsyncIterator[ThrottleStore]:
    opened = ThrottleStore(clean_redis_url, "host:1")
    yield opened
    await opened.close()


async def view(broker: Broker, feed: str = "orders") -> EndpointView:
    return (await broker.ask(lambda redis: view_endpoints(redis, [feed, "other"])))[feed]


async def sync(store: ThrottleStore, hold: float = 0.0) -> None:
    said = Said(
        "orders",
        lease=5.0,
        hold=hold,
        results=Results(),
        in_a_row=0,
        bucket=1.0,
        buckets=10,
        unwanted=10.0,
    )
    await store.sync(said)


async def test_depths_are_those_of_the_queues_and_0_where_nothing_waits(
    broker: Broker, clean_redis_url: str
) -> None:
    with sync_redis.Redis.from_url(clean_redis_url) as client:
        client.lpush("deliver", "a", "b", "c")
    assert await broker.depths(["poll", "deliver"]) == {"poll": 0, "deliver": 3}
    assert await broker.depths([]) == {}


async def test_a_redis_that_is_away_is_said_to_be(free_port_url: str) -> None:
    broker = Broker(free_port_url, timedelta(seconds=1))
    with pytest.raises(BrokerUnavailable):
        await broker.depths(["poll"])
    await broker.close()


@pytest.fixture
def free_port_url() -> str:
    return "redis://127.0.0.1:1/0"


async def test_an_endpoint_that_nobody_has_met_is_closed_and_free(broker: Broker) -> None:
    assert await view(broker) == EndpointView(BreakerState.CLOSED, 0, 0.0, 0.0, 0)


async def test_a_hold_and_who_shares_the_endpoint_are_seen(
    broker: Broker, store: ThrottleStore
) -> None:
    await sync(store, hold=30.0)
    seen = await view(broker)
    assert 25 < seen.hold_seconds <= 30
    assert (seen.live, seen.breaker, seen.open_seconds) == (1, BreakerState.CLOSED, 0.0)
    await store.leave(["orders"])
    assert (await view(broker)).live == 0


async def test_the_breaker_is_open_then_half_open_then_closed(
    broker: Broker, store: ThrottleStore
) -> None:
    generation = await store.trip("orders", 0, open_for=5, reopened=0)
    assert generation == 1
    seen = await view(broker)
    assert (seen.breaker, seen.opened) == (BreakerState.OPEN, 1)
    assert 0 < seen.open_seconds <= 5

    async def half_open() -> bool:
        return (await view(broker)).breaker is BreakerState.HALF_OPEN

    await until(half_open, timeout=30, message="the breaker to let probes through")
    assert (await view(broker)).open_seconds == 0
    assert await store.settle("orders", generation, succeeded=3, needed=3) == 1
    assert (await view(broker)).breaker is BreakerState.CLOSED


async def test_open_and_dead_deliveries_counted_by_index_are_those_that_status_counts(
    ledger: Ledger,
) -> None:
    first, second = await log_batch(ledger, 1, 2, 3, 4), await log_batch(ledger, 5, 6, feed="other")
    await ledger.deliveries.log_skipped(
        "orders", [(row, "filtered") for row in source_rows(7)], NOW
    )
    await succeed(ledger, 1)
    held = await claim(ledger, first)
    deliveries = await loaded(ledger, held)
    await ledger.deliveries.fail(
        held, [failed(deliveries["2"]), failed(deliveries["3"], None)], NOW
    )
    standing, indexed = await ledger.state_counts.by_feed(NOW), await ledger.state_counts.indexed()
    assert indexed == {
        "orders": {State.QUEUED: 1, State.RETRYING: 1, State.DEAD: 1},
        "other": {State.QUEUED: 2},
    }
    for feed, states in indexed.items():
        assert states == {state: n for state, n in standing[feed].states.items() if state in states}
    assert await ledger.state_counts.deliveries() == 7
    assert await ledger.batches.overdue(LATER + timedelta(hours=1)) == 2
    await ledger.batches.settle(held)
    assert await ledger.batches.overdue(LATER) == 1
    assert second.feed == "other"
