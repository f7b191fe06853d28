"""Every endpoint's throttle in one process, and what keeps them together with those of the other
processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from app.core.clock import Clock, utc_now
from app.core.parts import in_parts
from app.feeds.feed import Feed
from app.partner.throttle.store import ThrottleStore
from app.partner.throttle.throttle import EndpointThrottle

log = structlog.get_logger()

BEAT_SECONDS = 1.0
ASKED_AT_ONCE = 50
"""Endpoints asked for with one trip to Redis, each by a script of its own."""


class Throttles:
    """The throttles of every endpoint that this process sends to, and what keeps them together."""

    def __init__(
        self, store: ThrottleStore | None = None, now: Clock = utc_now, *, part: float = 1.0
    ) -> None:
        """Without a `store` the process is alone, and nothing runs in the background. `part` of
        each feed's concurrency is what this process has room for.
        """
        self._store = store
        self._part = part
        self._now = now
        self._throttles: dict[str, EndpointThrottle] = {}
        self._hearing: dict[str, asyncio.Task[None]] = {}
        """Feed → the first question of its throttle, while that is under way."""
        self._feeds: Mapping[str, Feed] = {}
        self._running: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to beat and to listen, on the running event loop."""
        if self._store:
            self._running = [
                asyncio.create_task(self._beat()),
                asyncio.create_task(self._listen(self._store)),
            ]

    async def of(self, feed: Feed) -> EndpointThrottle:
        """The throttle of the feed's endpoint. The first time, it first hears what all know, and
        whoever comes meanwhile waits for that.
        """
        throttle = self._throttles.get(feed.name)
        if throttle is None:
            feed = self._feeds.get(
                feed.name, feed
            )  # what began with a feed as it was goes by its limits as they are
            throttle = self._throttles[feed.name] = EndpointThrottle(
                feed, self._store, now=self._now, part=self._part
            )
            hearing = self._hearing[feed.name] = asyncio.create_task(throttle.sync())
            hearing.add_done_callback(lambda _: self._hearing.pop(throttle.feed.name, None))
        if (first := self._hearing.get(feed.name)) is not None:
            await asyncio.shield(first)
        return throttle

    def known(self, feed: Feed) -> EndpointThrottle | None:
        """The feed's throttle, if `of` has made it."""
        return self._throttles.get(feed.name)

    def quiet(self) -> list[str]:
        """Feeds of which no batch had better be claimed now, as far as this process knows."""
        return [name for name, one in self._throttles.items() if one.parked_until() is not None]

    def take(self, feeds: Mapping[str, Feed], removed: Iterable[str], part: float) -> None:
        """Follow these feeds from now on, and drop those `removed`."""
        self._feeds, self._part = dict(feeds), part
        for name, throttle in self._throttles.items():
            if name in feeds:
                throttle.take(feeds[name], part)
        gone = [name for name in removed if self._throttles.pop(name, None)]
        if gone and self._store:
            leaving = asyncio.create_task(self._store.leave(gone))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Stop, tell the others that this process is gone, and close the connections."""
        for task in self._running:
            while (
                not task.done()
            ):  # redis-py can swallow a cancelling that meets the end of a time limit
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)
        for throttle in self._throttles.values():
            await throttle.close()
        await asyncio.gather(*self._leaving)
        if self._store:
            await self._store.leave(list(self._throttles))
            await self._store.close()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._sync_all(list(self._throttles.values()))

    async def _listen(self, store: ThrottleStore) -> None:
        async for message in store.messages():
            if message is None:
                await self._sync_all(list(self._throttles.values()))
            elif (throttle := self._throttles.get(message[0])) is not None:
                await throttle.hear(message[1], message[2])

    async def _sync_all(self, throttles: Iterable[EndpointThrottle]) -> None:
        """Ask for all, some at a time; once Redis has not answered, the others can wait for the next
        beat. Never raises: whoever asks goes on for as long as the process runs."""
        try:
            for some in in_parts(throttles, ASKED_AT_ONCE):
                if self._store is None:
                    return
                said = [throttle.say() for throttle in some]
                heard = await self._store.sync_all(said)
                for place, throttle in enumerate(some):
                    await throttle.heard(said[place], heard[place] if heard else None)
                if not self._store.up:
                    return
        except Exception as error:
            log.exception("throttle_failed", kind=type(error).__name__)
