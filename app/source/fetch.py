"""Reads rows as far as memory allows, and leaves out those that break the statement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.budget import PORTION, Budget, NoRoom, Reservation, Room
from app.core.rows import SourceRow
from app.feeds.feed import Feed
from app.source.access import Access
from app.source.broken import Salvage, Stretch
from app.source.cursors.strategy import TIES
from app.source.plan import FeedPlan
from app.source.portion import Broken, Portion, Read
from app.source.run import in_order, run
from app.source.weighing import (
    ASKED_BEYOND,
    FEWEST_ASKED,
    Weighed,
    costs,
    first_of,
    fitting,
    limited,
    most_rows,
    runs,
    too_large,
    too_large_reason,
    weighed,
)

T = TypeVar("T")


class Fetching(Access):
    """Reads stretches within the process's memory for rows."""

    def __init__(self, engine: AsyncEngine, budget: Budget | None = None) -> None:
        """`budget`: the process's memory for rows."""
        super().__init__(engine)
        self._budget = budget or Budget()
        self._asked: dict[str, int] = {}
        """Feed → of how many rows sizes are asked, where a page before was ended by memory."""

    def room(self, feed: Feed) -> Reservation:
        """Memory for a page of the feed: holds nothing yet."""
        return self._budget.reading(feed.name)

    async def _with_room(
        self,
        feed: Feed,
        read: Callable[[Reservation], Awaitable[T]],
        room: Reservation | None = None,
    ) -> T:
        """Read; where memory is short, wait for it and read again. What is held without a `room` is
        given back.
        """
        hold = room or self.room(feed)
        try:
            while True:
                try:
                    return await read(hold)
                except NoRoom as error:
                    await hold.wait(error.size)
        finally:
            if room is None:
                hold.release()

    async def _fetch(
        self,
        connection: AsyncConnection,
        plan: FeedPlan,
        stretch: Stretch,
        limit: int,
        *,
        room: Room,
        must: bool = True,
    ) -> Portion:
        """Read a stretch whose statement asks for one row more than `limit`: that row says whether
        there are more.

        No more than memory has room for is read. Where there is none, `must` raises `NoRoom`; else
        nothing is read. Where a value breaks the statement, and the plan is new, the rows that do
        are found.
        """
        try:
            if plan.scales is None:
                return await self._fetch_short(
                    connection, plan, stretch, min(limit, most_rows(plan, room.portion))
                )
            return await self._fetch_weighed(connection, plan, stretch, limit, room)
        except NoRoom:
            if must:
                raise
            return Portion(more=True)
        except SQLAlchemyError as error:
            if not self._may_be_a_row(plan, error):
                raise
            found = await self._salvaging(connection, plan, room).read(stretch, error)
            return Portion(
                found.rows[:limit], found.positions[:limit], found.more or len(found) > limit
            )

    async def _fetch_short(
        self, connection: AsyncConnection, plan: FeedPlan, stretch: Stretch, limit: int
    ) -> Portion:
        """Where no value can be large."""
        rows = await run(connection, limited(stretch.whole(plan), limit + 1))
        read = Portion(list(rows), plan.strategy.positions(rows, stretch.behind))
        return await with_ties(connection, plan, read, limit)

    async def _fetch_weighed(
        self, connection: AsyncConnection, plan: FeedPlan, stretch: Stretch, limit: int, room: Room
    ) -> Portion:
        """Ask what the rows weigh, then read those that there is room for."""
        assert plan.scales is not None  # noqa: S101 - the caller looked
        ask = min(limit, self._asked.get(plan.feed.name, limit))
        whole = stretch.whole(plan.scales)
        rows = await run(connection, whole if ask == limit else limited(whole, ask + 1))
        found = weighed(plan.scales, rows, stretch.behind)
        each = costs(plan, found.sizes[:ask])
        count = fitting(each, room.portion)
        if count < len(each) or count == ask < limit:
            self._note_asked(plan.feed, count)
        if not count:
            return Portion()
        if not room.take(sum(each[:count])):
            raise NoRoom(sum(each[:count]))
        read = await self._read_weighed(connection, plan, stretch, first_of(found, count))
        return replace(read, more=count < len(found.rows))

    def _note_asked(self, feed: Feed, count: int) -> None:
        """Ask of fewer rows after a page that memory ended, and of more again as pages take all
        that was asked of.
        """
        self._asked[feed.name] = max(FEWEST_ASKED, ASKED_BEYOND * count)
        if self._asked[feed.name] >= feed.page_size:
            del self._asked[feed.name]

    async def _read_weighed(
        self, connection: AsyncConnection, plan: FeedPlan, stretch: Stretch, found: Weighed
    ) -> Portion:
        """Read these rows whole, but for those that are too large."""
        if not found.exact:
            rows = await run(connection, limited(stretch.whole(plan), len(found.rows)))
            return Portion(list(rows), plan.strategy.positions(rows, stretch.behind))
        read = Portion()
        for low, high, large in runs(plan, found.sizes):
            if large:
                read += left_behind(plan, found, low, high)
            else:
                read += await _tied_with_large(connection, plan, found, read, range(low, high))
                rows = await run(connection, stretch.part(plan, found.positions, low, high))
                read += Portion(
                    list(rows),
                    plan.strategy.positions(rows, found.positions[low - 1] if low else None),
                )
        return read

    def _salvaging(self, connection: AsyncConnection, plan: FeedPlan, room: Room) -> Salvage:
        return Salvage(plan, partial(run, connection), self._said, room=room)


