"""The worker process: one event loop in one thread, and the worker's services on it, whatever the
pool's threads.

Nothing opens at import. The loop starts, and the clients open, with the first task after the fork;
all close at shutdown, once what was handed over has ended. Pool threads hand their work over with
`call` and do not wait for it (`app/core/under_way.py`), so no partner, however slow, holds one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from typing import TypeVar

import structlog

from app.runtime.process import freeze_loaded
from app.runtime.worker import Services

try:
    import uvloop as loops
except ImportError:  # uvloop has no Windows build
    import asyncio as loops  # type: ignore[no-redef] # the one function used has one shape in both

log = structlog.get_logger()

T = TypeVar("T")

COLLECT_AFTER = 10_000
"""Objects made and not freed before Python looks for cycles among them; its own default is 700, and
a few batches under way hold more than that at any moment."""


class Runtime:
    """One event loop in one thread, and the services on it, opened on first use."""

    def __init__(self, open_services: Callable[[], AbstractAsyncContextManager[Services]]) -> None:
        """`open_services`: see `app.runtime.worker.open_worker`."""
        self._open = open_services
        self._closing = AsyncExitStack()
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._services: Services | None = None
        self._opened: asyncio.Lock | None = None

    def run(self, use_case: Callable[[Services], Awaitable[T]]) -> T:
        """Run a use case on the loop, from any other thread; return what it returns, raise what it
        raises.
        """
        loop = self._started_loop()
        return asyncio.run_coroutine_threadsafe(self._with_services(use_case), loop).result()

    def call(self, function: Callable[[Services], None]) -> None:
        """Call a function on the loop from any other thread, without waiting for it.

        The first call waits until the services are open, and raises what keeps them from it.
        """
        services = self._services or self.run(_services)
        self._started_loop().call_soon_threadsafe(function, services)

    def drain(self, grace: timedelta) -> None:
        """Send nothing more, and give requests and jobs under way `grace` to end. Returns at once;
        safe in a signal handler."""
        loop, services = self._loop, self._services
        if loop and services:
            loop.call_soon_threadsafe(services.drain, grace)

    def change(self, apply: Callable[[Services | None], None]) -> None:
        """Call it between two steps of the loop, with the services if they are open; if no loop has
        started, call it here. Waits for it, and raises what it raises."""
        with self._starting:
            if self._loop is None:
                return apply(None)
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(self._change(apply), loop).result()

    async def _change(self, apply: Callable[[Services | None], None]) -> None:
        apply(self._services)

    def held(self) -> Mapping[str, tuple[int, int]]:
        """Feed → batches under way and rows in them. From any thread."""
        services = self._services
        return services.dispatch.shares.held() if services else {}

    def ping(self, answered: Callable[[], None]) -> bool:
        """Ask the loop to call `answered`. `False`: no task has started it yet."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        loop.call_soon_threadsafe(answered)
        return True

    def close(self) -> None:
        """End what is under way, close the services and stop the loop. A later `run` would open
        them anew.
        """
        with self._starting:
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return
            asyncio.run_coroutine_threadsafe(self._close_services(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            self._loop = self._thread = None
            gc.unfreeze()

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = loops.new_event_loop()
                self._opened = asyncio.Lock()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="rowrelay-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _with_services(self, use_case: Callable[[Services], Awaitable[T]]) -> T:
        assert self._opened is not None  # noqa: S101 - made with the loop that runs us
        async with self._opened:
            if self._services is None:
                self._services = await self._closing.enter_async_context(self._open())
                spare_from_collection()
                log.info("services_opened", pid=os.getpid())
        return await use_case(self._services)

    async def _close_services(self) -> None:
        if self._services is not None:
            await self._closing.aclose()
            self._services = None


async def _services(services: Services) -> Services:
    return services


def spare_from_collection() -> None:
    """Keep Python's cycle collector from scanning everything that the process has loaded every few
    hundred rows.

    Modules, feeds and clients stay until the end. What is made from here on is collected as before,
    less often.
    """
    freeze_loaded()
    gc.set_threshold(COLLECT_AFTER)
