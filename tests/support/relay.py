"""The use cases over a real ledger, with a source, a queue, a partner and a clock that do as they
are told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from app.delivery.deliver import Delivering
from app.delivery.sweep import Sweeping
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from tests.support.doubles import MemoryQueue, MemorySource, ScriptedPartner, VirtualClock
from tests.support.feeds import make_feed

LEASE = timedelta(minutes=1)
MESSAGE_WAIT = timedelta(seconds=30)


@dataclass
class Relay:
    """One source, one ledger, one queue, one partner; each property is a worker process of its own."""

    ledger: Ledger
    feed: Feed = field(default_factory=make_feed)
    clock: VirtualClock = field(default_factory=VirtualClock)
    source: MemorySource = field(default_factory=MemorySource)
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    sweep_limit: int = 100
    lease: timedelta = LEASE
    group_size: int = 50

    def __post_init__(self) -> None:
        self.partner = ScriptedPartner(self.clock)

    def polling(self, ledger: Ledger | None = None, process: str | None = None) -> Polling:
        return Polling(
            self.source,
            ledger or self.ledger,
            self.queue,
            message_wait=MESSAGE_WAIT,
            now=self.clock,
            process=process,
        )

    def delivering(
        self,
        worker: str = "w1",
        *,
        ledger: Ledger | None = None,
        partner: ScriptedPartner | None = None,
    ) -> Delivering:
        terms = DeliverySettings(
            worker, self.lease, group_size=self.group_size, group_wait=timedelta(milliseconds=20)
        )
        return Delivering(ledger or self.ledger, partner or self.partner, terms, now=self.clock)

    def sweeping(self, ledger: Ledger | None = None) -> Sweeping:
        feeds = {self.feed.name: self.feed}
        return Sweeping(
            ledger or self.ledger,
            self.queue,
            feeds,
            lease=self.lease,
            limit=self.sweep_limit,
            now=self.clock,
            steady=self.clock.steady,
        )

    async def poll_rows(self, count: int) -> list[str]:
        """Insert rows and poll them. Returns the ids of the batches that were queued for them."""
        self.source.add(count)
        before = len(self.queue.messages)
        await self.polling().poll(self.feed)
        return [batch_id for _, batch_id in self.queue.messages[before:]]

    async def deliver_all(self) -> None:
        """A worker takes every message."""
        worker = self.delivering()
        while self.queue.messages:
            await worker.deliver(self.feed, self.queue.messages.pop(0)[1])

    async def sweep_later(self, after: timedelta) -> int:
        """Let time go by, and sweep. Returns the number of messages sent."""
        self.clock.advance(after)
        return (await self.sweeping().sweep()).messages

    async def states(self) -> dict[str, str]:
        """Delivery id → state."""
        found = (
            await self.ledger._database["deliveries"]
            .find({}, {"state": 1})
            .sort("_id", 1)
            .to_list()
        )
        return {document["_id"]: document["state"] for document in found}

    async def batches(self) -> set[str]:
        return {
            document["_id"] for document in await self.ledger._database["batches"].find().to_list()
        }


def replaced(ledger: Ledger, collection: str, **methods: Callable[..., Awaitable[Any]]) -> Ledger:
    """The ledger, with methods of one of its collections replaced."""
    names = (
        "attempts",
        "backlog",
        "batches",
        "cursors",
        "deliveries",
        "pauses",
        "requeueing",
        "stats",
    )
    parts: dict[str, object] = {name: getattr(ledger, name) for name in names}
    parts[collection] = _Replaced(parts[collection], methods)
    return cast("Ledger", SimpleNamespace(**parts))


class _Replaced:
    def __init__(self, target: object, methods: dict[str, Callable[..., Awaitable[Any]]]) -> None:
        self._target = target
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._target, name)
