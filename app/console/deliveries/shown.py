"""Deliveries, as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from app.console.deliveries.ref import ref_of
from app.console.schemas import Page, Schema, Why
from app.core.attempts import Outcome
from app.core.keys import shown_key
from app.core.states import State
from app.reads.deliveries import line_of
from app.reads.search import Matched
from app.reads.timeline import Attempt, Event, Happened, Next, Timeline

Mask = Callable[[str], str]


class DeliveryLine(Schema):
    """One delivery in a list."""

    ref: str = Field(description="What addresses it here.")
    id: str = Field(description="As people read it; every command and the search box take it.")
    idempotency_key: str = Field(description="What its requests carry as Idempotency-Key.")
    feed: str
    key: str
    state: State
    attempts: int = Field(description="Since the last replay.")
    at: datetime = Field(
        description="When it was settled, when its retry is due, or, of a queued one, logged."
    )
    status: int | None = Field(description="HTTP status of the last attempt.")
    said: str | None = Field(description="Why it is where it is, or what its last attempt came to.")
    acknowledged: bool


class DeliveryPage(Page[DeliveryLine]):
    """Some of the deliveries that were asked for."""

    previous: str | None = Field(
        description="The cursor of the page before; null: this is the first."
    )
    count: int | None = Field(description="Of the whole list; null: not counted, or not in time.")
    count_exact: bool = Field(description="Else there are `count` and more.")
    matched: Matched | None = Field(description="How `q` was read.")
    complete: bool = Field(description="Else the search stopped before it had looked at all.")
    looked_to: datetime | None = Field(description="How far it looked, where it is not complete.")


class AttemptShown(Schema):
    """One request made for a delivery, and what the partner answered."""

    number: int = Field(description="Counted from 1, over all replays.")
    outcome: Outcome = Field(description="unknown: the request may have been processed.")
    status: int | None
    duration_ms: int | None
    error: str | None
    note: str | None
    response: str | None = Field(description="The beginning of the answer's body, secrets masked.")
    worker: str | None


class EventShown(Schema):
    """Something that happened to a delivery."""

    at: datetime
    kind: Happened
    by: str | None
    why: str | None
    was: State | None
    state: State | None
    reason: str | None
    attempt: AttemptShown | None


class Action(StrEnum):
    """What an operator may do with one delivery."""

    REPLAY = "replay"
    CANCEL = "cancel"
    ACKNOWLEDGE = "acknowledge"
    WITHDRAW = "withdraw"
    """Takes an acknowledgement back."""


class ActionShown(Schema):
    """Whether something may be done now."""

    action: Action
    why_not: str | None = Field(description="null: it may be done.")


class DeliveryShown(DeliveryLine):
    """A delivery, and all that happened to it."""

    replays: int
    batch: str | None
    next: Next | None = Field(description="What comes next, or may be done about it.")
    next_attempt_at: datetime | None
    restored_from: str | None
    row: str | None = Field(
        description="The row without its values; null: retention dropped it; empty: never read."
    )
    answers_masked: bool = Field(description="Values of the row are masked in what is shown.")
    events: list[EventShown]
    events_left_out: int = Field(description="Older attempts that are not shown.")
    actions: list[ActionShown]


class Reveal(Schema):
    """Why somebody has to see a payload."""

    why: Why


class Revealed(Schema):
    """A payload."""

    payload: str


class RequestShown(Schema):
    """The request that would be sent now; values of the row and secrets masked."""

    sent: bool
    why_not: str | None = Field(description="Why it would not be sent.")
    row_from: str = Field(description="ledger or source.")
    method: str
    url: str
    headers: dict[str, str]
    body: str


class Act(Schema):
    """Why something is done."""

    why: Why


class Replay(Act):
    """Why a delivery is replayed."""

    again: bool = Field(
        default=False, description="Needed for one that was delivered: the partner gets it again."
    )


class Acknowledge(Act):
    """Why a dead letter is taken for settled."""

    undo: bool = Field(default=False, description="Make it an ordinary dead letter again.")


class Done(Schema):
    """What was done with a delivery."""

    ref: str
    action: Action
    state: State = Field(description="In which it is now.")


def fields_of(document: Mapping[str, Any], mask: Mask) -> dict[str, Any]:
    """A stored delivery as a line's fields."""
    line = line_of(dict(document))
    last = document.get("last") or {}
    said = None if line.said is None else mask(str(line.said))
    return {
        "ref": ref_of(document["_id"]),
        "id": line.id,
        "idempotency_key": document["_id"],
        "feed": line.feed,
        "key": shown_key(document["key"]),
        "state": line.state,
        "attempts": line.attempts,
        "at": line.at,
        "status": last.get("status"),
        "said": said,
        "acknowledged": bool(document.get("acknowledged")) and line.state is State.DEAD,
    }


def event_of(event: Event, mask: Mask) -> EventShown:
    """An event of the timeline."""
    return EventShown(
        at=event.at, kind=event.kind, by=event.by, why=event.why, was=event.was, state=event.state,
        reason=_masked(event.reason, mask),
        attempt=_attempt_of(event.attempt, mask) if event.attempt else None,
    )  # fmt: skip


def _attempt_of(attempt: Attempt, mask: Mask) -> AttemptShown:
    return AttemptShown(
        number=attempt.number, outcome=attempt.outcome, status=attempt.status, duration_ms=attempt.duration_ms,
        error=_masked(attempt.error, mask), note=_masked(attempt.note, mask), response=_masked(attempt.response, mask),
        worker=attempt.worker,
    )  # fmt: skip


def _masked(text: str | None, mask: Mask) -> str | None:
    return None if text is None else mask(text)


def timeline_fields(timeline: Timeline) -> dict[str, Any]:
    """What a delivery's page says beside its line."""
    return {
        "replays": timeline.replays,
        "batch": timeline.batch,
        "next": timeline.next,
        "next_attempt_at": timeline.next_attempt_at,
        "restored_from": timeline.restored_from,
    }
