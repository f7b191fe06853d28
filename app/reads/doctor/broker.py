"""What `doctor` asks of Redis: our client, then each of Celery's, since each connects in a way of
its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeAlias

from app.broker.depths import Broker
from app.broker.queue import QUEUES
from app.core.errors import BrokerUnavailable
from app.core.redis_url import RedisUrl
from app.core.unreached import why_unreached
from app.reads.doctor.check import Check, Servers, checked, found
from app.source.findings import Level
from config import Settings

NAME = "broker (REDIS_URL)"
_LONGEST = 3
"""Times `CONNECT_TIMEOUT` that one of Celery's clients may take: it tries more than once."""


Clients: TypeAlias = Callable[[], Mapping[str, Callable[[], str]]]
"""Gives the clients that are to be tried, which may load them: the check's name → what connects.
That blocks, returns what it has to say, and may raise anything."""


async def check_broker(servers: Servers, settings: Settings, clients: Clients) -> list[Check]:
    """Redis itself, then each of the other clients that will use it: those only where it answers at
    all.
    """
    first = await checked(NAME, lambda: _server(servers, settings))
    if not first.ok:
        return [first]

    def asking(client: Callable[[], str]) -> Callable[[], Awaitable[str]]:
        return lambda: ask(client, settings.connect_timeout)

    others = [await checked(name, asking(client)) for name, client in clients().items()]
    return [first, *others, *_doubts(settings.redis), *await _misused(servers.broker)]


async def _server(servers: Servers, settings: Settings) -> str:
    """Who answers. Raises for one that may throw messages away."""
    _ = settings.redis  # raises where there is none
    try:
        info = await servers.broker.server()
    except BrokerUnavailable as error:
        raise BrokerUnavailable(str(error).removeprefix("broker: ")) from error
    policy = info.get("maxmemory_policy")
    if policy not in ("noeviction", None):
        raise BrokerUnavailable(
            f"maxmemory-policy is {policy}: queued messages may be evicted; set it to noeviction"
        )
    return product_of(info)


_PRODUCTS = {
    "valkey_version": "Valkey",
    "dragonfly_version": "Dragonfly",
    "garnet_version": "Garnet",
    "keydb_version": "KeyDB",
    "rlec_version": "Redis Enterprise",
}
"""The fields of INFO in which those that are as Redis give a version of their own; theirs of Redis'
is what they are compatible with."""


def product_of(info: Mapping[str, Any]) -> str:
    """Who made the server, by its INFO."""
    as_redis = f"Redis {info.get('redis_version', '?')}"
    own = (
        f"{name} {str(info[field]).removeprefix('df-')}"
        for field, name in _PRODUCTS.items()
        if info.get(field)
    )
    product = next(own, None)
    return f"{product} (as {as_redis})" if product else as_redis


def _doubts(url: RedisUrl) -> Iterator[Check]:
    """What works, and should not be left so, and what to do."""
    if url.tls is not None and not url.verified:
        yield found(
            "broker: certificate",
            Level.WARNING,
            "the server's certificate is not verified: whoever answers at that address can read and start tasks; "
            "remove ssl_cert_reqs and ssl_check_hostname from REDIS_URL, and name a private authority with "
            "ssl_ca_certs",
        )


async def _misused(broker: Broker) -> list[Check]:
    """Keys of ours that another program writes to; nothing where Redis is away."""
    keys: dict[str, str] = {}
    with suppress(BrokerUnavailable):  # told already
        keys = await broker.misused(QUEUES)
    what_to_do = "another program writes to this Redis database: give it one of its own"
    return [
        found(f"broker: key {key}", Level.WARNING, f"key {key} {what}; {what_to_do}")
        for key, what in keys.items()
    ]


async def ask(client: Callable[[], str], patience: timedelta) -> str:
    """Have a client connect that blocks. Raises `BrokerUnavailable`, whatever that client raises."""
    seconds = _LONGEST * patience.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(client)
    except TimeoutError:
        raise BrokerUnavailable(f"no connection within {seconds:g} s") from None
    except Exception as error:  # noqa: BLE001 - four libraries, each with errors of its own
        raise BrokerUnavailable(why_unreached(error)) from None
