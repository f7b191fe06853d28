"""A zoo of partners: raw servers, each with a manner that real ones have, and what a client must
make of it.

`manners()` is the table. `visit` sends a row to a partner of one manner, and another row after it,
and returns what was wrong; whatever the client, so that clients can be compared (`python -m
bench.clients`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

SECONDS = 30.0
"""The deadline of a request, where it is of no interest."""

KNOWN = 0.4
"""Seconds after which a client may know that its connection is kept."""
BRIEF = 0.3
"""The deadline of a request that waits in vain."""

LIMIT = 2048
"""Bytes wanted of an answer's body."""

MOST_BYTES = 24 * 2**20
"""What a partner gets rid of before it is stopped, what fits into the buffers of the system
included.
"""

NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"

ROW = b'{"id":1,"code":"row"}'


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client makes of a partner."""

    status: int | None
    """Where the status decides; else `None`."""
    body: bytes = b""
    """Unpacked."""
    maybe: bool = False
    """Without a status: the request may have been processed."""
    error: str = ""

    @property
    def verdict(self) -> str:
        """In one word or two."""
        return (
            str(self.status) if self.status is not None else "lost" if self.maybe else "never sent"
        )


LOST, NEVER = "lost", "never sent"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whom a client trusts, and who it is, as files in PEM form."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """Who partners and clients of the zoo are (`zoo_tls.issue`)."""

    contexts: Mapping[str, ssl.SSLContext]
    credentials: Mapping[str, Credentials]


class Client(Protocol):
    """What is compared. It sends and never raises."""

    async def send(self, url: str, body: bytes, seconds: float) -> Seen:
        """POST `body`, and read at most `LIMIT` bytes of the answer."""

    async def close(self) -> None:
        """Close every connection."""


OpenClient = Callable[[Credentials], Client]


class Visitor:
    """One connection of a client, as a manner sees it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keeper: Keeper
    ) -> None:
        self.reader, self.writer, self.keeper = reader, writer, keeper
        self.requests = 0
        """Rows that came on this connection, this one included."""

    async def say(self, *parts: bytes, gap: float = 0.0) -> None:
        """Send parts, each by itself."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            self.keeper.written += len(part)
            if gap:
                await asyncio.sleep(gap)

    async def flood(self, part: bytes) -> None:
        """Send the same again and again, for as long as it is taken."""
        while self.keeper.written < 2 * MOST_BYTES:
            await self.say(part)

    def reset(self) -> None:
        """End the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def beneath(self, data: bytes) -> None:
        """Send bytes past TLS."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as raw:
            raw.send(data)

    def end_beneath(self) -> None:
        """End the connection past TLS, which then lacks its own end."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)


Behave = Callable[[Visitor], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Manner:
    """One kind of partner."""

    name: str
    behave: Behave = field(repr=False)
    """What it does with a row that it has read; where it is `early`, with a connection."""
    verdict: str
    """The status that decides, `lost` (may have been processed) or `never sent`."""
    body: bytes | None = None
    """What the answer says, unpacked; `None`: of no interest."""
    rows: int | None = 1
    """How often the row comes to the partner; `None`: cannot be told."""
    early: bool = False
    path: str = "/rows"
    host: str = "127.0.0.1"
    named: str = "127.0.0.1"
    """The host in the URL."""
    tls: str = ""
    """Which of the partner's certificates it shows (`Certificates.contexts`)."""
    credentials: str = "ours"
    """As whom the client comes (`Certificates.credentials`)."""
    large: bool = False
    """The row is of some megabytes."""
    seconds: float = SECONDS
    """The deadline."""
    scheme: str = ""
    """Of the URL, where it is not what the partner speaks."""
    pause: float = 0.0
    """Seconds before the next row is sent, for what the partner says in between to arrive."""
    before: int = 0
    """Rows that the client sends before, and that are answered well."""
    after: bool = True
    """The partner is there for the next row, and answers it well."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Keeper:
    """Runs a partner of one manner, and counts."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self.rows = 0
        self.written = 0
        self.heads: list[bytes] = []
        self.faults: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None) -> AsyncIterator[str]:
        """Listen. Yields the URL without its path."""
        if context is not None and context.verify_mode is ssl.CERT_REQUIRED:
            with AlertingServer(self, context) as port:
                yield f"https://{self.manner.named}:{port}"
            return
        server = await asyncio.start_server(
            self._connected, self.manner.host, 0, ssl=context, limit=2**25
        )
        port = server.sockets[0].getsockname()[1]
        try:
            scheme = self.manner.scheme or ("https" if context else "http")
            yield f"{scheme}://{self.manner.named}:{port}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        visitor = Visitor(reader, writer, self)
        try:
            while await self._serve(visitor):
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client closed first, or the visit is over
        finally:
            writer.close()

    async def _serve(self, visitor: Visitor) -> bool:
        """One request. False: the connection ends."""
        if self.manner.early and not self.rows:
            self.rows += 1
            return await self.manner.behave(visitor) is not False
        head = await visitor.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = next((int(v) for k, v in _fields(head) if k == b"content-length"), 0)
        await visitor.reader.readexactly(length)
        if head.split(b" ", 2)[1].startswith((b"/before", b"/next")):
            await visitor.say(NEXT)
            return True
        self.rows += 1
        visitor.requests += 1
        return await self.manner.behave(visitor) is not False


