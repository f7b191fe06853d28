"""One connection: one request at a time, its answer read as it comes, and whether another may
follow.

Nothing here sends a request twice, follows a redirect, keeps a cookie, or takes bytes that nobody
asked for.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from app.core.attempts import Ruling
from app.partner.failures import Expired, Failure, Stale, Undone, exchange_failed
from app.partner.incoming import Incoming, Malformed

PIECE = 2**16
"""Bytes; a larger body goes out in pieces of this size, as fast as the other side takes them."""

QUIET_SECONDS = 0.05
"""An answer whose end cannot be told has ended when nothing came for this long."""

_TCP_CLOSE = 7
_UNACKED_AT = 24
"""The offset in `struct tcp_info` of the segments sent and not acknowledged (Linux,
include/uapi/linux/tcp.h).
"""

Reader = Callable[[int], Incoming]
"""Makes a reader for one answer, which keeps that many bytes of its body."""


class Connection(asyncio.Protocol):
    """A connection that is up. Used by one request after the other, on one event loop."""

    def __init__(self, sock: socket.socket, reader: Reader = Incoming) -> None:
        """To be made on the loop that it is used on."""
        self._socket = sock
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming: Incoming | None = None
        """The answer awaited."""
        self._answer: asyncio.Future[Incoming] | None = None
        self._rest: memoryview | None = None
        """The rest of the request's body, still to be written."""
        self._full = False
        self._quiet: asyncio.TimerHandle | None = None
        self._unread = False
        """The other side closed before the whole request reached it."""
        self.broke_off = False
        """It had served before, and closed without answering the last request."""
        self.closed = False
        """It ended, or we closed it."""
        self.when_left: Callable[[float], object] | None = None
        """Called with the time when the other side closes the idle connection."""
        self.served = False
        """It has delivered an answer."""
        self.keep_alive: str | None = None
        """The last `Keep-Alive` header."""

    @property
    def ending(self) -> bool:
        """It has ended or is about to: what is written to it goes nowhere."""
        return self.closed or self._transport is None or self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes, limit: int) -> Incoming:
        """Send a request, and wait for its answer until `expire` is called.

        Returns the answer, of whose body `limit` bytes are kept. Raises `Undone` where there is
        none to judge by its status: `Expired`, `Stale`, or as `exchange_failed` has it.
        """
        assert self._transport is not None  # noqa: S101  made with the connection
        self._incoming, self._answer = self._reader(limit), self._loop.create_future()
        if len(body) <= PIECE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._rest = memoryview(body)
            self._write_on()
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.abort()
            raise

    def expire(self) -> None:
        """The request's time is up: its answer is what has come of it."""
        incoming = self._incoming
        if incoming is not None and incoming.ends(in_order=True):
            self._settle(incoming)
        elif incoming is not None:
            self._fail(Expired(_status(incoming)))

    def silent(self) -> bool:
        """Whether nothing has come that was not asked for, its end included, not even what the loop
        has yet to read.
        """
        if self.ending:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def abort(self) -> None:
        """Close it at once. A request under way fails with `Undone`."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; what comes when nothing was asked ends the connection."""
        incoming = self._incoming
        if incoming is None:
            return self.abort()
        self._stop_listening_for_quiet()
        try:
            if incoming.feed(data):
                return self._settle(incoming)
        except Malformed as error:
            return self._fail(Undone(f"{Failure.PROTOCOL_ERROR}: {error}", Ruling.LOST))
        if incoming.ends_with_quiet:
            self._quiet = self._loop.call_later(QUIET_SECONDS, self._end, None)
        return None

    def eof_received(self) -> None:
        """The other side closed, in order: what had reached it by then it has acknowledged."""
        self._unread = _unacknowledged(self._socket)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended; in the middle of an answer that may be its end, or its loss."""
        if self._incoming is None and not self.closed and self.when_left is not None:
            self.when_left(self._loop.time())
        self.closed = True
        self._rest = None
        self._end(exc)

    def pause_writing(self) -> None:
        """The other side's window is full."""
        self._full = True

    def resume_writing(self) -> None:
        """It has room again."""
        self._full = False
        self._write_on()

    # What becomes of an answer

    def _settle(self, incoming: Incoming) -> None:
        self._incoming, self.served = None, True
        self._stop_listening_for_quiet()
        if not incoming.kept or self._rest is not None or self._unsent():
            self.abort()
        elif incoming.head is not None:
            self.keep_alive = incoming.head.fields.get("keep-alive")
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(incoming)

    def _unsent(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _fail(self, error: Undone) -> None:
        self._incoming = None
        self._stop_listening_for_quiet()
        self.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _end(self, exc: Exception | None) -> None:
        """The answer is over."""
        incoming = self._incoming
        if incoming is None:
            return
        if incoming.ends(in_order=exc is None):
            self._settle(incoming)
            return
        failure, text, ruling = exchange_failed(exc, heard=incoming.heard)
        self.broke_off = self.served and failure is Failure.DISCONNECTED
        kind = Stale if self.broke_off and self._unread else Undone
        self._fail(kind(f"{failure}: {text}", ruling, _status(incoming)))

    def _stop_listening_for_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None

    def _write_on(self) -> None:
        while self._rest is not None and not self._full and self._transport is not None:
            piece, rest = self._rest[:PIECE], self._rest[PIECE:]
            self._rest = rest or None
            self._transport.write(piece)


def _unacknowledged(sock: socket.socket) -> bool:
    """Whether the kernel of the other side has not taken all that was sent, or refused it since
    nobody reads there any more. False where this system cannot tell.
    """
    with suppress(AttributeError, OSError, struct.error):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return bool(info[0] == _TCP_CLOSE or struct.unpack_from("I", info, _UNACKED_AT)[0])
    return False


def _status(incoming: Incoming) -> int | None:
    return incoming.head.status if incoming.head else None
