"""Gaps: identity values that were missing when their range was read, and may still commit. Pure
functions on ranges.

Everywhere, gaps are in ascending order and do not overlap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeAlias

from app.core.position import Gap

Gaps: TypeAlias = tuple[Gap, ...]

GAP_RANGES = 50
"""Gaps that one statement asks for at most."""


def missing(after: int | None, ids: Sequence[int], since: datetime) -> Gaps:
    """The ranges between `after` (exclusive; `None`: no bound) and the last of `ids` that `ids`
    leaves out.

    Takes ascending, distinct ids. Costs a step an id, never a step a missing id.
    """
    if not ids:
        return ()
    first = Gap(None, ids[0] - 1, since) if after is None else Gap(after + 1, ids[0] - 1, since)
    head = () if after is not None and ids[0] == after + 1 else (first,)
    if ids[-1] - ids[0] == len(ids) - 1:
        return head
    return head + tuple(
        Gap(left + 1, right - 1, since) for left, right in pairwise(ids) if right - left > 1
    )


def subtract(gaps: Iterable[Gap], found: Sequence[int]) -> Gaps:
    """What is left of the gaps without the ids found, which are ascending."""
    left: list[Gap] = []
    for gap in gaps:
        start = 0 if gap.low is None else bisect_left(found, gap.low)
        left += _cut(gap, found[start : bisect_right(found, gap.high)])
    return tuple(left)


def _cut(gap: Gap, found: Sequence[int]) -> list[Gap]:
    """One gap without the ids found, all of which lie in it."""
    if not found:
        return [gap]
    low = None if gap.low is None else gap.low - 1
    pieces = list(missing(low, found, gap.since))
    if found[-1] < gap.high:
        pieces.append(replace(gap, low=found[-1] + 1))
    return pieces


def split(gaps: Sequence[Gap], at: int) -> tuple[Gaps, Gaps]:
    """The gaps up to `at` (inclusive) and those above it; a gap that holds both is cut in two."""
    below = tuple(
        gap if gap.high <= at else replace(gap, high=at)
        for gap in gaps
        if gap.low is None or gap.low <= at
    )
    above = tuple(
        gap if gap.low is not None and gap.low > at else replace(gap, low=at + 1)
        for gap in gaps
        if gap.high > at
    )
    return below, above


def expire(gaps: Iterable[Gap], now: datetime, timeout: timedelta) -> tuple[Gaps, Gaps]:
    """The gaps younger than `timeout`, and those that have reached it, in this order."""
    kept: list[Gap] = []
    expired: list[Gap] = []
    for gap in gaps:
        (expired if now - gap.since >= timeout else kept).append(gap)
    return tuple(kept), tuple(expired)


def coarsen(gaps: Sequence[Gap], max_gaps: int) -> Gaps:
    """At most `max_gaps` ranges (1 or more): the nearest neighbours are merged, with the later
    `since` of the two.

    A merged range may cover ids already read: they are read again, which costs reads and loses
    nothing.
    """
    surplus = len(gaps) - max_gaps
    if surplus <= 0:
        return tuple(gaps)
    ascending = sorted(range(1, len(gaps)), key=lambda place: _distance(gaps, place))
    joined = set(ascending[:surplus])
    merged = [gaps[0]]
    for place, gap in enumerate(gaps[1:], start=1):
        if place in joined:
            merged[-1] = Gap(merged[-1].low, gap.high, max(merged[-1].since, gap.since))
        else:
            merged.append(gap)
    return tuple(merged)


def _distance(gaps: Sequence[Gap], place: int) -> int:
    """How far the gap at `place` (1 or more) lies above its lower neighbour."""
    low = gaps[place].low
    return 0 if low is None else low - gaps[place - 1].high


class Round:
    """One round over the open gaps, from the lowest up, in as many reads as it takes.

    A read takes up to `max_gaps` ranges off with `ask` and says with `looked` how far the answer
    went. Only what was looked at can be found or expire: all else stays. Where the round was not
    finished, the next read goes on from `stopped_at`; the place is worth no more than a fair turn
    for every gap, so losing it loses nothing.
    """

    def __init__(self, gaps: Sequence[Gap], stopped_at: int | None) -> None:
        ascending = sorted(gaps, key=lambda gap: gap.high)
        self._before, self._ahead = (
            ((), tuple(ascending)) if stopped_at is None else split(ascending, stopped_at)
        )
        if not self._ahead:
            self._before, self._ahead = (), self._before
        self._looked: list[Gap] = []

    @property
    def stopped_at(self) -> int | None:
        """The last id looked at; `None` when the round is complete and the next one starts from the
        lowest gap.
        """
        if not self._ahead:
            return None
        if self._looked:
            return self._looked[-1].high
        return self._before[-1].high if self._before else None

    @property
    def complete(self) -> bool:
        """No gap of this round is left to ask for."""
        return not self._ahead

    def ask(self, max_ranges: int) -> Gaps:
        """The next ranges to ask the source for; none when the round is complete."""
        return self._ahead[:max_ranges]

    def looked(self, asked: Gaps, up_to: int | None) -> None:
        """Record that the ranges asked for were read: up to that id where the limit was hit, else
        all of them.
        """
        seen, rest = (asked, ()) if up_to is None else split(asked, up_to)
        self._looked += seen
        self._ahead = rest + self._ahead[len(asked) :]

    def settle(self, found: Sequence[int], now: datetime, timeout: timedelta) -> tuple[Gaps, Gaps]:
        """The gaps still open, and those given up, once the ids found (ascending) are taken out."""
        kept, expired = expire(subtract(self._looked, found), now, timeout)
        return self._before + kept + self._ahead, expired
