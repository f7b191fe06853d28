"""A thread with its own event loop, for work that must go on while the process's loop or consumer
is stuck.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

_GOODBYE_SECONDS = 3.0


class LoopThread:
    """Runs one coroutine function, which rests between its steps and ends when told to."""

    def __init__(self, name: str, work: Callable[[LoopThread], Awaitable[None]]) -> None:
        """`name`: the thread's."""
        self._work = work
        self._ending = threading.Event()
        self._woken = asyncio.Event()
        self._wake: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""
        return self._ending.is_set()

    def start(self) -> None:
        """Begin. Returns at once."""
        self._thread.start()

    def wake(self) -> None:
        """End its current rest, if any. Callable from any thread."""
        with suppress(RuntimeError):  # its loop has ended meanwhile
            self._wake()

    def stop(self) -> None:
        """Tell it to end. Waits a few seconds at most."""
        self._ending.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(_GOODBYE_SECONDS)

    async def rest(self, seconds: float) -> None:
        """Rest for so long, or until woken or told to end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        if not self.ending:
            self._woken.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._attend())
        except RuntimeError:
            if not self.ending:  # the interpreter ends while something is under way
                raise

    async def _attend(self) -> None:
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(self._woken.set)
        if self.ending:
            self._woken.set()
        try:
            await self._work(self)
        finally:
            self._wake = lambda: None
