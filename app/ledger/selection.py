"""What an operator selects among the deliveries, as conditions that the indexes by state serve."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.core.keys import part_pattern
from app.core.states import State
from app.ledger.client import Document
from app.ledger.indexes import in_state
from app.ledger.reasons import kind_pattern, normal

LONGEST_PART = 250
"""Characters of a part of a key that is looked for: each has many forms, and a server takes no
pattern of more than 32,764 bytes."""
_OPEN_SINCE_LOGGED = (State.QUEUED, State.RETRYING)
_BETWEEN = re.compile(r"(\d{1,9})(?:(\+)|-(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Between:
    """Numbers from `least` to `most`, inclusive; `None`: no upper end."""

    least: int
    most: int | None = None

    def __str__(self) -> str:
        return f"{self.least}{'+' if self.most is None else f'-{self.most}'}"

    @classmethod
    def parse(cls, text: str) -> Between:
        """`3`, `3+` or `2-5`. Raises `ValueError`, which says what was found, for anything else."""
        found = _BETWEEN.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'{text!r}: not a number of attempts such as "3", "3+" or "2-5"')
        least = int(found[1])
        most = None if found[2] else int(found[3]) if found[3] else least
        if most is not None and most < least:
            raise ValueError(f"{text!r}: {least} is more than {most}")
        return cls(least, most)


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
    text: str | None = None
    """Text within the key, as people write it, the reason or the last error, in any letter case."""
    reason_kind: str | None = None
    """What reasons of a kind have in common, as `app.ledger.reasons.normal` gives it. The ledger's
    server takes a few more than are of the kind: `takes` tells."""
    status: int | None = None
    """The HTTP status of the last attempt."""
    without_status: bool = False
    """Only those whose last attempt had no HTTP status, or that had no attempt."""
    attempts: Between | None = None
    """How many attempts since the last replay."""
    key_pattern: str | None = None
    """A regular expression for a part of the key (see `app.core.keys.part_pattern`), in any letter
    case.
    """

    def takes(self, delivery: Mapping[str, Any]) -> bool:
        """Whether a stored delivery that the server found is meant: it is of `reason_kind`."""
        return self.reason_kind is None or normal(delivery.get("reason", "")) == self.reason_kind


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
    conditions += _of_outcome(selection)
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


def _of_outcome(selection: Selection) -> Iterator[Document]:
    """What the last attempt came to."""
    if selection.status is not None:
        yield {"last.status": selection.status}
    if selection.without_status:
        yield {"last.status": {"$exists": False}}
    if selection.reason_kind is not None:
        yield {"reason": {"$regex": kind_pattern(selection.reason_kind)}}
    if selection.reason:
        yield {"$or": _said(selection.reason)}
    if selection.text:
        yield {"$or": [*_said(selection.text), *_in_key(selection.text)]}


def _said(text: str) -> list[Document]:
    """It stands in the reason or the last error."""
    contains = {"$regex": re.escape(text), "$options": "i"}
    return [{"reason": contains}, {"last.error": contains}]


def _in_key(text: str) -> list[Document]:
    if len(text) > LONGEST_PART:
        return []
    return [{"key": {"$regex": part_pattern(text), "$options": "i"}}]


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
