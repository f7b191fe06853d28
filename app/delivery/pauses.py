"""Which feeds are paused, as one worker knows it: asked of the ledger once for all batches of a
second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from app.feeds.feed import Feed
from app.ledger import Ledger

PAUSES_KNOWN_SECONDS = 1.0
"""How long a worker goes by its knowledge that a feed is not paused, before it asks the ledger
again.
"""


class Pauses:
    """One worker process's knowledge."""

    def __init__(self, ledger: Ledger, resumed: Callable[[str], None]) -> None:
        """`resumed` is told of each feed that an operator resumed."""
        self._ledger = ledger
        self._resumed = resumed
        self._paused: Sequence[str] = ()
        self._resumes: Mapping[str, int] | None = None
        self._asked_at = 0.0
        self._written_at = 0.0

    async def has(self, feed: Feed) -> bool:
        """Whether the feed is paused. That it is not may be known from up to `PAUSES_KNOWN_SECONDS`
        ago. That it is, is always asked, so a feed that was resumed goes on at once. Raises the
        ledger's errors.
        """
        now = time.monotonic()
        known_since = max(now - PAUSES_KNOWN_SECONDS, self._written_at)
        if feed.name in self._paused or self._asked_at <= known_since:
            self._paused, resumes = await self._ledger.pauses.pauses_and_resumes()
            self._asked_at = now
            self._begin_anew(resumes)
        return feed.name in self._paused

    async def add(self, feed: Feed, reason: str) -> None:
        """Pause the feed. Raises the ledger's errors."""
        await self._ledger.pauses.pause(feed.name, reason)
        self._written_at = time.monotonic()

    def _begin_anew(self, resumes: Mapping[str, int]) -> None:
        """What made a feed pause must not outlive the pause."""
        if self._resumes is not None:
            for name in {
                name for name, count in resumes.items() if self._resumes.get(name, 0) != count
            }:
                self._resumed(name)
        self._resumes = resumes
