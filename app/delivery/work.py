"""A claimed batch under way: the state shared by those who send it, record it and stop it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.core.attempts import Outcome, Result
from app.core.batches import Batch


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How a worker holds and writes its batches."""

    worker: str
    lease: timedelta
    group_size: int
    group_wait: timedelta


class Watcher:
    """Follows the progress of a batch. This one ignores it."""

    def claimed(self, batch: Batch, *, waited: bool) -> None:
        """The batch is ours. `waited`: it was due in the ledger, and others of its feed may be."""

    def loaded(self, rows: int) -> None:
        """This many of its rows are still to be sent."""

    def recorded(self, rows: int) -> None:
        """This many of them are settled."""


NOBODY = Watcher()


@dataclass(slots=True)
class Work:
    """One claimed batch under way."""

    batch: Batch
    watcher: Watcher
    until: datetime
    """When the lease runs out, as last renewed."""
    only: str | None = None
    """The only delivery to send; `None`: send all."""
    stopped: str | None = None
    """Why we send nothing more of the batch."""
    back_at: datetime | None = None
    """When the endpoint's throttle lets the rest be sent."""
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Delivery id → its sending."""
    in_flight: set[str] = field(default_factory=set)
    """Ids of deliveries whose request is with the partner now."""
    waiting: asyncio.Task[None] | None = None
    """The wait for memory for the next portion."""
    failed: Exception | None = None
    """Why a portion could not be loaded."""
    cut_off: bool = False
    """We no longer wait for requests in flight."""
    results: asyncio.Queue[Result | None] = field(default_factory=asyncio.Queue)
    """`None`: there are no more."""
    outcomes: dict[Outcome, int] = field(default_factory=lambda: defaultdict(int))
    recorded: int = 0

    def stop(self, reason: str) -> None:
        """Send nothing more; requests in flight go on."""
        self.stopped = reason
        if self.waiting:
            self.waiting.cancel()
        for delivery_id in self.tasks.keys() - self.in_flight:
            self.tasks[delivery_id].cancel()

    def cut(self) -> None:
        """Stop waiting for requests in flight: their outcome is unknown."""
        self.cut_off = True
        for delivery_id in self.in_flight:
            self.tasks[delivery_id].cancel()
