"""The endpoints' clocks as all workers together keep them in Redis (see `clock_store.py`), to look at only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from redis.asyncio import Redis

_MICRO = 1_000_000


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
    live: int
    """Worker processes that share it."""


async def view_endpoints(redis: Redis, feeds: Sequence[str]) -> dict[str, EndpointView]:
    """Feed → its endpoint. One that no worker has met yet is closed and free. Raises redis-py's errors."""
    async with redis.pipeline(transaction=False) as asked:
        await asked.time()
        for feed in feeds:
            asked.hmget(f"rowrelay:{{{feed}}}:clock", ["hold", "open", "tripped", "generation"])
            asked.zrange(f"rowrelay:{{{feed}}}:live", 0, -1, withscores=True)
        (seconds, micros), *answers = await asked.execute()
    now = int(seconds) * _MICRO + int(micros)
    clocks, lives = answers[::2], answers[1::2]
    return {feed: _view(clock, live, now) for feed, clock, live in zip(feeds, clocks, lives, strict=True)}


def _view(clock: Sequence[str | None], live: Sequence[tuple[str, float]], now: int) -> EndpointView:
    hold, opened_until, tripped, generation = (int(float(value or 0)) for value in clock)
    breaker = BreakerState.OPEN if opened_until > now else BreakerState.HALF_OPEN
    if not tripped:
        breaker = BreakerState.CLOSED
    alive = sum(until > now for _, until in live)
    return EndpointView(breaker, generation, max(0, hold - now) / _MICRO, alive)
