"""A gateway before a MongoDB server that lets through so much and no more, as that of Azure Cosmos
DB does.

What is too much it answers itself, in MongoDB's wire protocol: the command was not carried out, and
may be sent again after so many milliseconds. Of an insert of many it carries out the first half.

https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/#op_msg
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import bson

from app.testbed.embedded.server import HOST

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_WRITES = {"insert": "documents", "update": "updates", "delete": "deletes"}

Document = dict[str, Any]


def said(retry_after_ms: int) -> str:
    """What the service says, but for its ids."""
    return (
        f"Error=16500, RetryAfterMs={retry_after_ms}, Details='Response status code does not indicate success: "
        "TooManyRequests (429); Substatus: 3200; ActivityId: 0; Reason: (Request rate is large. More Request Units may "
        "be needed, so no changes were made. Please retry this request later.)'"
    )


@dataclass(slots=True)
class Gateway:
    """Which commands it throttles, and when they came."""

    target: int
    """The server's port."""
    throttles: Callable[[str], bool]
    """Whether this command, by its name, is too much now."""
    retry_after_ms: int
    asked: list[tuple[str, float]] = field(default_factory=list)
    """Each of the commands that it decided on, and when, in seconds."""
    throttled: int = 0
    port: int = 0
    database: str = field(default_factory=lambda: f"throttled_{uuid4().hex[:12]}")

    @property
    def url(self) -> str:
        """Of a database of its own, without what the service has not."""
        return (
            f"mongodb://{HOST}:{self.port}/{self.database}?directConnection=true&retryWrites=false"
        )

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: a question, its answer, and so on. The driver's monitor streams: it
        is only copied.
        """
        there_reader, there_writer = await asyncio.open_connection(HOST, self.target)
        half: list[int] = []
        back = asyncio.create_task(self._copy_back(there_reader, writer, half))
        try:
            while True:
                head, body = await _message(reader)
                name, sent = _command(head, body)
                if name is None or not self._too_much(name):
                    there_writer.write(head + body)
                elif name == "insert" and len(documents := sent["documents"]) > 1:
                    half.append(len(documents))
                    there_writer.write(
                        _packed(
                            sent | {"documents": documents[: len(documents) // 2]}, _id_of(head)
                        )
                    )
                else:
                    writer.write(_packed(self._refusal(name), 0, _id_of(head)))
                    await writer.drain()
                await there_writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # either side has gone, or the test is over: nobody waits for this task
        finally:
            back.cancel()
            writer.close()
            there_writer.close()

    def _too_much(self, name: str) -> bool:
        if name in {"hello", "ismaster", "isMaster", "endSessions", "killCursors"}:
            return False
        self.asked.append((name, time.monotonic()))
        too_much = self.throttles(name)
        self.throttled += too_much
        return too_much

    def _refusal(self, name: str) -> Document:
        if name in _WRITES:
            return {"ok": 1, "n": 0, "writeErrors": [self._problem(0)]}
        problem = self._problem(0)
        return {
            "ok": 0,
            "errmsg": problem["errmsg"],
            "code": problem["code"],
            "codeName": "RequestRateTooLarge",
        }

    def _problem(self, index: int) -> Document:
        return {"index": index, "code": 16500, "errmsg": said(self.retry_after_ms)}

    async def _copy_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, half: list[int]
    ) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head, body = await _message(reader)
                if half:
                    count = half.pop()
                    _, answer = _command(head, body)
                    refused = [self._problem(index) for index in range(count // 2, count)]
                    answer["writeErrors"] = [*answer.get("writeErrors", ()), *refused]
                    _, _, to, _ = _HEADER.unpack(head)
                    writer.write(_packed(answer, 0, to))
                else:
                    writer.write(head + body)
                await writer.drain()


@asynccontextmanager
async def throttling(
    target: int, throttles: Callable[[str], bool], retry_after_ms: int
) -> AsyncIterator[Gateway]:
    """A gateway before the server on this port, on the loop of the test."""
    gateway = Gateway(target, throttles, retry_after_ms)
    server = await asyncio.start_server(gateway.connected, HOST, 0)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield gateway
    finally:
        server.close()


def first(count: int, names: Collection[str]) -> Callable[[str], bool]:
    """Throttles so many of these commands, and then no more."""
    left = [count]

    def throttles(name: str) -> bool:
        if name not in names or not left[0]:
            return False
        left[0] -= 1
        return True

    return throttles


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(_HEADER.size)
    return head, await reader.readexactly(_HEADER.unpack(head)[0] - _HEADER.size)


def _id_of(head: bytes) -> int:
    return int(_HEADER.unpack(head)[1])


def _command(head: bytes, body: bytes) -> tuple[str | None, Document]:
    """The command's name and all of it; `None` for what is no OP_MSG."""
    if _HEADER.unpack(head)[3] != _OP_MSG:
        return None, {}
    command: Document = {}
    at = 4
    while at < len(body):
        kind, at = body[at], at + 1
        (size,) = struct.unpack_from("<i", body, at)
        part = body[at : at + size]
        if kind == 0:
            command |= bson.decode(part)
        else:
            name, _, documents = part[4:].partition(b"\0")
            command[name.decode()] = bson.decode_all(documents)
        at += size
    return next(iter(command)), command


def _packed(document: Document, request: int, to: int = 0) -> bytes:
    body = struct.pack("<IB", 0, 0) + bson.encode(document)
    return _HEADER.pack(_HEADER.size + len(body), request, to, _OP_MSG) + body
