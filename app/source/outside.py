"""Rows outside a feed's cursor: those that no poll will read, and those that wait while nothing
polls.

Each question is bounded, and one seek by the cursor column's index where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Ahead
from app.source.cursors.findings import COUNTED
from app.source.cursors.selection import Statement
from app.source.plan import FeedPlan


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of the feed."""

    keys: tuple[str, ...] = ()
    more: bool = False
    """`COUNTED` were looked at, and there are more."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a cursor does not reach."""

    unordered: Rows
    """The cursor column is NULL in them."""
    below: Rows
    """They lie below the lowest row that there was when reading began."""
    waiting: Rows
    """They lie beyond the cursor."""
    ahead: Ahead | None
    """The cursor stands beyond what the source has reached."""
    columns: tuple[str, ...] = ()
    """Columns of the table that the feed's next poll would begin to send."""


def unordered(plan: FeedPlan) -> Statement:
    """The rows that the cursor column does not order."""
    strategy = plan.strategy
    return Statement(strategy.every_row.where(strategy.column.is_(None)).limit(COUNTED + 1))


def below(plan: FeedPlan, cursor: Cursor) -> Statement | None:
    """The rows up to the lowest, that one included; `None` where reading began with the first row
    anyway.
    """
    if (
        cursor.lowest is None
        or not cursor.spans
        or any(span.after is None for span in cursor.spans)
    ):
        return None
    rows = plan.strategy.every_row.where(
        plan.strategy.column.is_not(None), plan.strategy.upto(cursor.lowest)
    )
    return Statement(rows.limit(COUNTED + 1))


def waiting(plan: FeedPlan, cursor: Cursor) -> Statement | None:
    """The rows that a page could give next; `None` where the feed starts with those to come."""
    position, start = cursor.position, plan.feed.cursor.start
    if position is None and start == "now":
        return None
    if position is None:
        position, _ = plan.strategy.started(start, (), utc_now())
    return plan.strategy.page(position, COUNTED + 1)


def keys_of(plan: FeedPlan, rows: Sequence[Row[Any]], without: Position = None) -> Rows:
    """The keys of those that the feed's conditions select, but for the row at the position
    `without`.
    """
    matched = plan.strategy.selection.match_place
    wanted = [row for row in rows[:COUNTED] if matched is None or row[matched]]
    if without is not None:
        placed = zip(wanted, plan.strategy.positions(wanted), strict=True)
        wanted = [row for row, position in placed if position != without]
    return Rows(tuple(plan.shape.key_row(row, None).key for row in wanted), len(rows) > COUNTED)
