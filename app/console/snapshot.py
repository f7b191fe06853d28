"""Something that many ask for, read once for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

FRESH_SECONDS = 2.0
BUSY_PART = 0.1
"""The part of the time that reading may take: what takes longer to read is read less often."""


class Snapshot(Generic[T]):
    """The last answer, and who reads the next one. On one event loop.

    However many ask, the servers are asked by one at a time, and not again before the answer is
    `fresh_seconds` old, nor more often than `BUSY_PART` allows. An error is an answer too.
    """

    def __init__(
        self, read: Callable[[], Awaitable[T]], fresh_seconds: float = FRESH_SECONDS
    ) -> None:
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._reading: asyncio.Task[T] | None = None
        self._under_way: set[asyncio.Task[T]] = set()
        self._until = 0.0

    async def get(self) -> T:
        """The answer, as old as it may be. Raises what reading it raised."""
        reading = self._reading
        if reading is None or (reading.done() and time.monotonic() >= self._until):
            reading = self._reading = self._begin()
        return await asyncio.shield(reading)

    def forget(self) -> None:
        """Something was changed: read it anew for who asks next."""
        self._reading = None

    async def close(self) -> None:
        """Stop reading."""
        for reading in self._under_way:
            reading.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _begin(self) -> asyncio.Task[T]:
        reading = asyncio.create_task(self._read_now())
        self._under_way.add(reading)
        reading.add_done_callback(self._ended)
        return reading

    def _ended(self, reading: asyncio.Task[T]) -> None:
        self._under_way.discard(reading)
        if not reading.cancelled():
            reading.exception()  # whoever still waits for it is told; nobody may

    async def _read_now(self) -> T:
        began = time.monotonic()
        try:
            return await self._read()
        finally:
            now = time.monotonic()
            rest = (now - began) * (1 / BUSY_PART - 1)
            self._until = now + max(self._fresh_seconds, rest)
