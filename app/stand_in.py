"""Tells of events where the workers do not: a thread in beat, and in each worker.

Beat has a worker look every half minute. Where none does, because no worker is there, or all stand still, or beat does,
whoever notices first looks in its place. The thread has an event loop and connections of its own, so that it can speak
of a worker whose loop or consumer stands still.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta

import structlog

from app.errors import RowrelayError
from app.notify import STAND_IN_AFTER, Notifying

log = structlog.get_logger()

_GOODBYE_SECONDS = 3.0

Open = Callable[[], AbstractAsyncContextManager[Notifying]]
"""Opens what it looks with, on the loop that it is called on."""


class StandIn:
    """Asks now and then whether anybody looks."""

    def __init__(self, open_notifying: Open, pause: timedelta, after: timedelta = STAND_IN_AFTER) -> None:
        """`pause`: between two questions. `after`: how long nobody may have looked."""
        self._open = open_notifying
        self._pause = pause.total_seconds()
        self._after = after
        self._ending = threading.Event()
        self._wake: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="rowrelay-stand-in", daemon=True)

    def start(self) -> None:
        """Begin. Returns at once; no server need be there yet."""
        self._thread.start()

    def stop(self) -> None:
        """End. Waits a few seconds at most."""
        self._ending.set()
        with suppress(RuntimeError):  # its loop has ended meanwhile
            self._wake()
        if self._thread.is_alive():
            self._thread.join(_GOODBYE_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._attend())
        except RuntimeError:
            if not self._ending.is_set():  # the interpreter ends while it looks
                raise

    async def _attend(self) -> None:
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), self._pause)
            if not self._ending.is_set():
                await self._look()
        self._wake = lambda: None

    async def _look(self) -> None:
        """Opened each time, with the configuration of the moment: a connection would idle for half a minute."""
        try:
            async with self._open() as notifying:
                if await notifying.look_if_due(self._after):
                    log.warning("stood_in", reason="nobody looked what people must be told of")
        except RowrelayError as error:
            log.debug("stand_in_failed", error=str(error))
        except Exception as error:  # it must go on
            log.exception("stand_in_failed", kind=type(error).__name__)
