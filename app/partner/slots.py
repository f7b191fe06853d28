"""A semaphore that can be resized while in use: it bounds the requests that this process has in
flight.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """At most `limit` holders at once. After it shrinks, nobody gets in until enough have left."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many slots there are."""
        return self._limit

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._taken

    def resize(self, limit: int) -> None:
        """Change the limit. Where it grows, waiters get in."""
        self._limit = limit
        self._let_in()

    def take(self) -> bool:
        """Take one if that needs no waiting, without the cost of a coroutine."""
        if self._taken < self._limit and not self._waiting:
            self._taken += 1
            return True
        return False

    async def wait(self) -> None:
        """Take one, in turn with others who wait."""
        if self.take():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def leave(self) -> None:
        """Give one back."""
        self._taken -= 1
        if self._waiting:
            self._let_in()

    async def __aenter__(self) -> None:
        await self.wait()

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def _let_in(self) -> None:
        while self._waiting and self._taken < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        """Pass on a slot that was granted at the moment of cancellation."""
        if turn.cancelled():
            return
        self._taken -= 1
        self._let_in()


def fair_share(cap: int, processes: int, rank: int) -> int:
    """What the process of this rank (from 0) may use of `cap`: the shares add up to it, but each is
    at least 1.
    """
    share, rest = divmod(cap, max(processes, 1))
    return max(1, share + (rank < rest))
