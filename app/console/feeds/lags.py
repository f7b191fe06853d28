"""How many rows wait in the source: remembered, since counting them costs the source something."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from app.core.cursors import Cursor
from app.core.errors import RowrelayError, SourceUnavailable
from app.feeds.feed import Feed
from app.runtime.operator import Operator

ASK_EVERY_SECONDS = 20.0
PATIENCE_SECONDS = 10.0
"""How long one count may take."""
WAIT_SECONDS = 1.0
"""How long who asks first waits for an answer, before it is told that none is known yet."""
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class _Answer:
    rows: int | None
    error: RowrelayError | None
    until: float
    """When to ask again, by the monotonic clock."""


class Lags:
    """Counts in the background, each feed every `ASK_EVERY_SECONDS` while somebody asks, `AT_ONCE`
    feeds at a time. It fills `app.reads.status.Waiting`."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._slow = False
        """The source kept somebody waiting: nobody waits for it until it answers."""

    async def waiting(self, feed: Feed, cursor: Cursor, limit: int) -> int | None:
        """As last counted; `None`: not yet. Raises the source's errors, as it raised them last."""
        answer = self._answers.get(feed.name)
        if answer is None or time.monotonic() >= answer.until:
            asking = self._asking.get(feed.name) or self._ask(feed, cursor, limit)
            if answer is None and not self._slow:
                done, _ = await asyncio.wait({asking}, timeout=WAIT_SECONDS)
                self._slow = not done
                answer = self._answers.get(feed.name)
        if answer is None:
            return None
        if answer.error:
            raise answer.error
        return answer.rows

    async def close(self) -> None:
        """Ask no more."""
        for asking in [*self._asking.values()]:
            asking.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _ask(self, feed: Feed, cursor: Cursor, limit: int) -> asyncio.Task[None]:
        asking = asyncio.create_task(self._count(feed, cursor, limit))
        self._asking[feed.name] = asking
        asking.add_done_callback(lambda _: self._asking.pop(feed.name, None))
        return asking

    async def _count(self, feed: Feed, cursor: Cursor, limit: int) -> None:
        rows: int | None = None
        error: RowrelayError | None = None
        async with self._room:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    rows = await self._operator.source.waiting(feed, cursor, limit)
                self._slow = False
            except TimeoutError:
                error = SourceUnavailable(
                    f"feed {feed.name}: rows that wait in the source were not counted within {PATIENCE_SECONDS:.0f} s"
                )
            except RowrelayError as refused:
                error = refused
        self._answers[feed.name] = _Answer(rows, error, time.monotonic() + ASK_EVERY_SECONDS)
