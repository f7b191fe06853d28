"""How many rows are read at once: the server gives their sizes first, so that memory is reserved
before they come.

A stretch is read twice where its table can hold large values: once by key, cursor column and size
(`FeedPlan.scales`), and then, up to the last row that fits, whole. A row that is too large for any
payload is not read whole at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import Row

from app.core.budget import cost
from app.core.position import Position
from app.source.cursors.selection import Statement
from app.source.plan import FeedPlan

ASKED_BEYOND = 4
"""After a page that memory ended, sizes are asked of so many times its rows: asking reads them, on
some servers.
"""
FEWEST_ASKED = 16


@dataclass(frozen=True, slots=True)
class Weighed:
    """Rows of a stretch, in order, by key and cursor column alone, with the bytes of each."""

    rows: Sequence[Row[Any]]
    positions: Sequence[Position]
    sizes: Sequence[int]
    behind: Position
    """The stretch begins after it."""

    @property
    def exact(self) -> bool:
        """Whether each row has a position of its own, by which a statement can end right behind it."""
        return all(
            isinstance(here, (int, list)) and here != before
            for before, here in pairwise(self._places())
        )

    def _places(self) -> list[Position]:
        return [self.behind, *self.positions]


def weighed(plan: FeedPlan, rows: Sequence[Row[Any]], behind: Position) -> Weighed:
    """What a statement of a plan's `scales` gave."""
    place = plan.strategy.selection.size_place
    return Weighed(
        rows, plan.strategy.positions(rows, behind), [int(row[place]) for row in rows], behind
    )


def first_of(found: Weighed, count: int) -> Weighed:
    """Its first rows."""
    return Weighed(found.rows[:count], found.positions[:count], found.sizes[:count], found.behind)


def limited(statement: Statement, limit: int) -> Statement:
    """The same statement for at most so many rows."""
    return Statement(statement.select.limit(limit), statement.parameters)


def too_large(plan: FeedPlan, size: int) -> bool:
    """Whether a row of so many bytes is larger than `max_payload` for certain, whatever its JSON
    looks like.

    Twice as large is: a text that the server holds in two bytes a character may take one in JSON.
    """
    return size > 2 * plan.feed.max_payload


def too_large_reason(plan: FeedPlan, size: int) -> str:
    """Why such a row is a dead letter."""
    return f"payload of about {size} bytes is over max_payload {plan.feed.max_payload}"


def costs(plan: FeedPlan, sizes: Sequence[int]) -> list[int]:
    """What each row costs in memory; one that is too large comes without what it holds."""
    return [cost(0 if too_large(plan, size) else size) for size in sizes]


def fitting(each: Sequence[int], portion: int) -> int:
    """How many of the first rows cost no more than a portion together: one at least."""
    held = 0
    for count, size in enumerate(each):
        held += size
        if held > portion and count:
            return count
    return len(each)


def runs(plan: FeedPlan, sizes: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """Rows low (inclusive) to high (exclusive) that are alike: too large, or not."""
    low = 0
    for large, alike in groupby(sizes, key=lambda size: too_large(plan, size)):
        high = low + len(list(alike))
        yield low, high, large
        low = high


def most_rows(plan: FeedPlan, portion: int) -> int:
    """How many rows of short values fit into a portion, whose sizes are not asked for."""
    names = sum(len(name) for name in plan.shape.names)
    return max(1, portion // cost(names + 32 * len(plan.shape.names)))
