"""One HTTP request and its answer: bounded in time and size, and one kind of error for whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from app.models import RESPONSE_LIMIT, Ruling
from app.partner.failures import NEVER_SENT, TRANSLATED, Failure, describe, failure_of
from app.partner.transport import Transport

LARGE_BODY = 2**20
"""Bytes; a larger body is sent in pieces, so that writing it never blocks the event loop (aiohttp's own bound)."""

_PIECE = 2**16
_DEADLINE_ALONE = aiohttp.ClientTimeout()


class Undone(Exception):
    """An attempt that ended without an answer to judge by its status. The text is one line, secrets not yet replaced.

    `ruling`: what it means for the delivery.
    """

    def __init__(self, text: str, ruling: Ruling) -> None:
        super().__init__(text)
        self.ruling = ruling


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What is asked of the other side. It may hold secrets, so it has no repr of its fields."""

    method: str
    url: URL
    headers: Mapping[str, str]
    """Names in lower case. aiohttp adds `host`, `accept` and `content-length`."""
    body: bytes = b""
    phases: aiohttp.ClientTimeout = _DEADLINE_ALONE
    """Bounds of the parts of an exchange, within the deadline of the whole."""


@dataclass(slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Of several with one name, the first is found."""
    body: bytes
    """At most as many bytes as were asked for."""
    note: str | None = None
    """See `Answer.note`."""
    settled: bool = False
    """The partner has the row, whatever the feed's `success` asks of an answer."""


async def exchange(transport: Transport, request: Request, seconds: float, limit: int = RESPONSE_LIMIT) -> Reply:
    """Send a request, and read at most `limit` bytes of the answer's body, all within `seconds`.

    Raises `Undone` for anything the network or the other side does: `LOST` where the request may have been processed,
    `FAILED` where it cannot have been. A success whose body breaks off is lost. Cancelling is passed on.
    """
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline, _sent(transport, request) as response:
            return Reply(response.status, response.headers, await _read(response.content, limit))
    except TRANSLATED as error:
        if deadline.expired():
            text = f"{Failure.DEADLINE}: no complete answer within {seconds:g} s (partner.timeout)"
            raise Undone(text, Ruling.LOST) from error
        ruling = Ruling.FAILED if failure_of(error) in NEVER_SENT else Ruling.LOST
        raise Undone(describe(error), ruling) from error


def _sent(transport: Transport, request: Request) -> aiohttp.client._RequestContextManager:
    headers, body = request.headers, request.body
    data: bytes | AsyncIterator[bytes] | None = body or None
    if len(body) > LARGE_BODY:
        headers, data = {**headers, "content-length": str(len(body))}, _pieces(body)
    return transport.session().request(
        request.method, request.url, headers=headers, data=data, allow_redirects=False, timeout=request.phases
    )


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    """At most `limit` bytes of the body. A shorter one is read to its end, so the connection can be reused."""
    body = await content.readany()
    while len(body) <= limit and (chunk := await content.readany()):
        body += chunk
    return body[:limit]
