"""One delivery for a person: what it is, and what happened to it, in the order in which it did."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.cli.output import console, print_fields
from app.core.attempts import Outcome
from app.core.clock import rough, utc_now
from app.core.keys import has_identity, shown_id, shown_key
from app.core.shown import plain, plain_lines
from app.core.states import State
from app.ledger.client import Document

_INDENT = " " * 6


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a delivery."""

    at: datetime
    said: str
    lines: Sequence[str] = ()
    """What more there is to say of it."""


def print_delivery(delivery: Document, attempts: Sequence[Document]) -> None:
    """Print it, its timeline, and its payload."""
    print_fields({"delivery": shown_id(delivery), **_facts(delivery)})
    console.print("\nTimeline, UTC", style="bold")
    for event in sorted(_events(delivery, attempts), key=lambda one: one.at):
        console.print(f"  {_moment(event.at)}  {plain(event.said)}", soft_wrap=True)
        for line in event.lines:
            console.print(f"{_INDENT}{line}", soft_wrap=True)
    if state_line := _now(delivery):
        console.print(f"  {state_line}", soft_wrap=True)
    if payload := delivery.get("payload"):
        console.print("\nPayload", style="bold")
        console.print(plain_lines(payload), soft_wrap=True)
    elif "payload" not in delivery:
        console.print("\nIts payload is gone: retention has dropped it.")


def _moment(at: datetime) -> str:
    """To the millisecond, as the ledger has it."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def _facts(delivery: Document) -> dict[str, object]:
    """What is to be known at first sight; nothing that has no value."""
    facts = {
        "stored id": delivery["_id"] if delivery["_id"] != shown_id(delivery) else None,
        "feed": delivery["feed"],
        "key": shown_key(delivery["key"]),
        "state": _state(delivery),
        "reason": delivery.get("reason"),
        "attempts": _attempts(delivery),
        "position": _position(delivery.get("position")),
        "batch": delivery.get("batch"),
        "from": delivery.get("restored_from"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _state(delivery: Document) -> str:
    state = State(delivery["state"])
    if delivery.get("acknowledged") and state is State.DEAD:
        return f"{state}, acknowledged"
    return str(state)


def _attempts(delivery: Document) -> str:
    replays = delivery.get("replay_count", 0)
    since = "" if not replays else " since it was replayed" if replays == 1 else f" since the last of {replays} replays"
    return f"{delivery['attempts']}{since}"


def _position(position: Any) -> str | None:
    """The place in the source: the cursor column's value, and the parts of the key behind it."""
    if isinstance(position, list):
        return ", ".join(_part(part) for part in position)
    return None if position is None else str(position)


def _part(part: Any) -> str:
    if isinstance(part, list):
        return ":".join(map(str, part))
    return "NULL" if part is None else str(part)


def _events(delivery: Document, attempts: Sequence[Document]) -> Iterator[Event]:
    yield Event(delivery["created_at"], "logged")
    if seen := delivery.get("seen_at"):
        yield Event(seen, "its row was read again: it was updated, and is not sent again")
    for number, attempt in enumerate(attempts, 1):
        yield _attempt(number, attempt)
    for replay in delivery.get("replays", ()):
        yield Event(replay["at"], f"replayed by {replay['by']}; it was {replay['was']}")
    for field, said in (
        ("cancelled", "cancelled"),
        ("acknowledged", "acknowledged"),
        ("withdrawn", "acknowledgement taken back"),
        ("reread", "its row was read again, as it could not be read before,"),
    ):
        if stamp := delivery.get(field):
            yield Event(stamp["at"], f"{said} by {stamp['by']}")
    if restored := delivery.get("restored_at"):
        yield Event(restored, "put back from an archive")
    if settled := _settled(delivery):
        yield settled


def _attempt(number: int, attempt: Mapping[str, Any]) -> Event:
    """What one request came to."""
    answer = f"HTTP {attempt['status']}" if attempt.get("status") is not None else "no answer"
    took = f" after {attempt['duration_ms']} ms" if attempt.get("duration_ms") is not None else ""
    if attempt["outcome"] == Outcome.UNKNOWN.value and "duration_ms" not in attempt:
        said = "outcome unknown: the worker's lease ran out"
    else:
        said = f"{_OUTCOMES[Outcome(attempt['outcome'])]}: {answer}{took}"
    return Event(attempt["at"], f"attempt {number}, {said}", [*_answered(attempt)])


_OUTCOMES = {
    Outcome.DELIVERED: "delivered",
    Outcome.RETRY: "to be retried",
    Outcome.DEAD: "given up",
    Outcome.UNKNOWN: "outcome unknown",
}


def _answered(attempt: Mapping[str, Any]) -> Iterator[str]:
    for told in (attempt.get("error"), attempt.get("note")):
        if told:
            yield plain(told)
    if response := attempt.get("response"):
        yield from (f"| {line}" for line in plain_lines(response).split("\n"))
    if worker := attempt.get("worker"):
        yield f"by {plain(worker)}"


def _settled(delivery: Document) -> Event | None:
    """How it ended; not where an event says so already."""
    state, at = State(delivery["state"]), delivery.get("finished_at")
    if at is None or state is State.CANCELLED:
        return None
    reason = delivery.get("reason")
    return Event(at, _ENDS.get(state, state.value), [plain(reason)] if reason else ())


_ENDS = {State.DELIVERED: "delivered", State.DEAD: "dead letter", State.SKIPPED: "skipped"}


def _now(delivery: Document) -> str | None:
    """What comes next, and what may be done."""
    state = State(delivery["state"])
    if state is State.RETRYING:
        wait = delivery["next_attempt_at"] - utc_now()
        when = f"in {rough(wait)}" if wait.total_seconds() > 0 else "due now"
        return f"{_moment(delivery['next_attempt_at'])}  next attempt, {when}"
    if state is State.QUEUED:
        return "now: waits to be sent"
    if state is State.DEAD and not delivery.get("acknowledged"):
        replay = f"python -m app replay {shlex.quote(delivery['_id'])}"
        if delivery.get("payload") == "" and has_identity(delivery["key"]):
            return f"never read: mend the row in the source, then: {replay}"
        if delivery.get("payload"):
            return f"to send it again: {replay}"
    return None
