"""What waits in Redis, read without Celery: for health and metrics, which must see it even where Celery is stuck."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.errors import BrokerUnavailable
from app.redis_url import parse_redis_url

T = TypeVar("T")


class Broker:
    """One Redis, on one event loop."""

    def __init__(self, url: str, timeout: timedelta) -> None:
        """`timeout`: how long Redis may take to answer. Connects on first use."""
        seconds = timeout.total_seconds()
        self._redis = Redis(
            **parse_redis_url(url).options,
            decode_responses=True,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
        )

    async def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """Queue → messages that wait in it. Raises `BrokerUnavailable`."""

        async def ask(redis: Redis) -> list[int]:
            async with redis.pipeline(transaction=False) as asked:
                for queue in queues:
                    asked.llen(queue)  # Celery's queues are lists; ours have no priorities
                await asked.ping()
                return list(await asked.execute())[:-1]

        return dict(zip(queues, await self.ask(ask), strict=True))

    async def ask(self, question: Callable[[Redis], Awaitable[T]]) -> T:
        """Put a question to Redis. Raises `BrokerUnavailable`."""
        try:
            return await question(self._redis)
        except (RedisError, OSError) as error:
            with suppress(RedisError, OSError):  # closing a TLS connection waits for the other side, and may fail too
                await self._redis.connection_pool.disconnect(inuse_connections=False)  # kept ones are likely dead too
            raise BrokerUnavailable(f"broker: {' '.join(str(error).split())}") from error

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
