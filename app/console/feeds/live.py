"""What is new, told to everybody who watches: one reading for all of them, while anybody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from app.console.errors import NotAuthenticated, TooMany
from app.console.feeds.overview import Overview
from app.core.errors import RowrelayError

log = structlog.get_logger()

EVERY_SECONDS = 2.0
STILL_SECONDS = 15.0
"""How often it is asked whether who watches is still logged in."""
MOST = 500
"""Who may watch at once."""


@dataclass(slots=True)
class News:
    """What was read, or why nothing was."""

    overview: Overview | None
    trouble: str = ""
    written: dict[tuple[str, ...], str] = field(default_factory=dict)
    """The forms in which it is sent: each is made once, for all who get it."""

    def as_text(self, form: tuple[str, ...], write: Callable[[Overview], str]) -> str:
        """In that form, by `write` where nobody had it yet."""
        assert self.overview is not None  # noqa: S101 - who has none is told of the trouble
        if form not in self.written:
            self.written[form] = write(self.overview)
        return self.written[form]


class Watch:
    """What one of those who watch is told: the latest alone, however slow they take it."""

    def __init__(self, still: Callable[[], Awaitable[object]]) -> None:
        self._still = still
        self._checked_at = time.monotonic()
        self._news: News | None = None
        self._ended = False
        self._there = asyncio.Event()

    def tell(self, news: News) -> None:
        """The next that they take."""
        self._news = news
        self._there.set()

    def end(self) -> None:
        """They are told no more."""
        self._ended = True
        self._there.set()

    async def news(self) -> AsyncIterator[News]:
        """Everything new, until nothing is told any more, or who watches is not logged in."""
        while True:
            try:
                async with asyncio.timeout(STILL_SECONDS):
                    await self._there.wait()
            except TimeoutError:
                pass
            if self._ended or not await self._is_still_in():
                return
            self._there.clear()
            if self._news is not None:
                news, self._news = self._news, None
                yield news

    async def _is_still_in(self) -> bool:
        if time.monotonic() - self._checked_at < STILL_SECONDS:
            return True
        self._checked_at = time.monotonic()
        try:
            await self._still()
        except NotAuthenticated:
            return False
        except RowrelayError:  # nobody can tell now
            return True
        return True


class Live:
    """Who watches, and who reads for them. On one event loop."""

    def __init__(self, read: Callable[[], Awaitable[Overview]]) -> None:
        self._read = read
        self._watches: set[Watch] = set()
        self._reading: asyncio.Task[None] | None = None
        self._last: News | None = None
        self._closed = False

    @asynccontextmanager
    async def watching(self, still: Callable[[], Awaitable[object]]) -> AsyncIterator[Watch]:
        """Watch. `still`: asks whether who watches is logged in, and raises `NotAuthenticated`.
        Raises `TooMany`."""
        if len(self._watches) >= MOST:
            raise TooMany("too many pages are kept up to date: close some", 60)
        watch = Watch(still)
        self._watches.add(watch)
        if self._closed:
            watch.end()
        elif self._reading is None:
            self._reading = asyncio.create_task(self._read_on())
        elif self._last:
            watch.tell(self._last)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            if not self._watches:
                self._rest()

    def end(self) -> None:
        """Tell nobody any more: the console stops."""
        self._closed = True
        for watch in self._watches:
            watch.end()
        self._rest()

    def _rest(self) -> None:
        if self._reading:
            self._reading.cancel()
        self._reading = self._last = None

    async def _read_on(self) -> None:
        while True:
            self._last = await self._news()
            for watch in self._watches:
                watch.tell(self._last)
            await asyncio.sleep(EVERY_SECONDS)

    async def _news(self) -> News:
        try:
            return News(await self._read())
        except RowrelayError as error:
            return News(None, str(error))
        except Exception:
            log.exception("overview_not_read")
            return News(None, "the overview cannot be read: see the console's log")
