"""An endpoint's clock after Redis' clock, or the ledger server's, was wrong: it holds nobody for longer than it may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from app.core.clock import server_clock, utc_now
from app.core.url import parse_url
from app.feeds.feed import Breaker, Partner, Rate
from app.partner.throttle.store import ThrottleStore
from app.partner.throttle.throttle import Throttles
from tests.support.feeds import make_feed
from tests.support.wait import until

KEY = "rowrelay:{orders}:clock"
FEED = make_feed(
    partner=Partner(
        url=parse_url("http://partner.invalid/"),
        rate_limit=Rate(count=1000, per_seconds=1),
        breaker=Breaker(open_for=timedelta(seconds=1), open_for_cap=timedelta(seconds=1)),
    )
)


@pytest.fixture
def client(clean_redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(clean_redis_url) as client:
        yield client


@pytest.fixture
async def clocks(clean_redis_url: str) -> AsyncIterator[Throttles]:
    clocks = Throttles(ThrottleStore(clean_redis_url, "p1", timeout=10.0))
    clocks.start()
    yield clocks
    await clocks.close()


def an_hour_ahead(client: Any) -> int:
    """By Redis' clock, in microseconds."""
    seconds, micros = client.time()
    return (int(seconds) + 3600) * 1_000_000 + int(micros)


async def test_slots_that_were_reserved_an_hour_ahead_are_free(clocks: Throttles, client: Any) -> None:
    client.hset(KEY, mapping={"due": an_hour_ahead(client)})
    clock = await clocks.of(FEED)
    assert clock.parked_until() is None
    assert await clock.admit() is None


async def test_a_breaker_that_was_opened_an_hour_ahead_lets_a_probe_go(clocks: Throttles, client: Any) -> None:
    later = an_hour_ahead(client)
    client.hset(KEY, mapping={"open": later, "tripped": 4, "generation": 4, "probed_at": later, "probes": 99})
    clock = await clocks.of(FEED)
    await until(lambda: clock.parked_until() is None)
    assert await clock.admit() is None, "one may go, and show how the partner is"


async def test_a_hold_ends_in_time_though_the_ledgers_clock_goes_back(
    clocks: Throttles, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = await clocks.of(FEED)
    clock.hold(utc_now() + timedelta(seconds=30))
    await clock.close()
    monkeypatch.setattr(clock, "_now", lambda: utc_now() - timedelta(hours=1))
    monkeypatch.setattr(server_clock, "steps_back", server_clock.steps_back + 1)
    await clock.sync()
    assert 0 < clock.held_for() < 40
