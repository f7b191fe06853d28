"""The deadlines of requests under way: one timer for all that have the same time.

Such requests run out in the order in which they began, so the timer stands for the first in line
alone: nothing is set or cancelled for the usual request, which ends long before.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Expiring(Protocol):
    """Has until its deadline."""

    def expire(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """Those of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: dict[float, dict[Expiring, float]] = {}
        """Seconds that each has → who is under way, first come first, and its deadline by the loop's
        clock.
        """
        self._timers: dict[float, asyncio.TimerHandle] = {}
        """Each stands for the first of its line, or for one that has ended."""

    def begin(self, expiring: Expiring, seconds: float) -> float:
        """It has so many seconds from now on. Returns its deadline."""
        deadline = self._loop.time() + seconds
        self._lines.setdefault(seconds, {})[expiring] = deadline
        if seconds not in self._timers:
            self._timers[seconds] = self._loop.call_at(deadline, self._expire, seconds)
        return deadline

    def end(self, expiring: Expiring, seconds: float) -> None:
        """It has ended."""
        if line := self._lines.get(seconds):
            line.pop(expiring, None)

    def close(self) -> None:
        """Stop watching."""
        for timer in self._timers.values():
            timer.cancel()

    def _expire(self, seconds: float) -> None:
        """Expire those whose time is up, and stand for the next."""
        line, now = self._lines[seconds], self._loop.time()
        while line:
            expiring, deadline = next(iter(line.items()))
            if deadline > now:
                self._timers[seconds] = self._loop.call_at(deadline, self._expire, seconds)
                return
            del line[expiring]
            expiring.expire()
        del self._timers[seconds], self._lines[seconds]
