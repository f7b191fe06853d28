"""One HTTP request and its answer, bounded in time and size, with one error type for everything
that can go wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from app import VERSION
from app.core.attempts import RESPONSE_LIMIT, Ruling
from app.core.record import record
from app.core.url import Url
from app.partner.connection import Connection
from app.partner.failures import Expired, Failure, Stale, Undone, connecting_failed, is_ours
from app.partner.head import Fields
from app.partner.incoming import Incoming
from app.partner.kept import Pooled
from app.partner.transport import Transport

DEFAULT_HEADERS: Mapping[str, str] = {
    "user-agent": f"rowrelay/{VERSION}",
    "accept": "*/*",
    "accept-encoding": "identity",
}
"""The defaults for every request. A compressed answer could grow past any bound."""

SENT_AGAIN = "the kept connection was closed without an answer: sent once more on a new one"


@record
class Request:
    """An HTTP request. It may hold secrets, so its repr shows no fields."""

    method: str
    url: Url
    headers: Mapping[str, str]
    """Names in lower case, in printable ASCII. `DEFAULT_HEADERS`, `host` and `content-length` are
    added.
    """
    body: bytes = b""
    connect_seconds: float | None = None
    """How long connecting may take, within the overall deadline."""
    time_setting: str | None = "partner.timeout"
    """The setting that bounds the whole exchange, named when it fails."""
    resend: bool = True
    """Send it once more where a kept connection closed before the first byte of the answer."""
    ready: bytes = b""
    """Its head, where that is made already."""

    __repr__ = object.__repr__

    def having(self, headers: Mapping[str, str]) -> Request:
        """A copy with these headers added or replaced."""
        return replace(self, headers={**self.headers, **headers}, ready=b"")

    def all_headers(self) -> dict[str, str]:
        """The headers as sent."""
        headers = {"host": self.url.authority, **DEFAULT_HEADERS, **self.headers}
        if self.body or self.method not in ("GET", "HEAD"):
            headers["content-length"] = str(len(self.body))
        return headers

    def head(self) -> bytes:
        """Request line and headers as sent. Raises `Undone` for what HTTP cannot carry."""
        if self.ready:
            return self.ready
        lines = [f"{self.method} {self.url.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.all_headers().items()]
        text = "".join(lines)
        if not carried(text):
            raise Undone("the request has a header that HTTP cannot carry", Ruling.REFUSED)
        lines += ("", "")
        return "\r\n".join(lines).encode("ascii")


def carried(text: str) -> bool:
    """Whether HTTP can carry it in a header."""
    return text.isascii() and "\n" not in text and "\r" not in text


@dataclass(slots=True)
class Reply:
    """The answer."""

    status: int
    headers: Fields
    body: bytes
    """At most the bytes asked for, still packed (see `content.unwrapped`)."""
    note: str | None = None
    """See `Answer.note`."""
    settled: bool = False
    """The partner has the row, whatever the feed's `success` asks of an answer."""


async def exchange(
    transport: Transport, request: Request, seconds: float, limit: int = RESPONSE_LIMIT
) -> Reply:
    """Send a request, and read at most `limit` bytes of the answer's body, all within `seconds`.

    Raises `Undone` for anything the network or the other side does: `LOST` where the request may
    have been processed, `FAILED` where it cannot have been. A success whose body breaks off is
    lost. Cancelling is passed on.

    A request on a kept connection goes once more, on a new one and within the same time, where the
    other side closed before the whole of the request reached it: it may close an idle connection at
    any moment. One that arrived and was not answered may have been processed: it is lost, and
    stands on record as such before the row is sent again.
    """
    head, turn = request.head(), Turn(transport, request, seconds)
    try:
        await turn.begin()
        pooled = transport.reuse(request.url)
        if pooled is None:
            return await _ask(turn, await turn.open(), head, limit)
        try:
            return await _ask(turn, pooled, head, limit)
        except Stale:
            if not request.resend:
                raise
        return await _ask(turn, await turn.open(after_sending=True), head, limit, SENT_AGAIN)
    except Expired as error:
        text = f"{Failure.DEADLINE}: no complete answer within {_named(seconds, request)}"
        raise Undone(text, Ruling.LOST, error.status) from error
    finally:
        turn.end()


class Turn:
    """A request's slot for a connection, and how long it has."""

    __slots__ = (
        "_asked", "_deadline", "_expired", "_has_slot", "_request", "_seconds", "_transport",
    )  # fmt: skip

    def __init__(self, transport: Transport, request: Request, seconds: float) -> None:
        """Its time begins."""
        self._transport, self._request, self._seconds = transport, request, seconds
        self._asked: Connection | None = None
        """The connection whose answer is awaited."""
        self._expired = self._has_slot = False
        self._deadline = transport.deadlines.begin(self, seconds)

    @property
    def _connect_by(self) -> float:
        within = self._request.connect_seconds
        return self._deadline - (0 if within is None else max(0, self._seconds - within))

    async def begin(self) -> None:
        """Wait for a connection to be free. Raises `Undone`."""
        slots = self._transport.slots
        if not slots.take():
            try:
                async with asyncio.timeout_at(self._connect_by):
                    await slots.wait()
            except TimeoutError as error:
                raise self._undone(error, Ruling.FAILED) from error
        self._has_slot = True

    def end(self) -> None:
        """Free the connection's slot."""
        self._transport.deadlines.end(self, self._seconds)
        if self._has_slot:
            self._transport.slots.leave()

    def expire(self) -> None:
        """The time is up."""
        self._expired = True
        if self._asked is not None:
            self._asked.expire()

    async def ask(self, connection: Connection, head: bytes, limit: int) -> Incoming:
        """The answer to the request. Raises as `Connection.ask` does."""
        if self._expired:
            raise Expired(None)
        self._asked = connection
        return await connection.ask(head, self._request.body, limit)

    async def open(self, *, after_sending: bool = False) -> Pooled:
        """A new connection. Raises `Undone`: nothing can have been processed, but for what was sent
        before.
        """
        try:
            async with asyncio.timeout_at(self._connect_by):
                return await self._transport.open(self._request.url)
        except OSError as error:
            raise self._undone(error, Ruling.LOST if after_sending else Ruling.FAILED) from error

    def give_back(self, pooled: Pooled) -> None:
        """Return a connection to the pool."""
        self._transport.give_back(pooled)

    def _undone(self, error: OSError, ruling: Ruling) -> Undone:
        failure, text = connecting_failed(error)
        if ruling is Ruling.FAILED and is_ours(error):
            ruling = Ruling.OURS
        if failure is Failure.CONNECT_TIMEOUT:
            text = "no connection within partner.connect_timeout"
            if self._connect_by == self._deadline:
                failure, text = (
                    Failure.DEADLINE,
                    f"no connection within {_named(self._seconds, self._request)}",
                )
        return Undone(f"{failure}: {text}", ruling)


def _named(seconds: float, request: Request) -> str:
    setting = f" ({request.time_setting})" if request.time_setting else ""
    return f"{seconds:g} s{setting}"


async def _ask(
    turn: Turn, pooled: Pooled, head: bytes, limit: int, note: str | None = None
) -> Reply:
    try:
        incoming = await turn.ask(pooled.connection, head, limit)
    finally:
        turn.give_back(pooled)
    assert incoming.head is not None  # noqa: S101  an answer that counts has one
    return Reply(incoming.head.status, incoming.head.fields, incoming.body, note or incoming.note)
