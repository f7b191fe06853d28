"""What `doctor` asks of Redis: each client that will use it is tried, since each connects in a way of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

import config
from app.broker.queue import QUEUES
from app.core.errors import BrokerUnavailable
from app.core.shown import one_line
from app.runtime.clients import open_broker
from app.source.findings import Level

NAME = "broker (REDIS_URL)"
_LONGEST = 3
"""Times `CONNECT_TIMEOUT` that one of Celery's clients may take: it tries more than once."""


async def version(settings: config.Settings) -> str:
    """Who answers; raises for one that may throw messages away. This client is that of the endpoint's clock, health and
    metrics."""
    timeout = settings.connect_timeout.total_seconds()
    client = Redis(
        **settings.redis.options,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
    )
    try:
        info = await client.info("server")
        memory = await client.info("memory")
    finally:
        with suppress(RedisError):
            await client.aclose()
    policy = memory.get("maxmemory_policy")
    if policy not in ("noeviction", None):
        raise RedisError(f"maxmemory-policy is {policy}: queued messages may be evicted; set it to noeviction")
    return product_of(info)


_PRODUCTS = {
    "valkey_version": "Valkey",
    "dragonfly_version": "Dragonfly",
    "garnet_version": "Garnet",
    "keydb_version": "KeyDB",
    "rlec_version": "Redis Enterprise",
}
"""The fields of INFO in which those that are as Redis give a version of their own; theirs of Redis' is what they are
compatible with."""


def product_of(info: Mapping[str, Any]) -> str:
    """Who made the server, by its INFO."""
    as_redis = f"Redis {info.get('redis_version', '?')}"
    own = (f"{name} {str(info[field]).removeprefix('df-')}" for field, name in _PRODUCTS.items() if info.get(field))
    product = next(own, None)
    return f"{product} (as {as_redis})" if product else as_redis


def doubts(settings: config.Settings) -> list[tuple[str, Level, str]]:
    """What works, and should not be left so: subject, level and what to do."""
    url = settings.redis
    if url.tls is None or url.verified:
        return []
    detail = (
        "the server's certificate is not verified: whoever answers at that address can read and start tasks; "
        "remove ssl_cert_reqs and ssl_check_hostname from REDIS_URL, and name a private authority with ssl_ca_certs"
    )
    return [("broker: certificate", Level.WARNING, detail)]


async def misused(settings: config.Settings) -> list[tuple[str, Level, str]]:
    """Keys of ours that another program writes to: subject, level and what to do; nothing where Redis is away."""
    broker = open_broker(settings)
    found: dict[str, str] = {}
    try:
        with suppress(BrokerUnavailable):  # told already
            found = await broker.misused(QUEUES)
    finally:
        await broker.close()
    what_to_do = "another program writes to this Redis database: give it one of its own"
    return [(f"broker: key {key}", Level.WARNING, f"key {key} {what}; {what_to_do}") for key, what in found.items()]


async def ask(client: Callable[[], str], settings: config.Settings) -> str:
    """Have one of Celery's clients connect; they block. Raises `BrokerUnavailable`, whatever that client raises."""
    seconds = _LONGEST * settings.connect_timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(client)
    except TimeoutError:
        raise BrokerUnavailable(f"no connection within {seconds:g} s") from None
    except Exception as error:  # noqa: BLE001 - four libraries, each with errors of its own
        raise BrokerUnavailable(one_line(error) or type(error).__name__) from None
