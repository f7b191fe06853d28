"""Renews a lease for as long as the work under it goes on.

One failed renewal does not end the work: it may have met an election, a killed cursor or an
overloaded server. Even a refusal may pass before the lease runs out, and if it does not, the work
meets it too and reports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from app.core.clock import Clock
from app.core.errors import LeaseLost, LedgerUnavailable, RowrelayError

log = structlog.get_logger()

RENEWALS_A_LEASE = 3
SOONER = 4
"""After a failure the next renewal comes this many times sooner, unless the server said to wait
longer.
"""
_NOT_AT_ALL = timedelta(0)


@asynccontextmanager
async def kept_renewed(
    lease: timedelta,
    renew: Callable[[], Awaitable[None]],
    now: Clock,
    lost: Callable[[LeaseLost], None],
    **about: str,
) -> AsyncIterator[None]:
    """Renew the lease for as long as the body runs. `lost` is called, once, with why, when another
    worker holds the lease, or it has run out and another may.

    A renewal under way when the body ends is waited for, not cancelled: PyMongo can swallow a
    cancellation, and would then wait for ever. `about`: fields for the log.
    """
    ended = asyncio.Event()
    renewal = asyncio.create_task(_renew_until(ended, lease, renew, now, lost, about))
    try:
        yield
    finally:
        ended.set()
        await renewal


async def _renew_until(  # noqa: PLR0917 - what `kept_renewed` was given
    ended: asyncio.Event,
    lease: timedelta,
    renew: Callable[[], Awaitable[None]],
    now: Clock,
    lost: Callable[[LeaseLost], None],
    about: Mapping[str, str],
) -> None:
    every = pause = lease / RENEWALS_A_LEASE
    until = now() + lease
    while not await _set_within(ended, pause):
        prolonged = now() + lease
        try:
            await renew()
        except LeaseLost as error:
            lost(error)
            return
        except RowrelayError as error:
            log.warning("renew_failed", error=str(error), **about)
            if now() >= until:
                lost(LeaseLost(f"the lease ran out before it could be renewed: {error}"))
                return
            told = error.retry_after if isinstance(error, LedgerUnavailable) else None
            pause = min(max(every / SOONER, told or _NOT_AT_ALL), every)
        else:
            pause, until = every, prolonged


async def _set_within(event: asyncio.Event, patience: timedelta) -> bool:
    """Whether the event was set before `patience` was over."""
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await event.wait()
    except TimeoutError:
        return False
