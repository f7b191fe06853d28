"""A Celery worker that kills itself at a chosen moment, or has a wrong clock, or a slow source: one
seam is cut.

    python -m tests.chaos.doomed MOMENT COUNT -- worker --hostname …

MOMENT is one of `MOMENTS`: at its COUNT-th occurrence the process sends itself SIGKILL. Or `clock`:
COUNT seconds are added to its machine's clock, after 3 s of the right time; `restless-clock`: added
and taken away again every 3 s. Or `slow-source`: each page of the source takes COUNT seconds more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import count
from typing import Any

from app.core.budget import Reservation
from app.core.clock import server_clock
from app.core.cursors import Cursor
from app.core.rows import Page
from app.feeds.feed import Feed
from app.ledger.attempts import Attempts
from app.ledger.batches import Batches
from app.ledger.cursors import Cursors
from app.ledger.deliveries import Deliveries
from app.partner.client import PartnerClient

MOMENTS: dict[str, tuple[type[Any], str]] = {
    "before-claim": (Batches, "claim"),
    "while-sending": (PartnerClient, "send"),
    "answered-not-written": (Attempts, "record"),
    "attempt-written-delivery-not": (Deliveries, "succeed"),
    "delivered-batch-not-settled": (Batches, "settle"),
    "poll-before-batches": (Batches, "insert"),
    "poll-batches-no-deliveries": (Deliveries, "log"),
    "poll-logged-cursor-not": (Cursors, "advance"),
}
"""Moment → what is about to be called then."""

RIGHT_SECONDS = 3.0
ON_THE_WIRE_SECONDS = 0.05


def main() -> None:
    """Cut the seam, then run Celery's own command line."""
    moment, number, _, *arguments = sys.argv[1:]
    if moment in ("clock", "restless-clock"):
        _skew(float(number), restless=moment == "restless-clock")
    elif moment == "slow-source":
        _slow_down(float(number))
    else:
        _doom(*MOMENTS[moment], int(number))
    from celery.__main__ import main as celery

    sys.argv = ["celery", "-A", "celery_app", *arguments]
    celery()


def _doom(owner: type[Any], name: str, number: int) -> None:
    """Make the `number`-th call of a method the last thing this process does."""
    calls = count(1)
    real: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def doomed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            if owner is PartnerClient:
                sending = asyncio.ensure_future(real(*args, **kwargs))
                await asyncio.wait([sending], timeout=ON_THE_WIRE_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)
        return await real(*args, **kwargs)

    setattr(owner, name, doomed)


def _skew(seconds: float, *, restless: bool) -> None:
    """Let the machine's clock jump once the process has run for a while; a restless one then jumps
    back, and on.
    """
    real, started = time.time, time.monotonic()

    def jumped() -> float:
        times = int((time.monotonic() - started) // RIGHT_SECONDS)
        wrong = times % 2 == 1 if restless else times > 0
        return real() + seconds if wrong else real()

    time.time = jumped
    server_clock._wall = jumped


def _slow_down(seconds: float) -> None:
    """Have each page of the source wait first."""
    from app.source.pages import Pages

    real = Pages.read_page

    async def slow(
        self: Pages, feed: Feed, cursor: Cursor, now: datetime, room: Reservation | None = None
    ) -> Page:
        await asyncio.sleep(seconds)
        return await real(self, feed, cursor, now, room)

    Pages.read_page = slow  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
