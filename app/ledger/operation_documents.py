"""An operation in bulk as the ledger stores it, and the selection it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from app.core.batches import Lease
from app.core.clock import whole_ms
from app.core.operations import (
    Ask,
    ClosingSum,
    Happened,
    Operation,
    OperationKind,
    OperationState,
    Pace,
    Paused,
    Phase,
    Stop,
)
from app.core.states import State
from app.ledger.client import Document
from app.ledger.selection import Between, Selection

_PLAIN = (
    "ids", "feeds", "since", "until", "reason", "text", "reason_kind", "status", "without_status",
    "key_pattern",
)  # fmt: skip
"""Fields of a selection that are stored as they are."""


def chosen_of(selection: Selection) -> Document:
    """A selection as it is stored; what does not narrow it is left out."""
    chosen: Document = {"states": [state.value for state in selection.states]}
    for name in _PLAIN:
        value = getattr(selection, name)
        if isinstance(value, datetime):  # as the ledger gives it back
            value = whole_ms(value)
        if value not in (None, (), False):
            chosen[name] = list(value) if isinstance(value, tuple) else value
    if selection.attempts:
        chosen["attempts"] = [selection.attempts.least, selection.attempts.most]
    return chosen


def selection_of(chosen: Mapping[str, object]) -> Selection:
    """The selection that was stored."""
    fields: dict[str, Any] = dict(chosen)
    fields["states"] = tuple(State(state) for state in fields["states"])
    for name in ("ids", "feeds"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if "attempts" in fields:
        fields["attempts"] = Between(*fields["attempts"])
    return Selection(**fields)


def entry_of(happened: Happened) -> Document:
    """An entry of a history."""
    entry = asdict(happened)
    return entry if happened.why else {name: entry[name] for name in ("at", "by", "what")}


def closing_document(closing: ClosingSum) -> Document:
    """A closing sum."""
    plain = ("size", "unreached", "others")
    return {name: getattr(closing, name) for name in plain} | {
        "outcomes": _listed(closing.outcomes),
        "states": _listed(closing.states),
    }


def document_of(operation: Operation) -> Document:
    """A new operation."""
    return {
        "_id": operation.id,
        "kind": operation.kind.value,
        "feed": operation.feed,
        "chosen": dict(operation.chosen),
        "request": operation.request,
        "pace": asdict(operation.pace),
        "by": operation.by,
        "why": operation.why,
        "created_at": operation.created_at,
        "state": operation.state.value,
        "phase": operation.phase.value,
        "round": operation.round,
        "history": [entry_of(happened) for happened in operation.history],
        "lease": None,
        "version": operation.version,
    }


def operation_of(document: Document) -> Operation:
    """An operation as stored."""
    paused, lease, asked = document.get("paused"), document.get("lease"), document.get("asked")
    return Operation(
        id=document["_id"],
        kind=OperationKind(document["kind"]),
        feed=document["feed"],
        chosen=document["chosen"],
        request=document["request"],
        pace=Pace(**document["pace"]),
        by=document["by"],
        why=document.get("why"),
        created_at=document["created_at"],
        state=OperationState(document["state"]),
        walk=document.get("walk", ""),
        size=document.get("size", 0),
        round=document["round"],
        round_at=document.get("round_at"),
        phase=Phase(document["phase"]),
        reached=document.get("reached", ""),
        reached_at=document.get("reached_at"),
        outcomes=_counted(document.get("outcomes", [])),
        moved_anew=document.get("moved_anew", 0),
        waiting=document.get("waiting", ""),
        asked=Ask(asked) if asked else None,
        paused=Paused(Stop(paused["by"]), paused["because"]) if paused else None,
        closing=_closing(document.get("closing")),
        history=tuple(Happened(**entry) for entry in document["history"]),
        started_at=document.get("started_at"),
        finished_at=document.get("finished_at"),
        lease=Lease(**lease) if lease else None,
        version=document["version"],
    )


def _closing(document: Document | None) -> ClosingSum | None:
    if document is None:
        return None
    counted = {name: _counted(document[name]) for name in ("outcomes", "states")}
    return ClosingSum(**(document | counted))


def _listed(counts: Mapping[str, int]) -> list[Document]:
    """Counts as a list: their names may hold any sign."""
    return [{"what": what, "count": count} for what, count in counts.items()]


def _counted(listed: object) -> dict[str, int]:
    return {one["what"]: one["count"] for one in cast("list[Document]", listed)}
