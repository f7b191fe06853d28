"""The endpoints' throttles as all workers together keep them in Redis (see `store.py`), to look at
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.partner.throttle.store import KEPT_SECONDS, endpoint_keys

_MICRO = 1_000_000
_FIELDS = ["hold", "open", "tripped", "generation"]
_Live: TypeAlias = Sequence[tuple[str, float]]


class BreakerState(StrEnum):
    """What an endpoint's circuit breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    """Nothing."""
    HALF_OPEN = "half_open"
    """A few probes."""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint, now, by Redis' time of day."""

    breaker: BreakerState
    opened: int
    """How often the breaker has opened since Redis began to count: it may forget."""
    hold_seconds: float
    """How much longer the partner wants no request (Retry-After)."""
    open_seconds: float
    """How much longer the breaker is open; 0: it is not, or lets probes through."""
    live: int
    """Worker processes that share it."""


async def view_endpoints(redis: Redis, feeds: Sequence[str]) -> dict[str, EndpointView]:
    """Feed → its endpoint. One that no worker has met yet is closed and free, as is one whose keys
    hold what is not of our making: the next worker mends them. Raises redis-py's errors."""
    async with redis.pipeline(transaction=False) as asked:
        await asked.time()
        for feed in feeds:
            known, live = endpoint_keys(feed, "clock", "live")
            asked.hmget(known, _FIELDS)
            asked.zrange(live, 0, -1, withscores=True)
        time_of_day, *answers = await asked.execute(raise_on_error=False)
    if isinstance(time_of_day, RedisError):
        raise time_of_day
    now = int(time_of_day[0]) * _MICRO + int(time_of_day[1])
    throttles, lives = answers[::2], answers[1::2]
    return {
        feed: _view(known, live, now)
        for feed, known, live in zip(feeds, throttles, lives, strict=True)
    }


def _view(
    known: Sequence[str | None] | RedisError, live: _Live | RedisError, now: int
) -> EndpointView:
    kept = [None] * len(_FIELDS) if isinstance(known, RedisError) else known
    alive = 0 if isinstance(live, RedisError) else sum(until > now for _, until in live)
    hold, opened_until, tripped, generation = (_number(value, now) for value in kept)
    breaker = BreakerState.OPEN if opened_until > now else BreakerState.HALF_OPEN
    if not tripped:
        breaker = BreakerState.CLOSED
    open_for = max(0, opened_until - now) if tripped else 0
    return EndpointView(breaker, generation, max(0, hold - now) / _MICRO, open_for / _MICRO, alive)


def _number(text: str | None, now: int) -> int:
    """0 for what no worker writes, as the scripts have it."""
    with suppress(ValueError, OverflowError):
        value = int(float(text or 0))
        return value if 0 <= value <= now + KEPT_SECONDS * _MICRO else 0
    return 0
