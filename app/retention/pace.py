"""Paces background work: chunks of about a tenth of a second, with a pause after each."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

SIZE_LIMIT = 500
"""Most deliveries in a chunk."""
_FIRST_SIZE, _LEAST_SIZE = 100, 20
_SHORT_SECONDS, _LONG_SECONDS = 0.1, 0.25
"""A chunk that takes less is doubled, one that takes more is halved."""
BUSY_PART = 0.25
"""The part of its share that background work keeps while deliveries are behind."""
ASK_SECONDS = 1.0
"""How long an answer to "busy?" is used."""
LONGEST_PAUSE_SECONDS = 30.0
_KEPT = 10_000

Busy = Callable[[], Awaitable[bool]]


@dataclass(slots=True)
class Chunk:
    """A chunk in progress."""

    count: int = 0
    """How many deliveries it holds; set by the caller."""


class Pace:
    """The pace of one run. `size` is how many deliveries the next chunk should hold."""

    def __init__(
        self, share: float, busy: Busy, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """`share`: the part of the time, above 0 and up to 1, that chunks may take; `busy`: whether
        to slow down.
        """
        self._share = share
        self._ask = busy
        self._sleep = sleep
        self._busy = False
        self._asked_at = float("-inf")
        self.size = _FIRST_SIZE
        self.chunk_seconds: deque[float] = deque(maxlen=_KEPT)
        """How long the last 10,000 chunks took."""

    @asynccontextmanager
    async def chunk(self) -> AsyncIterator[Chunk]:
        """Do one chunk, then pause; after a chunk that fails, do not."""
        started = time.monotonic()
        chunk = Chunk()
        yield chunk
        took = time.monotonic() - started
        if chunk.count:
            self._note(chunk.count, took)
        await self._sleep(pause_after(took, await self._share_now()))

    def _note(self, count: int, took_seconds: float) -> None:
        """Adjust the size of the next chunk to the time that a chunk should take."""
        self.chunk_seconds.append(took_seconds)
        if took_seconds > _LONG_SECONDS:
            self.size = max(_LEAST_SIZE, self.size // 2)
        elif took_seconds < _SHORT_SECONDS and count >= self.size:
            self.size = min(SIZE_LIMIT, self.size * 2)

    async def _share_now(self) -> float:
        if time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._busy = await self._ask()
            self._asked_at = time.monotonic()
        return self._share * (BUSY_PART if self._busy else 1)


def pause_after(took_seconds: float, share: float) -> float:
    """How long to pause, in seconds, so that the work took that share of the time."""
    return min(took_seconds * (1 / share - 1), LONGEST_PAUSE_SECONDS)
