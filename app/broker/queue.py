"""The queue as use cases need it. `tasks/queue.py` implements it with Celery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from app.core.batches import NewBatch

QUEUES = POLL, DELIVER, MAINTENANCE = "poll", "deliver", "maintenance"
"""Queues of Redis, by their names: also those of their keys."""
HINTS_A_FEED = 16
"""Messages sent at once for one feed. Whoever takes one, and has room for more, takes the feed's
other batches out of the ledger: so a feed with a hundred thousand rows to send fills no queue in
front of the others."""


class Queue(Protocol):
    """Carries batch ids to the workers. It may lose any of them: the ledger knows what is owed."""

    async def publish(self, batches: Sequence[NewBatch]) -> None:
        """Send one message a batch. Raises `BrokerUnavailable`; some may have been sent by then."""

    async def depth(self) -> int:
        """Messages waiting for a worker. Raises `BrokerUnavailable`."""


class KnockingQueue(Queue, Protocol):
    """A queue that can also ask for a periodic job."""

    async def knock(self, task: str) -> None:
        """Have a worker look now which periods of the job are due, as beat does every minute. Raises
        `BrokerUnavailable`."""


class SiftedQueue(Queue, Protocol):
    """A queue that can be cleared of useless messages."""

    async def sift(self, existing: Callable[[Iterable[str]], Awaitable[set[str]]]) -> None:
        """Drop the messages whose batch is not `existing`, and those that say what another says.

        Raises `BrokerUnavailable`, and what `existing` raises; what was not put back by then is
        lost.
        """
