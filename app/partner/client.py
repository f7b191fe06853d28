"""One HTTP request to a partner: bounded in time and size, and never an exception for what the other side does.

httpx's requests go straight to httpx-aiohttp's transport. The `httpx.AsyncClient` that usually stands between would
add what must not happen here: cookies kept, redirects followed, proxies and `~/.netrc` taken from the environment, and
a log line with the URL for each request.

From the environment only `SSL_CERT_FILE` and `SSL_CERT_DIR` are read (by httpx), for a private certificate authority.
`HTTP_PROXY` and its like are not: they are often set for other software, and would lead rows through a third party.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Self, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.feed import Feed
from app.models import RESPONSE_LIMIT, Answer, Delivery
from app.partner.failures import TRANSLATED, Failure, describe
from app.partner.request import Prepared, prepare

KEEPALIVE_SECONDS = 15.0
"""How long an idle connection is kept. Short: one that the partner closed meanwhile costs an attempt."""

ERROR_LIMIT = 300
"""Characters kept of a failure."""

KEPT_HEADERS = ("content-type", "retry-after")
"""What an answer keeps of its headers. Others may hold secrets (`Set-Cookie`), and nothing reads them."""


class PartnerClient:
    """Sends deliveries to their partners. One a process, used on one event loop; `close` it there.

    Takes the feeds it will serve: connections are bounded by the sum of their concurrency.
    Opens nothing until the first `send`. Raises `ConfigError` for a feed with a header that cannot be sent.
    """

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._prepared = {feed.name: prepare(feed) for feed in feeds}
        self._connections = sum(known.feed.partner.concurrency for known in self._prepared.values())
        self._tls = httpx.create_ssl_context()
        self._transport = AiohttpTransport(verify=self._tls, client=self._open_session)

    async def send(self, feed: Feed, delivery: Delivery) -> Answer:
        """Make one attempt, within `feed.partner.timeout` from now to the last byte of the answer.

        Returns the answer: a status, or the kind of failure. A success whose body breaks off is a failure, since the
        partner may not have finished. Cancelling is passed on; nothing the network or the partner does raises.
        """
        prepared = self._prepared_for(feed)
        at, started = datetime.now(UTC), time.perf_counter()
        deadline = asyncio.timeout(prepared.deadline_seconds)
        try:
            async with deadline:
                response, body = await self._exchange(prepared.request(delivery))
        except TRANSLATED as error:
            text = _missed(prepared) if deadline.expired() else prepared.redact(describe(error))
            return Answer(at=at, duration_ms=_since_ms(started), error=text[:ERROR_LIMIT])
        headers = {name: prepared.redact(response.headers[name]) for name in KEPT_HEADERS if name in response.headers}
        return Answer(at, _since_ms(started), response.status_code, headers, _text(prepared, body))

    async def close(self) -> None:
        """Close every connection. A request still in flight fails with an answer."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _prepared_for(self, feed: Feed) -> Prepared:
        known = self._prepared.get(feed.name)
        if known is None or known.feed is not feed:
            known = self._prepared[feed.name] = prepare(feed)
        return known

    async def _exchange(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        response = await self._transport.handle_async_request(request)
        try:
            return response, await _read(response)
        finally:
            await response.aclose()

    def _open_session(self) -> aiohttp.ClientSession:
        """aiohttp's session; the transport asks for it at the first request, when a loop runs."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._tls, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            trust_env=False,
        )
        # aiohttp would send a PUT again by itself when a kept connection turns out closed; every attempt is on record.
        session._retry_connection = False  # noqa: SLF001  there is no public switch
        return session


class _Response(aiohttp.ClientResponse):
    """A response without its reason phrase: httpx-aiohttp cannot encode one that is not UTF-8, and nothing needs it."""

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        self.reason = None
        return self


async def _read(response: httpx.Response) -> bytes:
    """At most `RESPONSE_LIMIT` bytes of the body. A shorter one is read to its end, so the connection can be reused."""
    body = bytearray()
    stream = cast("AsyncGenerator[bytes]", aiter(cast("httpx.AsyncByteStream", response.stream)))
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > RESPONSE_LIMIT:
                break
    return bytes(body[:RESPONSE_LIMIT])


def _text(prepared: Prepared, body: bytes) -> str:
    """The body as text, secrets replaced, at most `RESPONSE_LIMIT` bytes in UTF-8."""
    text = prepared.redact(body.decode("utf-8", "replace"), cut=len(body) == RESPONSE_LIMIT)
    return text.encode()[:RESPONSE_LIMIT].decode("utf-8", "ignore")


def _missed(prepared: Prepared) -> str:
    return f"{Failure.DEADLINE}: no complete answer within {prepared.deadline_seconds:g} s (partner.timeout)"


def _since_ms(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
