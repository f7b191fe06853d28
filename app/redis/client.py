"""A client of Redis that asks once: whoever asks decides what follows while Redis is away."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.core.redis_url import RedisUrl, parse_redis_url

AWAY = (RedisError, OSError)
"""What a question raises where Redis does not answer, or refuses it."""


def open_redis(url: str | RedisUrl, timeout: float, **options: Any) -> Redis:
    """A client of the Redis at that URL. `timeout`: seconds that an answer may take; `options`: of
    redis-py. Connects on first use, and tries nothing again. Raises `WrongRedisUrl`.
    """
    place = url if isinstance(url, RedisUrl) else parse_redis_url(url)
    return Redis(**place.client_options(timeout), **options, retry=Retry(NoBackoff(), 0))


async def drop_idle(redis: Redis) -> None:
    """Close the connections that are kept for the next question: where one has failed, they are
    likely dead too. Never raises: closing a TLS connection waits for the other side, and may fail.
    """
    with suppress(*AWAY):
        await redis.connection_pool.disconnect(inuse_connections=False)
