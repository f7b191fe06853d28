"""An operation: a replay, cancel or acknowledge of many deliveries, as a thing of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.core.batches import Lease

MOVED = "moved"
"""The outcome of a delivery that was acted on; any other says why it was left as it was."""


class OperationKind(StrEnum):
    """What is done with each delivery."""

    REPLAY = "replay"
    CANCEL = "cancel"
    ACKNOWLEDGE = "acknowledge"


class OperationState(StrEnum):
    """How far it has come. Who moves it on, and when: see `app/ledger/operations.py`."""

    FREEZING = "freezing"
    """What is selected is being written down."""
    FROZEN = "frozen"
    """The set stands; nothing of it has moved, until an operator starts it."""
    RUNNING = "running"
    PAUSED = "paused"
    """By an operator, or by itself: `paused` says why."""
    DONE = "done"
    ABANDONED = "abandoned"


ENDED = (OperationState.DONE, OperationState.ABANDONED)
WORKED_ON = (OperationState.FREEZING, OperationState.RUNNING)
"""In these a runner holds it, or may."""


class Phase(StrEnum):
    """Where a running operation is."""

    CANARY = "canary"
    """The first few are moved, and then waited for."""
    REST = "rest"


class Stop(StrEnum):
    """What paused an operation."""

    OPERATOR = "operator"
    FAILURES = "failures"
    """Too many of those moved failed. Resumed, it takes up again those that are dead by then."""
    OBSTACLE = "obstacle"
    """Its feed is paused or not configured, no worker sends, or a server refuses."""


class Ask(StrEnum):
    """What an operator asks of a running operation: done at the end of the chunk under way."""

    PAUSE = "pause"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True)
class Pace:
    """How an operation goes about it."""

    rate: str
    """Deliveries, as in `50/second`."""
    canary: int = 0
    """So many are moved first, and the rest only once these are settled well; 0: none."""
    stop_ratio: float | None = None
    """It pauses where more than this part of what it moved last failed; `None`: it never does."""


@dataclass(frozen=True, slots=True)
class Happened:
    """What was done to an operation."""

    at: datetime
    by: str
    what: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """Why it stands still."""

    by: Stop
    because: str


@dataclass(frozen=True, slots=True)
class ClosingSum:
    """What came of the set, read from the set itself once nothing more is done."""

    size: int
    outcomes: Mapping[str, int]
    """`moved`, or why not → how many."""
    unreached: int
    """Of an abandoned one: how many it had not come to."""
    others: int | None
    """Deliveries outside of the set that carry its mark: 0, or something is wrong. `None`: looking
    took too long."""
    states: Mapping[str, int]
    """Where those that were moved stood then → how many; empty where there was no time."""

    @property
    def balances(self) -> bool:
        """Whether each of the set is accounted for, and none outside of it was touched."""
        accounted = sum(self.outcomes.values()) + self.unreached
        return accounted == self.size and not self.others


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, as the ledger has it."""

    id: str
    kind: OperationKind
    feed: str
    chosen: Mapping[str, object]
    """The selection, as the ledger stores it: see `app.ledger.operation_documents`."""
    request: str
    """A hash of what was asked for: the same id means the same."""
    pace: Pace
    by: str
    why: str | None
    created_at: datetime
    """Only what had come to where it stands before then is meant."""
    state: OperationState
    walk: str = ""
    """Names the frozen set: of several attempts to write it down, the one that ended."""
    size: int = 0
    round: int = 1
    """Counts how often it began anew, after a stop by failures."""
    round_at: datetime | None = None
    phase: Phase = Phase.REST
    reached: str = ""
    """The last of the set that was gone through."""
    reached_at: datetime | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Up to there, as in `ClosingSum`."""
    moved_anew: int = 0
    """How many were acted on in this round, up to there."""
    waiting: str = ""
    """What it waits for, in words."""
    asked: Ask | None = None
    paused: Paused | None = None
    closing: ClosingSum | None = None
    history: tuple[Happened, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease: Lease | None = None
    version: int = 1
    """Counts what operators and runners did to it, not its progress."""

    @property
    def mark(self) -> str:
        """What a delivery that it moves carries in this round."""
        return f"{self.id}/{self.round}"

    @property
    def moved(self) -> int:
        """How many were acted on."""
        return self.outcomes.get(MOVED, 0)

    @property
    def skipped(self) -> Mapping[str, int]:
        """Why they were left as they were → how many."""
        return {why: count for why, count in self.outcomes.items() if why != MOVED}

    @property
    def gone_through(self) -> int:
        """How many of the set it has come to."""
        return sum(self.outcomes.values())

    @property
    def ended(self) -> bool:
        """Whether nothing more is done."""
        return self.state in ENDED
