"""Partners over real sockets, and feeds that send to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from app.core.attempts import Answer
from app.core.deliveries import Delivery
from app.feeds.auth import Auth, NoAuth
from app.feeds.cursors.identity import IdentityCursor
from app.feeds.feed import Feed, Partner
from app.partner.client import PartnerClient

Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
KEPT = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\n{}"
"""From a partner that says that it keeps connections: they are used again at once."""


def feed_to(
    url: str,
    auth: Auth | Mapping[str, object] | None = None,
    path: str = "/rows",
    body: Any = None,
    **partner: Any,
) -> Feed:
    """The feed `orders`, with fields of its `partner` as `feeds.toml` would give them."""
    fields = {"url": url + path, "timeout": "5s", "auth": auth or NoAuth(), **partner}
    cursor = IdentityCursor(column="id")
    parts = {"body": body, "partner": Partner.model_validate(fields)}
    return Feed.model_validate(
        {"name": "orders", "table": "orders", "key": ("id",), "cursor": cursor, **parts}
    )


def delivery(
    key: str = "1", payload: str = '{"id":1,"name":"Zoë"}', *, in_doubt: bool = False
) -> Delivery:
    now = datetime.now(UTC)
    return Delivery(f"orders:{key}", "orders", key, payload, created_at=now, in_doubt=in_doubt)


async def send_once(feed: Feed, sent: Delivery | None = None) -> Answer:
    async with PartnerClient([feed]) as client:
        return await client.send(feed, sent or delivery())


@asynccontextmanager
async def raw_partner(respond: Respond) -> AsyncIterator[str]:
    """A server that hands each connection to `respond`, and closes it afterwards. Yields its URL."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await respond(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client closed first, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request's head (in lower case) and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.startswith(b"content-length")
        ),
        0,
    )
    return head, await reader.readexactly(length)


def recording(requests: list[tuple[bytes, bytes]], answer: bytes = OK) -> Respond:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(answer)
        await writer.drain()

    return respond


async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read nothing, answer nothing."""
    await asyncio.Event().wait()
