"""One delivery for a person: what it is, and what happened to it, in the order in which it did."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from app.cli.tables import print_fields
from app.cli.terminal import console
from app.core.attempts import Outcome
from app.core.clock import rough, utc_now
from app.core.shown import plain, plain_lines
from app.core.states import State
from app.reads.timeline import Attempt, Event, Happened, Next, Timeline

_INDENT = " " * 6


def print_timeline(found: Timeline) -> None:
    """Print the delivery, its timeline, and its payload."""
    print_fields({"delivery": found.id, **_facts(found)})
    console.print("\nTimeline, UTC", style="bold")
    for event in found.events:
        console.print(f"  {_moment(event.at)}  {plain(_said(event))}", soft_wrap=True)
        for line in _lines(event):
            console.print(f"{_INDENT}{line}", soft_wrap=True)
    if next_line := _next(found):
        console.print(f"  {next_line}", soft_wrap=True)
    if found.payload:
        console.print("\nPayload", style="bold")
        console.print(plain_lines(found.payload), soft_wrap=True)
    elif found.payload is None:
        console.print("\nIts payload is gone: retention has dropped it.")


def _moment(at: datetime) -> str:
    """To the millisecond, as the ledger has it."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def _facts(found: Timeline) -> dict[str, object]:
    """What is to be known at first sight; nothing that has no value."""
    facts = {
        "stored id": found.stored_id if found.stored_id != found.id else None,
        "feed": found.feed,
        "key": found.key,
        "state": f"{found.state}, acknowledged" if found.acknowledged else str(found.state),
        "reason": found.reason,
        "attempts": _attempts(found),
        "position": _position(found.position),
        "batch": found.batch,
        "from": found.restored_from,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _attempts(found: Timeline) -> str:
    many = f" since the last of {found.replays} replays"
    since = "" if not found.replays else " since it was replayed" if found.replays == 1 else many
    return f"{found.attempts}{since}"


def _position(position: Any) -> str | None:
    """The place in the source: the cursor column's value, and the parts of the key behind it."""
    if isinstance(position, list):
        return ", ".join(_part(part) for part in position)
    return None if position is None else str(position)


def _part(part: Any) -> str:
    if isinstance(part, list):
        return ":".join(map(str, part))
    return "NULL" if part is None else str(part)


_WORDS = {
    Happened.LOGGED: "logged",
    Happened.SEEN_AGAIN: "its row was read again: it was updated, and is not sent again",
    Happened.RESTORED: "put back from an archive",
}
_DONE = {
    Happened.CANCELLED: "cancelled",
    Happened.ACKNOWLEDGED: "acknowledged",
    Happened.WITHDRAWN: "acknowledgement taken back",
    Happened.REREAD: "its row was read again, as it could not be read before,",
}
"""By an operator."""
_ENDS = {State.DELIVERED: "delivered", State.DEAD: "dead letter", State.SKIPPED: "skipped"}
_OUTCOMES = {
    Outcome.DELIVERED: "delivered",
    Outcome.RETRY: "to be retried",
    Outcome.DEAD: "given up",
    Outcome.UNKNOWN: "outcome unknown",
}


def _said(event: Event) -> str:
    """The event in a line."""
    if event.attempt:
        return f"attempt {event.attempt.number}, {_outcome(event.attempt)}"
    if event.kind is Happened.REPLAYED:
        return f"replayed by {event.by}; it was {event.was}"
    if event.state:
        return _ENDS.get(event.state, event.state.value)
    return _WORDS.get(event.kind) or f"{_DONE[event.kind]} by {event.by}"


def _outcome(attempt: Attempt) -> str:
    """What one request came to."""
    if attempt.outcome is Outcome.UNKNOWN and attempt.duration_ms is None:
        return "outcome unknown: the worker's lease ran out"
    answer = f"HTTP {attempt.status}" if attempt.status is not None else "no answer"
    took = f" after {attempt.duration_ms} ms" if attempt.duration_ms is not None else ""
    return f"{_OUTCOMES[attempt.outcome]}: {answer}{took}"


def _lines(event: Event) -> Iterator[str]:
    """What more there is to say of it."""
    for told in (event.why, event.reason):
        if told:
            yield plain(told)
    if not (attempt := event.attempt):
        return
    for told in (attempt.error, attempt.note):
        if told:
            yield plain(told)
    if attempt.response:
        yield from (f"| {line}" for line in plain_lines(attempt.response).split("\n"))
    if attempt.worker:
        yield f"by {plain(attempt.worker)}"


def _next(found: Timeline) -> str | None:
    """What comes next, and what may be done."""
    if found.next is Next.RETRY and found.next_attempt_at:
        wait = found.next_attempt_at - utc_now()
        when = f"in {rough(wait)}" if wait.total_seconds() > 0 else "due now"
        return f"{_moment(found.next_attempt_at)}  next attempt, {when}"
    if found.next is Next.SEND:
        return "now: waits to be sent"
    replay = f"python -m app replay {shlex.quote(found.stored_id)}"
    if found.next is Next.MEND_AND_REPLAY:
        return f"never read: mend the row in the source, then: {replay}"
    return f"to send it again: {replay}" if found.next is Next.REPLAY else None
