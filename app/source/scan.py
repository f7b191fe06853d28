"""The statements of a scan: what a feed's cursor has read, in the cursor's own order.

A window is the page of a poll, over the same index, with an end: it goes up to where the cursor
stood, never into rows that a poll has yet to read. Its rows are read whole, to compare what they
hold with what was sent; only their hashes are kept. Conditions (`where`) are the server's to look
at, as in a poll.

A feed that an operator has rewound was given several stretches to read. They are walked one after
the other, and a row that lies in one walked before is marked by the server and left out, so that
each counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal_column, or_, select
from sqlalchemy.sql import quoted_name

from app.core.position import Position, ReadRange
from app.core.rows import SourceRow
from app.source.cursors.selection import Statement
from app.source.plan import FeedPlan
from app.source.portion import Broken, Portion


@dataclass(frozen=True, slots=True)
class ScanRange:
    """Where a walk goes: through a span, to its end."""

    span: ReadRange
    """Both ends; `after` may be `None`."""
    walked: tuple[ReadRange, ...] = ()
    """Spans walked before this one: their rows are left out."""
    floor: Position = None
    """A second end: what lies up to there. `None`: the span's end is the only one."""


@dataclass(frozen=True, slots=True)
class ScanWindow:
    """A part of a stretch that was read at once."""

    rows: tuple[SourceRow, ...]
    """Key, position, change and hash of each row that the feed's conditions select; without a
    payload.
    """
    reached: Position
    """The last row's position, of all that were read; where none was, as it was before."""
    more: bool
    """Rows may be waiting behind these."""
    asked: tuple[float, float] = (0.0, 0.0)
    """Between these moments of the monotonic clock the source was at work on it."""


def window(plan: FeedPlan, stretch: ScanRange, after: Position, limit: int) -> Statement:
    """The next rows of the stretch behind `after`, at most `limit`; each ends with 1 where it was
    walked before.
    """
    strategy = plan.strategy
    rows = strategy.page(after, limit).select.where(strategy.upto(stretch.span.upto))
    if stretch.floor is not None:
        rows = rows.where(strategy.upto(stretch.floor, "floor"))
    return Statement(rows.add_columns(_mark(plan, stretch)) if stretch.walked else rows)


def cut(positions: Sequence[Position], limit: int) -> int:
    """How many of the rows belong to a window of `limit`, of which one more was asked for.

    That one is the next window's, which begins behind the last position: but not where two rows
    share that.
    """
    return (
        len(positions)
        if len(positions) > limit and positions[limit] == positions[limit - 1]
        else limit
    )


def kept(plan: FeedPlan, stretch: ScanRange, read: Portion) -> Portion:
    """The rows of a `window` that the walk gives: those that the conditions select, and no walk
    gave before.
    """
    matched = plan.strategy.selection.match_place
    if matched is None and not stretch.walked:
        return read
    places = [
        place
        for place, row in enumerate(read.rows)
        if (row.selected if isinstance(row, Broken) else matched is None or row[matched])
        and not (stretch.walked and (row.bare if isinstance(row, Broken) else row)[-1])
    ]
    return Portion(
        [read.rows[place] for place in places], [read.positions[place] for place in places]
    )


def stride(plan: FeedPlan, stretch: ScanRange, after: Position, size: int) -> Statement:
    """The last of the stretch's next `size` rows; none where there are fewer. The server passes
    over the others.
    """
    return Statement(window(plan, stretch, after, size).select.offset(size - 1).limit(1))


def counted(plan: FeedPlan, stretch: ScanRange, after: Position, size: int) -> Statement:
    """Counts, of the next `size` rows of the stretch, those that a walk would give."""
    rows = window(plan, stretch, after, size).select.subquery("walked")
    wanted: list[ColumnElement[bool]] = []
    matched = plan.strategy.selection.match_place
    columns = list(rows.c)
    if matched is not None:
        wanted.append(columns[matched] == literal_column("1"))
    if stretch.walked:
        wanted.append(columns[-1] == literal_column("0"))
    return Statement(select(func.count()).select_from(rows).where(*wanted))


def _mark(plan: FeedPlan, stretch: ScanRange) -> ColumnElement[Any]:
    before = [_within(plan, span, f"walked{place}") for place, span in enumerate(stretch.walked)]
    name = plan.strategy.selection.fresh_name("rowrelay_walked")
    marked = case((or_(*before), literal_column("1")), else_=literal_column("0"))
    return marked.label(quoted_name(name, quote=True))


def _within(plan: FeedPlan, span: ReadRange, name: str) -> ColumnElement[bool]:
    strategy = plan.strategy
    return and_(
        strategy.beyond(span.after, f"{name}_after"), strategy.upto(span.upto, f"{name}_upto")
    )
