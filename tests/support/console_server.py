"""A console behind a socket, for browsers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

import config
from app.console.background import background
from tests.support.console import Consoled, running_console
from tests.support.wait import until


class _Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn calls it."""
        yield


@asynccontextmanager
async def served_console(make: Callable[[], config.Config]) -> AsyncIterator[Consoled]:
    """The console on a free port of this machine, on the event loop that runs, with what it does in
    the background."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with running_console(make(), url) as console, background(console.services):
            settings = uvicorn.Config(
                console.app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=1,
            )
            server = _Server(settings)
            serving = asyncio.create_task(server.serve([listening]))
            try:
                await until(lambda: server.started, message="the console to listen")
                yield console
            finally:
                server.should_exit = True
                await serving
