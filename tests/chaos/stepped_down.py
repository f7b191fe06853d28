"""A MongoDB server that stops taking writes, as a primary does that has stepped down: a proxy before the real one."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import bson

_HEADER = struct.Struct("<iiii")
"""Length, request, the request answered, opcode: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/"""
_OP_MSG = 2013
_BODY_AT = 5
"""After the flags and the kind of the first section, which drivers make the command."""
_WRITES = frozenset({"bulkWrite", "createIndexes", "delete", "findAndModify", "findandmodify", "insert", "update"})
_REFUSAL = bson.encode({"ok": 0.0, "errmsg": "not primary", "code": 10107, "codeName": "NotWritablePrimary"})


class SteppedDown:
    """Passes everything on, and refuses writes while `read_only`."""

    def __init__(self, url: str) -> None:
        """`url`: the real server's, one host."""
        self.read_only = False
        self.refused = 0
        self.url = ""
        """What clients use in its place."""
        self._real = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    @contextmanager
    def running(self) -> Iterator[SteppedDown]:
        """Serve, in a thread of its own."""
        asyncio.set_event_loop(None)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        # A client that looked for a replica set here would be led past this proxy to its members.
        login = f"{self._real.username}:{self._real.password}@" if self._real.username else ""
        query = "directConnection=true" + ("&authSource=admin" if login else "")
        self.url = self._real._replace(netloc=f"{login}127.0.0.1:{port}", query=query).geturl()
        thread = threading.Thread(target=self._loop.run_forever, name="stepped-down")
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(server), self._loop).result(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        assert self._real.hostname is not None
        real_reader, real_writer = await asyncio.open_connection(self._real.hostname, self._real.port)
        answers = asyncio.ensure_future(_copy(real_reader, writer))
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._pass_on(reader, writer, real_writer)
        finally:
            answers.cancel()
            writer.close()
            real_writer.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, real: asyncio.StreamWriter
    ) -> None:
        header = await reader.readexactly(_HEADER.size)
        length, request, _, opcode = _HEADER.unpack(header)
        body = await reader.readexactly(length - _HEADER.size)
        if self.read_only and opcode == _OP_MSG and _command(body) in _WRITES:
            self.refused += 1
            answer = b"\0\0\0\0\0" + _REFUSAL  # no flags, one section
            writer.write(_HEADER.pack(_HEADER.size + len(answer), 0, request, _OP_MSG) + answer)
            await writer.drain()
            return
        real.write(header + body)
        await real.drain()


def _command(body: bytes) -> str:
    """The name of a message's command: its document's first key."""
    size = int.from_bytes(body[_BODY_AT : _BODY_AT + 4], "little")
    return next(iter(bson.decode(body[_BODY_AT : _BODY_AT + size])))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
