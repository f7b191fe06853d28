"""A claimed batch under way: the state shared by those who send it, record it and stop it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.core.attempts import Outcome, Result
from app.core.batches import Batch
from app.delivery.kept import Kept


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

    def settled(self, rows: int) -> None:
        """This many of them need no request."""

    def answered(self) -> None:
        """One of them is answered, and yet to be recorded."""


NOBODY = Watcher()


class Results:
    """What requests came to and is yet to be recorded, handed over in groups. Used on one event
    loop, by one who takes groups.
    """

    def __init__(self) -> None:
        self._came: list[Result] = []
        self._wanted = 0
        """So many are waited for."""
        self._enough: asyncio.Future[None] | None = None
        self._ended = False

    def put(self, result: Result) -> None:
        """One more."""
        self._came.append(result)
        if self._enough is not None and len(self._came) >= self._wanted:
            self._wake()

    def end(self) -> None:
        """There are no more."""
        self._ended = True
        self._wake()

    async def group(self, size: int, wait: timedelta) -> tuple[list[Result], bool]:
        """Wait for a result, then for more until there are `size` or so long has passed. Returns at
        most `size`; true: there are no more.
        """
        await self._until(1, None)
        await self._until(size, wait.total_seconds())
        group, self._came = self._came[:size], self._came[size:]
        return group, self._ended and not self._came

    async def _until(self, wanted: int, seconds: float | None) -> None:
        if self._ended or len(self._came) >= wanted:
            return
        loop = asyncio.get_running_loop()
        self._wanted, self._enough = wanted, loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._wake)
        try:
            await self._enough
        finally:
            self._enough = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._enough is not None and not self._enough.done():
            self._enough.set_result(None)


@dataclass(slots=True)
class Work:
    """One claimed batch under way."""

    batch: Batch
    watcher: Watcher
    until: datetime
    """When the lease runs out, as last renewed."""
    only: str | None = None
    """The only delivery to send; `None`: send all."""
    kept: Kept | None = None
    """Its rows, as this process logged them; `None`: they are loaded."""
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
    results: Results = field(default_factory=Results)
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
