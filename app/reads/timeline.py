"""What a delivery is, and what happened to it, in order: facts, for each reader to put into words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.core.attempts import Outcome
from app.core.keys import has_identity, shown_id, shown_key
from app.core.states import State
from app.ledger.client import Document


class Happened(StrEnum):
    """What can happen to a delivery."""

    LOGGED = "logged"
    SEEN_AGAIN = "seen again"
    """A poll read its row again, after an update; it is not sent again."""
    ATTEMPTED = "attempted"
    REPLAYED = "replayed"
    CANCELLED = "cancelled"
    ACKNOWLEDGED = "acknowledged"
    WITHDRAWN = "withdrawn"
    """The acknowledgement was taken back."""
    REREAD = "reread"
    """A row that could not be read was read again."""
    RESTORED = "restored"
    """From an archive."""
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request made for the delivery."""

    number: int
    """Counted from 1, over all replays."""
    outcome: Outcome
    status: int | None
    """Of HTTP; `None` where no answer came."""
    duration_ms: int | None
    """`None` where nobody can tell: the worker's lease ran out."""
    error: str | None
    note: str | None
    response: str | None
    """The beginning of the answer's body."""
    worker: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a delivery. What does not belong to its kind is `None`."""

    at: datetime
    kind: Happened
    by: str | None = None
    """Who did it, of what an operator does."""
    why: str | None = None
    """The reason given for it."""
    was: State | None = None
    """`REPLAYED`: the state that it was in."""
    attempt: Attempt | None = None
    state: State | None = None
    """`SETTLED`: how."""
    reason: str | None = None
    """`SETTLED`: why."""


class Next(StrEnum):
    """What comes next of a delivery, or may be done about it."""

    SEND = "send"
    """A worker sends it."""
    RETRY = "retry"
    """It is tried again at `Timeline.next_attempt_at`."""
    REPLAY = "replay"
    """An operator may replay it."""
    MEND_AND_REPLAY = "mend and replay"
    """Its row could not be read: mend it in the source, then replay."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A delivery as a person reads it."""

    id: str
    """As a person reads it; every command takes it."""
    stored_id: str
    feed: str
    key: str
    state: State
    acknowledged: bool
    """A dead letter that an operator has taken for settled."""
    reason: str | None
    attempts: int
    """Since the last replay."""
    replays: int
    position: Any
    """Where its row stands in the source: a value, or a list of the cursor column's value and the
    key's parts.
    """
    batch: str | None
    restored_from: str | None
    payload: str | None
    """`None`: retention has dropped it; empty: its row was never read."""
    next_attempt_at: datetime | None
    next: Next | None
    events: Sequence[Event]
    """In the order in which they happened."""


def timeline_of(delivery: Document, attempts: Sequence[Document]) -> Timeline:
    """The timeline of a stored delivery and its attempts, the oldest attempt first."""
    state = State(delivery["state"])
    return Timeline(
        id=shown_id(delivery),
        stored_id=delivery["_id"],
        feed=delivery["feed"],
        key=shown_key(delivery["key"]),
        state=state,
        acknowledged=bool(delivery.get("acknowledged")) and state is State.DEAD,
        reason=delivery.get("reason"),
        attempts=delivery["attempts"],
        replays=delivery.get("replay_count", 0),
        position=delivery.get("position"),
        batch=delivery.get("batch"),
        restored_from=delivery.get("restored_from"),
        payload=delivery.get("payload"),
        next_attempt_at=delivery.get("next_attempt_at"),
        next=_next(delivery, state),
        events=sorted(_events(delivery, attempts), key=lambda one: one.at),
    )


def _events(delivery: Document, attempts: Sequence[Document]) -> Iterator[Event]:
    yield Event(delivery["created_at"], Happened.LOGGED)
    if seen := delivery.get("seen_at"):
        yield Event(seen, Happened.SEEN_AGAIN)
    for number, attempt in enumerate(attempts, 1):
        yield Event(attempt["at"], Happened.ATTEMPTED, attempt=_attempt(number, attempt))
    for replay in delivery.get("replays", ()):
        yield Event(
            replay["at"], Happened.REPLAYED, replay["by"], replay.get("why"), State(replay["was"])
        )
    for kind in (Happened.CANCELLED, Happened.ACKNOWLEDGED, Happened.WITHDRAWN, Happened.REREAD):
        if stamp := delivery.get(kind.value):
            yield Event(stamp["at"], kind, stamp["by"], stamp.get("why"))
    if restored := delivery.get("restored_at"):
        yield Event(restored, Happened.RESTORED)
    state, at = State(delivery["state"]), delivery.get("finished_at")
    if at is not None and state is not State.CANCELLED:  # which has an event of its own
        yield Event(at, Happened.SETTLED, state=state, reason=delivery.get("reason"))


def _attempt(number: int, attempt: Mapping[str, Any]) -> Attempt:
    return Attempt(
        number,
        Outcome(attempt["outcome"]),
        attempt.get("status"),
        attempt.get("duration_ms"),
        attempt.get("error"),
        attempt.get("note"),
        attempt.get("response"),
        attempt.get("worker"),
    )


def _next(delivery: Document, state: State) -> Next | None:
    if state is State.RETRYING:
        return Next.RETRY
    if state is State.QUEUED:
        return Next.SEND
    if state is not State.DEAD or delivery.get("acknowledged"):
        return None
    if delivery.get("payload") == "" and has_identity(delivery["key"]):
        return Next.MEND_AND_REPLAY
    return Next.REPLAY if delivery.get("payload") else None
