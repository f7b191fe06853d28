"""Why a server was not reached is said in the system's words, whichever library found out."""

from __future__ import annotations

import asyncio
import socket

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.unreached import why_unreached
from app.testbed.embedded.server import free_port


async def _refused_by_asyncio(port: int) -> str:
    with pytest.raises(OSError, match="Connect call failed") as refused:
        await asyncio.open_connection("127.0.0.1", port)
    return why_unreached(refused.value)


async def _refused_by_redis(port: int) -> str:
    client = Redis(host="127.0.0.1", port=port)
    with pytest.raises(RedisError, match="Connect call failed") as refused:
        await client.ping()
    await client.aclose()
    return why_unreached(refused.value)


async def test_a_closed_port_is_a_refused_connection() -> None:
    port = free_port()
    assert await _refused_by_asyncio(port) == "Connection refused"
    assert await _refused_by_redis(port) == f"127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
                "[Errno 111] Connect call failed ('127.0.0.1', 1)"
            ),
            "Connection refused",
        ),
        (OSError("host:1: [Errno 113] Connect call failed ('10.0.0.1', 1)"), "host:1: No route to host"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (
            RedisError("Error -2 connecting to nowhere:6379. Name or service not known."),
            "nowhere:6379: Name or service not known",
        ),
        (TimeoutError("host:1: no answer within 5 s"), "host:1: no answer within 5 s"),
        (TimeoutError(), "TimeoutError"),
        (RedisError("NOAUTH Authentication required."), "NOAUTH Authentication required."),
    ],
)  # fmt: skip
def test_python_s_words_are_left_out_and_others_stay(error: Exception, said: str) -> None:
    assert why_unreached(error) == said
