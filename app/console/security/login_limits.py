"""How often a password may be tried: of an account and from an address, over all processes.

The counts are kept in Redis, and in this process while Redis is away.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter, RateLimiter

from app.console.errors import TooMany
from app.core.redis_url import RedisUrl
from app.redis.client import AWAY, open_redis

log = structlog.get_logger()

OF_ACCOUNT: RateLimitItem = RateLimitItemPerMinute(10, 5)
"""Tries in five minutes; a right password sets it back."""
FROM_ADDRESS: RateLimitItem = RateLimitItemPerMinute(100, 5)
"""Tries in five minutes, right or wrong: one who has an account could otherwise set it back with it,
and go on with those of others."""
KEYS = "rowrelay-console-login"
AGAIN_SECONDS = 30.0
"""How long Redis is left alone after it did not answer."""


@dataclass(frozen=True, slots=True)
class _Counted:
    limit: RateLimitItem
    what: str
    key: str


class LoginLimits:
    """Counts tries. On one event loop."""

    def __init__(self, redis: RedisUrl, timeout: timedelta) -> None:
        """`timeout`: how long Redis may take to answer. Connects on first use."""
        self._client = open_redis(redis, timeout.total_seconds())
        pool: Any = self._client.connection_pool
        storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix=KEYS, connection_pool=pool
        )
        self._shared: RateLimiter = MovingWindowRateLimiter(storage)
        self._here: RateLimiter = MovingWindowRateLimiter(MemoryStorage())
        self._away_until = 0.0

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._client.aclose(close_connection_pool=True)

    async def take(self, name: str, address: str) -> None:
        """Count a try, before the password is looked at: of many at the same moment, no more than the
        limit get through. Raises `TooMany` where the account, or the address, has had its tries."""
        for one in _counted(name, address):
            wait = await self._ask(partial(_take, one))
            if wait:
                raise TooMany(f"too many wrong passwords: try again in {wait} s", wait)

    async def right(self, name: str) -> None:
        """The password of that account was right: its tries begin anew."""
        await self._ask(partial(_clear, _of_account(name)))

    async def _ask(self, question: Callable[[RateLimiter], Awaitable[int]]) -> int:
        """Ask Redis; this process while it is away."""
        try:
            return await question(self._limiter())
        except AWAY:
            log.warning(
                "login_limits_in_memory", why="Redis does not answer", seconds=AGAIN_SECONDS
            )
            self._away_until = time.monotonic() + AGAIN_SECONDS
            return await question(self._here)

    def _limiter(self) -> RateLimiter:
        return self._here if time.monotonic() < self._away_until else self._shared


def _counted(name: str, address: str) -> tuple[_Counted, _Counted]:
    """The address first: one that has had its tries takes none of the account's."""
    return _Counted(FROM_ADDRESS, "address", _network_of(address)), _of_account(name)


def _of_account(name: str) -> _Counted:
    return _Counted(OF_ACCOUNT, "account", name)


def _network_of(address: str) -> str:
    """Who has one address of IPv6 has the 2**64 of its network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))


async def _take(one: _Counted, limiter: RateLimiter) -> int:
    """How many seconds to wait; 0: it was counted."""
    if await limiter.hit(one.limit, one.what, one.key):
        return 0
    window = await limiter.get_window_stats(one.limit, one.what, one.key)
    return max(1, round(window.reset_time - time.time()))


async def _clear(one: _Counted, limiter: RateLimiter) -> int:
    await limiter.clear(one.limit, one.what, one.key)
    return 0
