"""The network between the members of a set, and from clients to them, so that it can be cut: a
proxy before each.

A proxy knows who connects by looking up whose socket it is (Linux: /proc, without root). Over a cut
link nothing arrives and nothing is refused, as on a network that drops packets; what was under way
arrives when it heals.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TypeAlias, TypeVar

import psutil

from app.testbed.embedded.server import HOST

M = TypeVar("M", bound=Hashable)

_Pair: TypeAlias = "frozenset[M | None]"
"""The two ends of a link; None: a client."""


class Links(Generic[M]):
    """One proxy a member."""

    def __init__(self, pid_of: Callable[[M], int]) -> None:
        """`pid_of`: the process that a member is now."""
        self._pid_of = pid_of
        self._targets: dict[M, int] = {}
        self._ports: dict[M, int] = {}
        self._cut: set[_Pair[M]] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Condition()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve, in a thread of its own."""
        thread = threading.Thread(target=self._loop.run_forever, name="links")
        thread.start()
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def open_to(self, member: M, port: int) -> int:
        """The port through which the member, which listens on `port`, is reached: always the same."""
        self._targets[member] = port
        if member not in self._ports:
            self._ports[member] = asyncio.run_coroutine_threadsafe(
                self._serve(member), self._loop
            ).result(timeout=10)
        return self._ports[member]

    def cut(self, one: M, other: M | None) -> None:
        """Cut a member off from another, or (None) from all clients."""
        self._change(lambda: self._cut.add(frozenset({one, other})))

    def heal(self) -> None:
        """Undo every cut."""
        self._change(self._cut.clear)

    def _change(self, change: Callable[[], None]) -> None:
        async def changing() -> None:
            async with self._changed:
                change()
                self._changed.notify_all()

        asyncio.run_coroutine_threadsafe(changing(), self._loop).result(timeout=10)

    async def _serve(self, member: M) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            try:
                with suppress(asyncio.CancelledError):  # at the end; nobody waits for this task
                    await self._connected(member, reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(connected, HOST, 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(
        self, member: M, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        pair = frozenset({member, self._who(writer.get_extra_info("peername")[1])})
        await self._until_open(pair)
        with suppress(OSError):
            real_reader, real_writer = await asyncio.open_connection(HOST, self._targets[member])
            try:
                there = asyncio.ensure_future(self._copy(reader, real_writer, pair))
                back = asyncio.ensure_future(self._copy(real_reader, writer, pair))
                try:
                    await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for copying in (there, back):
                        copying.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)
            finally:
                real_writer.close()

    def _who(self, port: int) -> M | None:
        """The member whose end of a connection that port is; None: it is a client's."""
        for member in self._targets:
            with suppress(psutil.Error):
                if any(
                    end.laddr.port == port
                    for end in psutil.Process(self._pid_of(member)).net_connections("tcp4")
                ):
                    return member
        return None

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair[M]
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(262_144):
                await self._until_open(pair)
                writer.write(data)
                await writer.drain()

    async def _until_open(self, pair: _Pair[M]) -> None:
        if pair in self._cut:
            async with self._changed:
                await self._changed.wait_for(lambda: pair not in self._cut)
