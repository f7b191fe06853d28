"""What an operator selects among the deliveries, as conditions that the indexes by state serve."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from app.core.states import State
from app.ledger.client import Document
from app.ledger.indexes import in_state

_OPEN_SINCE_LOGGED = (State.QUEUED, State.RETRYING)


@dataclass(frozen=True, slots=True)
class Between:
    """Numbers from `least` to `most`, inclusive; `None`: no upper end."""

    least: int
    most: int | None = None

    def __str__(self) -> str:
        return f"{self.least}{'+' if self.most is None else f'-{self.most}'}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries an operator means. Fields that are not set do not narrow it."""

    states: tuple[State, ...]
    ids: tuple[str, ...] = ()
    feeds: tuple[str, ...] | None = None
    since: datetime | None = None
    """Settled at this moment or later; for open deliveries, logged."""
    until: datetime | None = None
    """Before this moment."""
    reason: str | None = None
    """Text within the reason or the last error, in any letter case."""
    status: int | None = None
    """The HTTP status of the last attempt."""
    attempts: Between | None = None
    """How many attempts since the last replay."""
    key_pattern: str | None = None
    """A regular expression for a part of the key (see `app.core.keys.part_pattern`), in any letter
    case.
    """


def narrowed(selection: Selection, feeds: Sequence[str]) -> Selection:
    """The selection narrowed to these feeds."""
    kept = [feed for feed in feeds if selection.feeds is None or feed in selection.feeds]
    return replace(selection, feeds=tuple(kept))


def conditions_of(selection: Selection, state: State) -> list[Document]:
    """The selection as conditions that must all hold, including those that the state's index needs."""
    conditions: list[Document] = [
        {name: wanted} for name, wanted in in_state(state, selection.feeds).items()
    ]
    if selection.ids:
        conditions.append({"_id": {"$in": list(selection.ids)}})
    moment = "created_at" if state in _OPEN_SINCE_LOGGED else "finished_at"
    if selection.since:
        conditions.append({moment: {"$gte": selection.since}})
    if selection.until:
        conditions.append({moment: {"$lt": selection.until}})
    if selection.status is not None:
        conditions.append({"last.status": selection.status})
    if selection.reason:
        contains = {"$regex": re.escape(selection.reason), "$options": "i"}
        conditions.append({"$or": [{"reason": contains}, {"last.error": contains}]})
    if selection.attempts:
        most = selection.attempts.most
        conditions.append(
            {
                "attempts": {"$gte": selection.attempts.least}
                | ({} if most is None else {"$lte": most})
            }
        )
    if selection.key_pattern:
        conditions.append({"key": {"$regex": selection.key_pattern, "$options": "i"}})
    return conditions


def all_of(conditions: Iterable[Document]) -> Document:
    """One filter of conditions that must all hold: side by side, so that a server finds the index;
    a condition on a field that has one already goes under `$and`.
    """
    wanted: Document = {}
    again: list[Document] = []
    for made in conditions:
        condition = dict(made)
        again += condition.pop("$and", [])
        if condition.keys() & wanted.keys():
            again.append(condition)
        else:
            wanted |= condition
    return wanted | ({"$and": again} if again else {})