class AlertingServer:
    """Answers every row over TLS, or says by an alert why it does not: asyncio's own server closes
    without a word.
    """

    def __init__(self, keeper: Keeper, context: ssl.SSLContext) -> None:
        self._keeper, self._context = keeper, context
        self._listener = socket.create_server((keeper.manner.host, 0))
        self._open: list[tuple[socket.socket, threading.Thread]] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for accepted, serving in self._open:  # a client may keep its connection for later
            with suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)
            serving.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                serving = threading.Thread(target=self._attend, args=(accepted,), daemon=True)
                self._open.append((accepted, serving))
                serving.start()

    def _attend(self, accepted: socket.socket) -> None:
        with accepted:
            accepted.settimeout(SECONDS)
            self._serve(accepted)

    def _serve(self, accepted: socket.socket) -> None:
        try:
            secure = self._context.wrap_socket(accepted.dup(), server_side=True)
        except OSError:
            with suppress(OSError):
                accepted.shutdown(socket.SHUT_WR)
                while accepted.recv(2**16):  # else a RST would overtake the alert
                    pass
            return
        with suppress(OSError), secure, secure.makefile("rb") as stream:
            while head := b"".join(takewhile(lambda line: line != b"\r\n", stream)):
                stream.read(next(int(v) for k, v in _fields(head) if k == b"content-length"))
                is_next = head.split(b" ", 2)[1] == b"/next"
                self._keeper.rows += not is_next
                secure.sendall(
                    NEXT if is_next else NEXT.replace(b"4", b"2").replace(b"next", b"{}")
                )


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]


async def visit(
    manner: Manner, certificates: Certificates, open_client: OpenClient, slack: float
) -> list[str]:
    """What a client does wrong with a partner of this manner: nothing, or one line each.

    `slack`: seconds by which a deadline may be missed.
    """
    keeper = Keeper(manner)
    context = certificates.contexts[manner.tls] if manner.tls else None
    async with keeper.serving(context) as url:
        with patch.dict(os.environ, manner.environment):
            client = open_client(certificates.credentials[manner.credentials])
            try:
                return await _compare(manner, keeper, client, url, slack)
            finally:
                await client.close()


async def _compare(
    manner: Manner, keeper: Keeper, client: Client, url: str, slack: float
) -> list[str]:
    loop, wrong = asyncio.get_running_loop(), keeper.faults
    for _ in range(manner.before):
        await client.send(f"{url}/before", ROW, SECONDS)
        await asyncio.sleep(KNOWN)
    started = loop.time()
    body = b'{"a":"' + b"x" * 15_000_000 + b'"}' if manner.large else ROW
    seen = await client.send(url + manner.path, body, manner.seconds)
    took = loop.time() - started
    if seen.verdict != manner.verdict:
        wrong.append(f"{seen.verdict} ({seen.error or 'no error'}), not {manner.verdict}")
    if manner.body is not None and seen.status is not None and seen.body != manner.body:
        wrong.append(f"body {seen.body[:60]!r}, not {manner.body[:60]!r}")
    if took > manner.seconds + slack:
        wrong.append(f"took {took:.2f} s of {manner.seconds:g}")
    await asyncio.sleep(manner.pause)
    if manner.after:
        after = await client.send(f"{url}/next", ROW, SECONDS)
        if (after.status, after.body) != (200, b"next"):
            wrong.append(
                f"the next row's answer was {after.verdict} {after.body[:40]!r} ({after.error})"
            )
    if manner.rows is not None and keeper.rows != manner.rows:
        wrong.append(f"the row came {keeper.rows} times, not {manner.rows}")
    if keeper.written > MOST_BYTES:
        wrong.append(f"{keeper.written} bytes were taken")
    return wrong


# --- ways to behave


def says(*parts: bytes, then: str = "keep", gap: float = 0.0) -> Behave:
    """Send parts, then: `keep` the connection for the next row, `hold` it in silence, `close` or
    `reset` it.
    """

    async def behave(visitor: Visitor) -> bool:
        await visitor.say(*parts, gap=gap)
        if then == "hold":
            await asyncio.Event().wait()
        if then == "reset":
            await asyncio.sleep(0.05)  # for what was said to arrive
            visitor.reset()
        return then == "keep"

    return behave


def floods(start: bytes, part: bytes) -> Behave:
    """Send `start`, then `part` without an end."""

    async def behave(visitor: Visitor) -> bool:
        await visitor.say(start)
        with suppress(OSError):
            await visitor.flood(part)
        return False

    return behave


def drips(start: bytes, part: bytes = b"x", gap: float = 0.05) -> Behave:
    """Send `start`, then `part` every now and then, without an end."""

    async def behave(visitor: Visitor) -> bool:
        await visitor.say(start)
        while True:
            await visitor.say(part, gap=gap)

    return behave
