"""Sees every step of every process, and says at once when one did what no process may do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.core.batches import Batch
from app.core.clock import Clock
from app.core.states import State
from tests.support.steps import Steps


@dataclass(slots=True, eq=False)
class Process:
    """One run of a use case, as the operating system would see it."""

    steps: Steps
    batch: Batch | None = None
    unsettled: set[str] = field(default_factory=set)
    """Deliveries loaded, and no attempt under this lease on record yet."""

    def holds_at(self, now: datetime) -> bool:
        """Whether its lease runs, as far as it can tell itself."""
        return self.batch is not None and self.batch.lease.until > now


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was made."""

    name: str
    process: Process
    others: Sequence[Process]
    """The processes that stand still meanwhile."""
    args: tuple[Any, ...]
    result: Any


class Witness:
    """What the ledger alone does not show: who did what, and in which order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fenced: dict[str, int] = defaultdict(int)
        """Batch id → the latest claim that fenced its deliveries."""
        self.sent: set[str] = set()
        """`<delivery>#<lease token>` of each request that reached the partner."""
        self.delivered: set[str] = set()
        """Ids of deliveries whose success is recorded, and that no operator has put back."""

    def saw(self, step: Step) -> None:
        """Take note of a step that was made, and check it."""
        look = getattr(self, f"_{step.name}", None)
        if look:
            look(step)

    def is_fenced_by_the_last(self, batch_id: str, token: str | None) -> bool:
        """Whether what a delivery carries is the fence of the last take-over of its batch."""
        return token is None or int(token.partition("-")[0]) == self._fenced[batch_id]

    def _claim(self, step: Step) -> None:
        batch: Batch | None = step.result
        step.process.batch = batch
        if batch and batch.previous:
            assert batch.previous.until <= self._clock(), "claimed under a running lease"
        if batch and batch.as_logged:  # its rows may be in memory, and are then not loaded
            self._holds(step, set(batch.delivery_ids))

    def _fence(self, step: Step) -> None:
        batch: Batch = step.args[0]
        self._fenced[batch.id] = max(self._fenced[batch.id], batch.tries)

    def _load(self, step: Step) -> None:
        self._holds(step, {delivery.id for delivery in step.result})

    def _holds(self, step: Step, to_send: set[str]) -> None:
        step.process.unsettled = to_send
        for other in step.others:
            assert not (other.holds_at(self._clock()) and other.unsettled & to_send), (
                "two workers hold one delivery"
            )

    def _send(self, step: Step) -> None:
        assert step.process.batch is not None
        self.sent.add(f"{step.args[1].id}#{step.process.batch.lease.token}")

    def _record(self, step: Step) -> None:
        step.process.unsettled -= {result.delivery.id for result in step.args[1]}

    def _succeed(self, step: Step) -> None:
        self.delivered |= {delivery_id for ids in step.args[1].values() for delivery_id in ids}

    _succeed_before = _succeed

    def _fail(self, step: Step) -> None:
        batch: Batch = step.args[0]
        assert step.result == 0 or batch.tries >= self._fenced[batch.id], (
            "a former holder recorded a failure"
        )

    def _replay(self, step: Step) -> None:
        if step.args[1] is State.DELIVERED:
            self.delivered -= set(step.args[3].delivery_ids)
