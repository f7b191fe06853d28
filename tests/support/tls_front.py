"""TLS in front of a server that speaks none, as a terminating proxy in production: what passes is
real TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme


class Front:
    """An authority of its own, and a port that speaks TLS before a port of this machine."""

    def __init__(self, place: Path, target: int, *, host: str = "localhost") -> None:
        """`host`: what the certificate is for; clients come by `localhost`."""
        self._target = target
        issuer = trustme.CA()
        self.authority = place / "authority.pem"
        issuer.cert_pem.write_to_path(str(self.authority))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert(host).configure_cert(self._context)
        self.port = 0
        self.accepted = 0
        """Connections whose handshake was completed."""
        self._passing: set[asyncio.Task[None]] = set()

    async def serve(self, ready: threading.Event, stopped: asyncio.Event) -> None:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stopped.wait()
        server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes what was aborted

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            for ours in (inner_writer, writer):
                ours.transport.abort()
            self._passing.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def tls_front(place: Path, target: int, *, host: str = "localhost") -> Iterator[Front]:
    """Serve in a thread of its own until the test is done."""
    front = Front(place, target, host=host)
    ready, loops = threading.Event(), list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        loops.append((asyncio.get_running_loop(), stopped := asyncio.Event()))
        await front.serve(ready, stopped)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield front
    finally:
        loop, stopped = loops[0]
        loop.call_soon_threadsafe(stopped.set)
        thread.join(30)
