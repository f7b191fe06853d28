"""Renewing a lease for as long as the work under it goes on.

What keeps one renewal from the ledger must not end the renewing: an election, a killed cursor, a server that has too
much to do. Even a refusal may pass before the lease has run out, and the work that meets it too tells it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from app.core.clock import Clock
from app.core.errors import LeaseLost, LedgerUnavailable, RowrelayError

log = structlog.get_logger()

RENEWALS_A_LEASE = 3
SOONER = 4
"""After a failure the next renewal comes this many times sooner, unless the server said to wait longer."""
_NOT_AT_ALL = timedelta(0)


async def keep_renewed(
    ended: asyncio.Event, lease: timedelta, renew: Callable[[], Awaitable[None]], now: Clock, **about: str
) -> LeaseLost | None:
    """Renew until `ended` is set: then `None`. Ends with why, once the lease is another's, or has run out and may be.

    A renewal under way when `ended` is set is waited for, not cancelled: PyMongo can swallow a cancelling, and would go
    on for ever. `about`: fields for the log.
    """
    every = pause = lease / RENEWALS_A_LEASE
    until = now() + lease
    while not await _set_within(ended, pause):
        prolonged = now() + lease
        try:
            await renew()
        except LeaseLost as error:
            return error
        except RowrelayError as error:
            log.warning("renew_failed", error=str(error), **about)
            if now() >= until:
                return LeaseLost(f"the lease ran out before it could be renewed: {error}")
            told = error.retry_after if isinstance(error, LedgerUnavailable) else None
            pause = min(max(every / SOONER, told or _NOT_AT_ALL), every)
        else:
            pause, until = every, prolonged
    return None


async def _set_within(event: asyncio.Event, patience: timedelta) -> bool:
    """Whether the event was set before `patience` was over."""
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await event.wait()
    except TimeoutError:
        return False
