"""Operations in bulk, as the API takes and gives them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.console.deliveries.ref import ref_of
from app.console.deliveries.schemas import DeliveryFilter, FeedName
from app.console.deliveries.shown import DeliveryLine, RequestShown
from app.console.schemas import PAGE, Cursor, Limit, Line, Schema, Version, Why, any_spelling
from app.core.operations import Ask, Operation, OperationKind, OperationState, Pace, Phase, Stop
from app.core.states import State
from app.ledger.operation_documents import selection_of
from app.ledger.operations import InSet
from app.operations.bulk_request import DEFAULT_RATE, LARGEST_CANARY
from app.reads.difference import How

AnyKind = Annotated[OperationKind, any_spelling(OperationKind)]
AnyOperationState = Annotated[OperationState, any_spelling(OperationState)]
OperationId = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
RateText = Annotated[Line, Field(min_length=3, max_length=40, examples=["50/second", "600/minute"])]
Ratio = Annotated[float, Field(ge=0, le=1)]


class Chosen(Schema):
    """What is to be done, and with which deliveries."""

    kind: AnyKind
    filter: DeliveryFilter = Field(
        description="Of one feed. Without a state: dead, for a replay; queued and retrying, for a cancel."
    )


class NewOperationAsked(Chosen):
    """An operation to be made. Its set is frozen; nothing moves until it is started."""

    id: OperationId | None = Field(
        default=None, description="Yours: the same one made twice is one operation."
    )
    rate: RateText | None = Field(
        default=None, description="Deliveries; 50/second for a replay, else 1000/second."
    )
    canary: Annotated[int, Field(ge=0, le=LARGEST_CANARY)] = Field(
        default=0, description="Of a replay: so many first; the rest once these went well."
    )
    stop_ratio: Ratio | None = Field(
        default=None,
        description="Of a replay: pauses where more than this part of the last failed.",
    )
    why: Why

    @property
    def pace(self) -> Pace:
        """How it goes about it."""
        return Pace(self.rate or DEFAULT_RATE[self.kind], self.canary, self.stop_ratio)


class Word(Schema):
    """Why an operator moves an operation on."""

    why: Why


class Counted(Schema):
    """How many of one kind."""

    what: str
    count: int


class CountShown(Schema):
    """How many are selected."""

    number: int
    exact: bool = Field(description="Else there are more.")


class DifferenceShown(Schema):
    """A part of a request that would be another, were it made of the row as it is in the source now."""

    part: str
    how: How


class SampleShown(Schema):
    """One of the selected: its request, masked, and what of it has changed since it was logged."""

    delivery: DeliveryLine
    request: RequestShown | None
    request_untold: str | None = Field(description="Why there is no request.")
    differences: list[DifferenceShown] = Field(
        description="Between the request of the row as it was logged, which a replay sends, and as it is now."
    )
    differences_untold: str | None = Field(description="Why that cannot be told.")


class PreviewShown(Schema):
    """What an operation would be about. Nothing has moved."""

    kind: OperationKind
    feed: str
    states: list[State]
    count: CountShown | None = Field(description="null: counting took too long.")
    skipped: list[Counted] | None = Field(
        description="Why some would stay as they are; null: too many to look at each."
    )
    items: list[DeliveryLine] = Field(description="A few of the selected.")
    sample: SampleShown | None


class HappenedShown(Schema):
    """What was done to an operation."""

    at: datetime
    by: str
    what: str
    why: str | None


class ClosingShown(Schema):
    """What came of the set, read from the set and the deliveries at the end."""

    size: int
    moved: int
    skipped: list[Counted]
    unreached: int
    others: int | None = Field(
        description="Deliveries outside of the set that it moved: 0. null: looking took too long."
    )
    states: list[Counted] = Field(description="Where those that were moved stood then.")
    balances: bool


class OperationShown(Schema):
    """An operation in bulk."""

    id: str
    kind: OperationKind
    feed: str
    selection: dict[str, str]
    rate: str
    canary: int
    stop_ratio: float | None
    by: str
    why: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    state: OperationState
    asked: Ask | None = Field(description="What it does at the end of the chunk under way.")
    phase: Phase
    round: int = Field(description="Counts how often it began anew, after failures had stopped it.")
    size: int = Field(description="Of the frozen set.")
    gone_through: int
    moved: int
    skipped: list[Counted]
    waiting: str = Field(description="What it waits for; empty: for nothing.")
    worker: str | None = Field(description="Which process works on it.")
    paused_by: Stop | None
    paused_because: str | None
    closing: ClosingShown | None
    history: list[HappenedShown]
    version: Version


class InSetShown(Schema):
    """A delivery of a frozen set."""

    ref: str
    idempotency_key: str
    was: State = Field(description="The state that it was in when the set was frozen.")
    outcome: str | None = Field(
        description="moved, or why it was left as it was; null: it was not reached yet."
    )


class OperationsAsked(Schema):
    """A page of the operations."""

    state: list[AnyOperationState] = Field(default=[], max_length=10)
    feed: FeedName | None = None
    limit: Limit = PAGE
    after: Cursor = None


def shown_operation(operation: Operation) -> OperationShown:
    """An operation as it is shown."""
    plain = (
        "id", "kind", "feed", "by", "why", "created_at", "started_at", "finished_at", "state", "asked", "phase",
        "round", "size", "gone_through", "moved", "waiting", "version",
    )  # fmt: skip
    pace, paused, lease = operation.pace, operation.paused, operation.lease
    return OperationShown(
        **{name: getattr(operation, name) for name in plain},
        selection=said_selection(operation.chosen),
        rate=pace.rate,
        canary=pace.canary,
        stop_ratio=pace.stop_ratio,
        skipped=_counted(operation.skipped),
        worker=lease.worker if lease else None,
        paused_by=paused.by if paused else None,
        paused_because=paused.because if paused else None,
        closing=_closing(operation),
        history=[HappenedShown.model_validate(one) for one in operation.history],
    )


def shown_in_set(one: InSet) -> InSetShown:
    """A delivery of a set as it is shown."""
    return InSetShown(
        ref=ref_of(one.id), idempotency_key=one.id, was=one.state, outcome=one.outcome
    )


def said_selection(chosen: Mapping[str, object]) -> dict[str, str]:
    """What was selected by, in words; of many ids the first few."""
    selection = selection_of(chosen)
    said: dict[str, str] = {}
    for name, value in chosen.items():
        if name == "ids":
            some = ", ".join(selection.ids[:5])
            more = len(selection.ids) - 5
            said[name] = f"{some} and {more} more" if more > 0 else some
        elif isinstance(value, datetime):
            said[name] = value.isoformat()
        elif isinstance(value, list):
            said[name] = ", ".join(map(str, value))
        else:
            said[name] = str(value)
    if selection.attempts:
        said["attempts"] = str(selection.attempts)
    return said


def _closing(operation: Operation) -> ClosingShown | None:
    closing = operation.closing
    if closing is None:
        return None
    outcomes = dict(closing.outcomes)
    moved = outcomes.pop("moved", 0)
    return ClosingShown(
        size=closing.size,
        moved=moved,
        skipped=_counted(outcomes),
        unreached=closing.unreached,
        others=closing.others,
        states=_counted(closing.states),
        balances=closing.balances,
    )


def _counted(counts: Mapping[str, int]) -> list[Counted]:
    return [Counted(what=what, count=count) for what, count in counts.items()]


Verb = Literal["start", "pause", "resume", "abandon"]
"""What an operator may do with one."""
