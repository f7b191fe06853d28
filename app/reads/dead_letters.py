"""Dead letters in groups of a kind: of one feed and HTTP status, for reasons that differ only in what
differs from row to row.

The newest `LOOKED_AT` are looked at, and of the groups the `GROUPS` largest are told; what is left out
is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import within
from app.ledger.listing import DeadAlike
from app.ledger.reasons import normal
from app.ledger.selection import Selection

LOOKED_AT = 50_000
REASONS = 5000
"""Different reasons, to the letter, that are read."""
GROUPS = 200
SECONDS = 5.0
_AT_ONCE = 500
"""Reasons that are looked at before anything else on the event loop has its turn."""


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of a kind."""

    feed: str
    status: int | None
    """`None`: the last attempt had no HTTP status."""
    kind: str
    """What their reasons have in common."""
    count: int
    first: datetime
    last: datetime
    """When the first and the last of them died."""
    example: str
    """The id of the last."""
    example_reason: str


@dataclass(frozen=True, slots=True)
class Groups:
    """What was found."""

    groups: Sequence[Group]
    """The largest first."""
    looked_at: int
    """Dead letters that are in a group, or in one that is left out."""
    complete: bool
    """Else there are more dead letters, reasons or groups than were looked at."""


async def read_groups(
    ledger: Ledger,
    feeds: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Groups:
    """The groups of dead letters that nobody has acknowledged, of these feeds (`None`: of all), that
    died in that time. Raises the ledger's errors."""
    selection = Selection(
        (State.DEAD,), feeds=None if feeds is None else tuple(feeds), since=since, until=until
    )
    with within(SECONDS):
        alike = await ledger.listing.dead_by_reason(selection, LOOKED_AT, REASONS)
    groups = sorted(await _grouped(alike), key=lambda one: (-one.count, one.feed, one.kind))
    looked_at = sum(one.count for one in alike)
    complete = looked_at < LOOKED_AT and len(alike) < REASONS and len(groups) <= GROUPS
    return Groups(groups[:GROUPS], looked_at, complete)


async def _grouped(alike: Iterable[DeadAlike]) -> list[Group]:
    groups: dict[tuple[str, int | None, str], Group] = {}
    for number, one in enumerate(alike):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        kind = normal(one.reason)
        known = groups.get((one.feed, one.status, kind))
        groups[one.feed, one.status, kind] = _joined(known, one, kind)
    return list(groups.values())


def _joined(known: Group | None, one: DeadAlike, kind: str) -> Group:
    if known is None:
        return Group(
            one.feed, one.status, kind, one.count, one.first, one.last, one.example, one.reason
        )
    newer = one.last > known.last
    return Group(
        one.feed,
        one.status,
        kind,
        known.count + one.count,
        min(known.first, one.first),
        max(known.last, one.last),
        one.example if newer else known.example,
        one.reason if newer else known.example_reason,
    )
