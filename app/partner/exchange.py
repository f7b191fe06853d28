"""One HTTP request and its answer: bounded in time and size, and one kind of error for whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import httpx

from app.models import RESPONSE_LIMIT, Ruling
from app.partner.failures import NEVER_SENT, TRANSLATED, Failure, describe, failure_of


class Undone(Exception):
    """An attempt that ended without an answer to judge by its status. The text is one line, secrets not yet replaced.

    `ruling`: what it means for the delivery.
    """

    def __init__(self, text: str, ruling: Ruling) -> None:
        super().__init__(text)
        self.ruling = ruling


@dataclass(slots=True)
class Reply:
    """What came back."""

    status: int
    headers: httpx.Headers
    body: bytes
    """At most as many bytes as were asked for."""
    note: str | None = None
    """See `Answer.note`."""
    settled: bool = False
    """The partner has the row, whatever the feed's `success` asks of an answer."""


async def exchange(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, seconds: float, limit: int = RESPONSE_LIMIT
) -> Reply:
    """Send a request, and read at most `limit` bytes of the answer's body, all within `seconds`.

    Raises `Undone` for anything the network or the other side does: `LOST` where the request may have been processed,
    `FAILED` where it cannot have been. A success whose body breaks off is lost. Cancelling is passed on.
    """
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            response = await transport.handle_async_request(request)
            try:
                return Reply(response.status_code, response.headers, await _read(response, limit))
            finally:
                await response.aclose()
    except TRANSLATED as error:
        if deadline.expired():
            text = f"{Failure.DEADLINE}: no complete answer within {seconds:g} s (partner.timeout)"
            raise Undone(text, Ruling.LOST) from error
        ruling = Ruling.FAILED if failure_of(error) in NEVER_SENT else Ruling.LOST
        raise Undone(describe(error), ruling) from error


async def _read(response: httpx.Response, limit: int) -> bytes:
    """At most `limit` bytes of the body. A shorter one is read to its end, so the connection can be reused."""
    body = bytearray()
    stream = cast("AsyncGenerator[bytes]", aiter(cast("httpx.AsyncByteStream", response.stream)))
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                break
    return bytes(body[:limit])
