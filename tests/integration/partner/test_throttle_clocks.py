"""An endpoint's throttle after Redis' clock, or the ledger server's, was wrong: it holds nobody
longer than it may.
"""

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
from app.partner.throttle.throttles import Throttles
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
async def throttles(clean_redis_url: str) -> AsyncIterator[Throttles]:
    throttles = Throttles(ThrottleStore(clean_redis_url, "p1", timeout=10.0))
    throttles.start()
    yield throttles
    await throttles.close()


def an_hour_ahead(client: Any) -> int:
    """By Redis' clock, in microseconds."""
    seconds, micros = client.time()
    return (int(seconds) + 3600) * 1_000_000 + int(micros)


async def test_slots_that_were_reserved_an_hour_ahead_are_free(
    throttles: Throttles, client: Any
) -> None:
    client.hset(KEY, mapping={"due": an_hour_ahead(client)})
    throttle = await throttles.of(FEED)
    assert throttle.parked_until() is None
    assert await throttle.admit() is None


async def test_a_breaker_that_was_opened_an_hour_ahead_lets_a_probe_go(
    throttles: Throttles, client: Any
) -> None:
    later = an_hour_ahead(client)
    client.hset(
        KEY,
        mapping={"open": later, "tripped": 4, "generation": 4, "probed_at": later, "probes": 99},
    )
    throttle = await throttles.of(FEED)
    await until(lambda: throttle.parked_until() is None)
    assert await throttle.admit() is None, "one may go, and show how the partner is"


async def test_a_hold_ends_in_time_though_the_ledgers_clock_goes_back(
    throttles: Throttles, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttle = await throttles.of(FEED)
    throttle.hold(utc_now() + timedelta(seconds=30))
    await throttle.close()
    monkeypatch.setattr(throttle.cooldown, "_now", lambda: utc_now() - timedelta(hours=1))
    monkeypatch.setattr(server_clock, "steps_back", server_clock.steps_back + 1)
    await throttle.sync()
    assert 0 < throttle.held_for() < 40
