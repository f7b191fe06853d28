"""Repeats a reading no more often, and at no more cost, than its bounds allow; in between, the last
value is used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import structlog

from app.core.unforeseen import is_bug, told

log = structlog.get_logger()

T = TypeVar("T")


class Reading(Generic[T]):
    """One reading, and its last value."""

    def __init__(
        self,
        name: str,
        read: Callable[[], Awaitable[T]],
        *,
        every: float,
        share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read again after `every` seconds at the earliest, and so that reading takes at most this
        `share` of time.
        """
        self.name = name
        self.value: T | None = None
        """`None` where it could not be read."""
        self.failed: Exception | None = None
        self.took = 0.0
        self._read = read
        self._every = every
        self._share = share
        self._clock = clock
        self._read_at: float | None = None
        self._due_at = 0.0
        self._reading: asyncio.Task[None] | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the value was read."""
        return None if self._read_at is None else self._clock() - self._read_at

    def refresh(self) -> asyncio.Task[None] | None:
        """Begin to read again, if that is due. Returns the reading in progress."""
        if self._reading is not None and not self._reading.done():
            return self._reading
        if self._clock() < self._due_at:
            return None
        self._reading = asyncio.create_task(self._take())
        return self._reading

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading

    async def _take(self) -> None:
        begun = self._clock()
        try:
            self.value, self.failed = await self._read(), None
            self._read_at = begun
        except Exception as error:  # noqa: BLE001 - unforeseen ones too: the other readings are exported
            self._note_failure(error)
        self.took = self._clock() - begun
        self._due_at = begun + max(self._every, self.took / self._share)

    def _note_failure(self, error: Exception) -> None:
        if self.failed is None:
            log.warning(
                "reading_failed", reading=self.name, error=told(error), exc_info=is_bug(error)
            )
        self.value, self.failed, self._read_at = None, error, None


async def refresh_all(readings: Sequence[Reading[Any]], patience: float) -> None:
    """Begin what is due, and wait up to `patience` seconds: what takes longer is exported the next
    time.
    """
    begun = [task for reading in readings if (task := reading.refresh()) is not None]
    if begun:
        await asyncio.wait(begun, timeout=patience)
        for task in begun:
            if task.done():
                task.result()
