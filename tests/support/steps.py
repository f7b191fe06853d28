"""Interrupts a use case between any two of its steps: it dies, it freezes, or the other side is
gone for a moment.

A step is a call to the ledger, the source, the queue or the partner. Steps of one process run one
at a time, so a death never falls into a call that is under way, and the same interruption gives the
same run.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

from app.broker.queue import Queue, SiftedQueue
from app.core.errors import BrokerUnavailable, LedgerUnavailable, RowrelayError, SourceUnavailable
from app.delivery.sink import Sink
from app.ledger import Ledger
from app.source.reader import Source

Seen: TypeAlias = Callable[[str, tuple[Any, ...], Any], None]
"""Told of each step that was made: its name, its arguments, what it returned."""


class Crashed(Exception):
    """The process is dead: nothing of it may run on."""


class Kind(StrEnum):
    """What happens at the step."""

    NOTHING = "nothing"
    CRASH = "crash"
    """Before a step is after the one before it: what is left behind is the same, so one of the two will do."""
    FREEZE = "freeze"
    """All of the process stands still until it is thawed, as with SIGSTOP: its leases run out
    meanwhile.
    """
    OUTAGE = "outage"
    """The other side cannot be reached for this one call."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What interrupts a process, and where."""

    kind: Kind = Kind.NOTHING
    step: int = 0
    """Counted from 1."""
    after: bool = False
    """The step takes effect, and its answer is lost; else it is never made."""


class Steps:
    """The steps of one process, of which one may be struck."""

    def __init__(self, fate: Fate, seen: Seen | None = None) -> None:
        self._fate = fate
        self.seen = seen
        self._count = 0
        self._one_at_a_time = asyncio.Lock()
        self._dead = False
        self.frozen = asyncio.Event()
        self._thawed = asyncio.Event()

    def thaw(self, *, dead: bool = False) -> None:
        """Let a frozen process go on, or die where it stands."""
        self._dead = dead
        self._thawed.set()

    async def take(
        self,
        name: str,
        call: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        outage: type[RowrelayError] | None,
    ) -> Any:
        """Make one step, unless the process is dead or is struck here."""
        async with self._one_at_a_time:
            self._count += 1
            struck = self._count == self._fate.step
            if struck and not self._fate.after:
                await self._strike(outage)
            if self._dead:
                raise Crashed(name)
            result = await call(*args)
            if self.seen:
                self.seen(name, args, result)
            if struck and self._fate.after:
                await self._strike(outage)
            return result

    async def _strike(self, outage: type[RowrelayError] | None) -> None:
        if self._fate.kind is Kind.CRASH:
            self._dead = True
        elif self._fate.kind is Kind.FREEZE:
            self.frozen.set()
            await self._thawed.wait()
        elif self._fate.kind is Kind.OUTAGE and outage:
            raise outage("gone for a moment")
        if self._dead:
            raise Crashed


class Stepped:
    """Stands before an object: each call of a method of it that is awaited is a step. What is not
    awaited asks nobody outside of the process, so it is answered by the object itself.
    """

    def __init__(self, target: object, steps: Steps, outage: type[RowrelayError] | None) -> None:
        self._target = target
        self._steps = steps
        self._outage = outage

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)

        async def step(*args: Any, **named: Any) -> Any:
            return await self._steps.take(name, partial(method, **named), args, self._outage)

        def at_once(*args: Any, **named: Any) -> Any:
            result = method(*args, **named)
            assert not inspect.isawaitable(result), f"{name} would be awaited without being a step"
            return result

        return step if inspect.iscoroutinefunction(method) else at_once


def stepped_ledger(ledger: Ledger, steps: Steps) -> Ledger:
    """The ledger, each query a step."""
    parts = {
        name: Stepped(part, steps, LedgerUnavailable)
        for name, part in vars(ledger).items()
        if name[0] != "_"
    }
    return cast("Ledger", SimpleNamespace(**parts))


def stepped_source(source: object, steps: Steps) -> Source:
    """The source, each page a step."""
    return cast("Source", Stepped(source, steps, SourceUnavailable))


def stepped_queue(queue: Queue, steps: Steps) -> SiftedQueue:
    """The queue, each call a step."""
    return cast("SiftedQueue", Stepped(queue, steps, BrokerUnavailable))


def stepped_partner(partner: Sink, steps: Steps) -> Sink:
    """The partner, each request a step."""
    return cast("Sink", Stepped(partner, steps, None))