async def _tied_with_large(
    connection: AsyncConnection, plan: FeedPlan, found: Weighed, read: Portion, part: range
) -> Portion:
    """Of these of the rows found, those that the server holds equal to the row before them, which was
    left behind for its size: no statement gives them behind it.
    """
    if not part.start or plan.scales is None:
        return Portion()
    ends = found.positions[part.start - 1], found.positions[part.start]
    tied, whole = plan.scales.strategy.tied(*ends), plan.strategy.tied(*ends)
    if tied is None or whole is None:
        return Portion()
    equal = plan.scales.strategy.positions(await run(connection, tied))
    wanted = [
        position
        for position in (found.positions[place] for place in part)
        if position in equal and position not in read.positions
    ]
    if not wanted or ends[0] not in equal:
        return Portion()
    rows = await run(connection, whole)
    pairs = zip(rows, plan.strategy.positions(rows), strict=True)
    left = [(row, position) for row, position in pairs if position in wanted]
    return Portion([row for row, _ in left], [position for _, position in left])


async def with_ties(
    connection: AsyncConnection, plan: FeedPlan, read: Portion, size: int
) -> Portion:
    """The first `size` rows (1 or more); with them, where more were read, what the server holds
    equal to the last.

    Raises `SourceRefused` where that is more than `TIES`.
    """
    more = read.more or len(read) > size
    rows, positions = read.rows[:size], read.positions[:size]
    tied = plan.strategy.tied(positions[-1], read.positions[size]) if len(read) > size else None
    if tied is None:
        return Portion(rows, positions, more)
    found = await run(connection, tied)
    if len(found) > TIES:
        raise plan.strategy.refused(
            f"and key are the same in more than {TIES} rows: the key must be unique"
        )
    others = [
        (row, position)
        for row, position in zip(found, plan.strategy.positions(found), strict=True)
        if position not in positions
    ]
    return Portion(
        rows + [row for row, _ in others], positions + [position for _, position in others], more
    )


def first_too_large(plan: FeedPlan, rows: Sequence[Row[Any]]) -> tuple[SourceRow, bool] | None:
    """Of rows that were weighed: the first, if it is too large, and whether a poll gives it."""
    assert plan.scales is not None  # noqa: S101 - they were weighed
    first = rows[:1]
    size = sum(int(row[plan.scales.strategy.selection.size_place]) for row in first)
    if not too_large(plan, size):
        return None
    ordered = in_order(plan.scales, first)
    if not ordered:
        return replace(
            plan.scales.shape.key_row(first[0], None), error=too_large_reason(plan, size)
        ), False
    (left,) = left_behind(plan, weighed(plan.scales, ordered, None), 0, 1).rows
    assert isinstance(left, Broken)  # noqa: S101 - as all of them are
    return left.found, left.selected


def before_too_large(plan: FeedPlan, rows: Sequence[Row[Any]]) -> int:
    """How many of these rows, weighed, can be read together: one at least, and none that is too
    large but the first.
    """
    assert plan.scales is not None  # noqa: S101 - they were weighed
    sizes = [int(row[plan.scales.strategy.selection.size_place]) for row in rows]
    small = next((place for place, size in enumerate(sizes) if too_large(plan, size)), len(sizes))
    return max(1, min(small, fitting(costs(plan, sizes), PORTION)))


def left_behind(plan: FeedPlan, found: Weighed, low: int, high: int) -> Portion:
    """Rows that are too large, by key and cursor column alone, with the reason."""
    assert plan.scales is not None  # noqa: S101 - they were weighed
    shape, matched = plan.scales.shape, plan.scales.strategy.selection.match_place
    left: list[Read] = []
    for row, position, size in zip(
        found.rows[low:high], found.positions[low:high], found.sizes[low:high], strict=True
    ):
        key = shape.key_row(row, position)
        reason = key.error or too_large_reason(plan, size)
        left.append(Broken(replace(key, error=reason), row, matched is None or bool(row[matched])))
    return Portion(left, list(found.positions[low:high]))
