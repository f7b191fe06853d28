"""Reads queue lengths from Redis without Celery, for health and metrics, which must work even when
Celery is stuck.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.core.errors import BrokerUnavailable
from app.core.unreached import why_unreached
from app.redis.client import AWAY, drop_idle, open_redis

T = TypeVar("T")

ASIDE = "rowrelay:aside:"
"""Before the name of a key that another program wrote to, and that was put aside
(`tasks/transport.py`).
"""


class Broker:
    """One Redis, on one event loop."""

    def __init__(self, url: str, timeout: timedelta) -> None:
        """`timeout`: how long Redis may take to answer. Connects on first use."""
        self._redis = open_redis(url, timeout.total_seconds())

    async def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """Queue → messages that wait in it. Raises `BrokerUnavailable`."""

        async def ask(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=False) as asked:
                for queue in queues:
                    asked.llen(queue)  # Celery's queues are lists; ours have no priorities
                await asked.ping()
                return list(await asked.execute(raise_on_error=False))

        *depths, alive = await self.ask(ask)
        if isinstance(alive, Exception):
            raise unavailable(alive) from alive
        return {queue: _depth(answer) for queue, answer in zip(queues, depths, strict=True)}

    async def server(self) -> dict[str, Any]:
        """What the server says of itself and its memory: Redis' INFO. Raises as above."""

        async def ask(redis: Redis) -> dict[str, Any]:
            return {**await redis.info("server"), **await redis.info("memory")}

        return await self.ask(ask)

    async def misused(self, queues: Sequence[str]) -> dict[str, str]:
        """What is wrong with the keys of queues, where another program uses them: key → what.
        Raises as above.
        """

        async def ask(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=False) as asked:
                for queue in queues:
                    asked.type(queue)
                    asked.type(ASIDE + queue)
                return list(await asked.execute())

        types = await self.ask(ask)
        found: dict[str, str] = {}
        for queue, kind, aside in zip(queues, types[::2], types[1::2], strict=True):
            if kind not in ("list", "none"):
                found[queue] = f"is a {kind}, not a list"
            elif aside != "none":
                found[queue] = f"was a {aside}; it was put aside as {ASIDE + queue} for a week"
        return found

    async def ask(self, question: Callable[[Redis], Awaitable[T]]) -> T:
        """Put a question to Redis. Raises `BrokerUnavailable`."""
        try:
            return await question(self._redis)
        except AWAY as error:
            await drop_idle(self._redis)
            raise unavailable(error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()


def _depth(answer: Any) -> int:
    """A list's length. A key that is none holds no message; the next worker to ask puts it aside."""
    if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
        return 0
    if isinstance(answer, Exception):
        raise unavailable(answer) from answer
    return int(answer)


def unavailable(error: BaseException) -> BrokerUnavailable:
    """Our error for a driver's, on one line."""
    return BrokerUnavailable(f"broker: {why_unreached(error)}")
