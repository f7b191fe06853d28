"""The purge lock: one process at a time purges a feed, or restores records of it, wherever it runs.

The lock is a lease in the ledger, renewed for as long as the work goes on. When its holder is
killed, it runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import structlog

from app.core.clock import Clock, utc_now
from app.core.errors import LeaseLost, RowrelayError
from app.core.renewal import kept_renewed
from app.ledger import Ledger
from app.ledger.persistence import persistent
from app.ledger.purges import Claim, Purges

log = structlog.get_logger()

ASK_SECONDS = 1.0
"""How long to wait before asking again for a lock that another process holds."""

Tell: TypeAlias = Callable[[int, str], None]
"""Told of progress: how many deliveries are done, and what is being done."""


@dataclass(slots=True)
class HeldLock:
    """A lock that is ours, as far as we know."""

    claim: Claim
    lost: LeaseLost | None = None

    def lose(self, why: LeaseLost) -> None:
        """Note that another process holds it, or may."""
        self.lost = why

    def check(self) -> None:
        """Raises `LeaseLost` where another process has taken the feed over."""
        if self.lost:
            raise self.lost


class PurgeLock:
    """Locks feeds for one process."""

    def __init__(
        self,
        ledger: Ledger,
        holder: str,
        lease: timedelta,
        *,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`holder`: who holds the lock, for people to read."""
        self._purges: Purges = ledger.purges
        self._holder = holder
        self._lease = lease
        self._now = now
        self._sleep = sleep

    @asynccontextmanager
    async def acquired(
        self, feed: str, patience: timedelta, tell: Tell
    ) -> AsyncIterator[HeldLock | None]:
        """Hold the feed's lock for as long as the body runs; `None` where another still holds it
        after `patience`.
        """
        claim = await self._claim(feed, patience, tell)
        if claim is None:
            yield None
            return
        held = HeldLock(claim)
        try:
            async with kept_renewed(
                self._lease, lambda: self.renew(held), self._now, held.lose, feed=feed
            ):
                yield held
        finally:
            with suppress(RowrelayError), persistent(sleep=self._sleep, feed=feed):
                await self._purges.release(claim)

    async def renew(self, held: HeldLock) -> None:
        """Extend the lease now. Raises `LeaseLost` where it is no longer ours."""
        held.check()
        await self._purges.renew(held.claim, self._now() + self._lease)

    async def _claim(self, feed: str, patience: timedelta, tell: Tell) -> Claim | None:
        give_up = self._now() + patience
        with persistent(sleep=self._sleep, feed=feed):
            while True:
                claim = await self._purges.claim(feed, self._holder, self._now(), self._lease)
                if claim or self._now() >= give_up:
                    return claim
                tell(
                    0,
                    f"feed {feed}: {await self._purges.holder(feed)} is purging it, or was killed while purging",
                )
                await self._sleep(ASK_SECONDS)
