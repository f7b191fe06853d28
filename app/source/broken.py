"""Finds the rows whose values break a statement, so that only those are left out.

A computed column that divides by zero, a view that converts, a condition of `where` on text that is
no number, a value that the driver cannot decode: one such row fails the whole statement, on SQL
Server also for the rows that came before it. The stretch is read once more by key and cursor column
alone; that tells which rows there are, and the statement is repeated for halves of the stretch, and
halves of the halves that fail, from the left. A row that fails alone is broken.

The number of statements is bounded, and what they read in bytes: each part is weighed first where
rows may be large. What they did not get to is read by the next page. Where the bare rows fail too,
or where only `where` fails and no row shows that it can be told at all, the feed is at fault, and
that is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

from sqlalchemy import Row, exc

from app.core.budget import NoRoom, Room
from app.core.errors import ValueRefused
from app.core.position import Gap, Position
from app.source.cursors.gaps import Gaps
from app.source.cursors.selection import Statement
from app.source.errors import is_by_value
from app.source.plan import FeedPlan, narrowed, plan_table, without_where
from app.source.portion import Broken, Portion, Read
from app.source.scan import ScanRange, window
from app.source.weighing import costs, too_large, too_large_reason

STATEMENTS = 128
"""That one page spends on its broken rows at most: enough for three in a page of 50,000."""
_TIED = (
    "the source cannot give this row: another, equal to it in cursor column and key, cannot be read"
)
_SAMPLES = 5
"""Rows behind the cursor that are tried, to see whether `where` can be told of any."""

Rows: TypeAlias = "Sequence[Row[Any]]"
Run: TypeAlias = Callable[[Statement], Awaitable[Rows]]
Part: TypeAlias = Callable[[FeedPlan, Sequence[Position], int, int], Statement]
"""The statement for rows low (inclusive) to high (exclusive) of a list of positions."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a statement that broke was to read."""

    whole: Callable[[FeedPlan], Statement]
    """All of it, by any plan of the feed."""
    part: Part
    behind: Position
    """The stretch begins after it."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of reading a part."""

    rows: Rows = ()
    failed: Exception | None = None
    too_large: int | None = None
    """The bytes of a row that is too large for any payload."""
    no_room: int | None = None
    """The cost of what there is no memory for now."""

    @property
    def read(self) -> bool:
        return self.failed is None and self.too_large is None and self.no_room is None


class Salvage:
    """Reads what can be read of a stretch whose statement broke."""

    def __init__(
        self, plan: FeedPlan, run: Run, said: Callable[[Exception], str], *, room: Room
    ) -> None:
        """`said`: an error in one line. `room`: memory for what is read."""
        self._plan = plan
        self._run = run
        self._room = room
        self._held = 0
        self._said = said
        self._whole_rows = plan_table(plan.table, without_where(plan.feed), plan.product)
        self._bare = narrowed(plan, where=False)
        self._left = STATEMENTS

    async def read(self, stretch: Stretch, error: Exception) -> Portion:
        """The stretch's rows, a `Broken` in the place of each that fails; cut short where too many
        do.

        `error`: what broke the statement. It is raised again where the rows are not its cause.
        """
        bare = await self._run(
            stretch.whole(self._bare)
        )  # breaks as well: key, cursor or position is at fault
        positions = self._bare.strategy.positions(bare)
        done = Portion()
        told, untold = False, False
        ranges = [(0, len(bare))] if bare else []
        while ranges and self._left > 0:
            low, high = ranges.pop()
            tried = await self._part(stretch, positions, low, high)
            if tried.read:
                told = told or bool(tried.rows)
                came = self._plan.strategy.positions(tried.rows)
                read = [*done.positions, *came]
                done += await self._tied_with_broken(bare, positions, low, high, read)
                done += Portion(list(tried.rows), came)
            elif high - low > 1:
                middle = (low + high) // 2
                ranges += [(middle, high), (low, middle)]
            elif tried.no_room is not None:
                if not done.rows:
                    raise NoRoom(tried.no_room)
                ranges.append((low, high))
                break
            else:
                reason, conditional = await self._reason(
                    stretch.part(self._whole_rows, positions, low, high), tried
                )
                untold = untold or conditional
                found = replace(self._bare.shape.key_row(bare[low], positions[low]), error=reason)
                done += Portion([Broken(found, bare[low])], [positions[low]])
        if untold and not told and not await self._where_can_be_told(stretch.behind):
            raise self._where_refused(error, done.rows)
        return replace(done, more=bool(ranges))

    async def _tied_with_broken(
        self,
        bare: Rows,
        positions: Sequence[Position],
        low: int,
        high: int,
        read: Sequence[Position],
    ) -> Portion:
        """Of rows low to high that were not read, those that the server holds equal to the row before
        them, which is broken: no statement gives them behind it, nor without it.
        """
        strategy = self._bare.strategy
        tied = strategy.tied(positions[low - 1], positions[low]) if low else None
        equal = strategy.positions(await self._run(tied)) if tied is not None else ()
        left = Portion()
        if not low or positions[low - 1] not in equal:
            return left
        for place in range(low, high):
            position = positions[place]
            if position in equal and position not in read:
                key = self._bare.shape.key_row(bare[place], position)
                left += Portion([Broken(replace(key, error=_TIED), bare[place])], [position])
        return left

    async def _part(
        self, stretch: Stretch, positions: Sequence[Position], low: int, high: int
    ) -> _Tried:
        """Read a part whole, where it is known to fit into memory, and no row in it is too large."""
        if self._plan.scales is not None:
            rows, failed = await self._attempt(
                stretch.part(self._plan.scales, positions, low, high)
            )
            sizes = [int(row[self._plan.scales.strategy.selection.size_place]) for row in rows]
            if failed or ((large := max(sizes, default=0)) and too_large(self._plan, large)):
                return _Tried(failed=failed, too_large=None if failed else large)
            weight = sum(costs(self._plan, sizes))
            too_much = self._held + weight > self._room.portion and (self._held or high - low > 1)
            if too_much or not self._room.take(weight):
                return _Tried(no_room=weight)
            self._held += weight
        rows, failed = await self._attempt(stretch.part(self._plan, positions, low, high))
        return _Tried(rows, failed)

    async def _attempt(self, statement: Statement) -> tuple[Rows, Exception | None]:
        self._left -= 1
        try:
            return await self._run(statement), None
        except exc.SQLAlchemyError as error:
            if not is_by_value(error, self._plan.product):
                raise
            return (), error

    async def _reason(self, without_where: Statement, tried: _Tried) -> tuple[str, bool]:
        """Why a row failed, and whether it was for the feed's conditions alone."""
        if tried.failed is None:
            return too_large_reason(self._plan, tried.too_large or 0), False
        said = self._said(tried.failed)
        if not self._plan.feed.where:
            return f"the source cannot give this row: {said}", False
        _, fails_too = await self._attempt(without_where)
        if fails_too is not None:
            return f"the source cannot give this row: {said}", False
        return f"the feed's where cannot be told of this row: {said}", True

    async def _where_can_be_told(self, behind: Position) -> bool:
        """Whether it can be of one of the rows read last: then it is the row that is at fault, not
        the condition.
        """
        if behind is None:
            return False
        bare, strategy = self._bare.strategy, self._plan.strategy
        rows = await self._run(bare.last_upto(behind, _SAMPLES + 1))
        positions = [*bare.positions(list(reversed(rows)))]
        if len(positions) <= _SAMPLES:
            positions = [None, *positions]
        for before, here in reversed(list(pairwise(positions))):
            page = strategy.page(before, 1)
            only = page.select.where(strategy.upto(here)).limit(None)
            found, failed = await self._attempt(Statement(only, page.parameters))
            if failed is None:
                return bool(found)
        return False

    def _where_refused(self, error: Exception, rows: Sequence[Read]) -> ValueRefused:
        first = next(row.found.key for row in rows if isinstance(row, Broken))
        return ValueRefused(
            f"feed {self._plan.feed.name}: where cannot be told of the row of key {first}, nor of any other that was "
            f"tried: {self._said(error)}; write its value in the form of its column"
        )


def page_stretch(position: Position, limit: int, horizon: Any) -> Stretch:
    """The next rows after a position."""

    def part(plan: FeedPlan, positions: Sequence[Position], low: int, high: int) -> Statement:
        after = positions[low - 1] if low else position
        return plan.strategy.page_upto(after, positions[high - 1], horizon)

    return Stretch(lambda plan: plan.strategy.next_page(position, limit, horizon), part, position)


def walked_stretch(stretch: ScanRange, after: Position, limit: int) -> Stretch:
    """The next rows of what a reconciliation walks through."""

    def part(plan: FeedPlan, positions: Sequence[Position], low: int, high: int) -> Statement:
        rows = window(plan, stretch, positions[low - 1] if low else after, limit).select
        return Statement(rows.where(plan.strategy.upto(positions[high - 1], "part")).limit(None))

    return Stretch(lambda plan: window(plan, stretch, after, limit), part, after)


def gaps_stretch(gaps: Gaps, limit: int) -> Stretch:
    """The rows that lie in gaps of an identity."""

    def part(plan: FeedPlan, positions: Sequence[Position], low: int, high: int) -> Statement:
        first, last = (int(str(positions[place])) for place in (low, high - 1))
        late = plan.strategy.late(tuple(_clipped(gaps, first, last)), limit)
        return Statement(late.select.limit(None), late.parameters)

    return Stretch(lambda plan: plan.strategy.late(gaps, limit), part, gaps[-1].high)


def _clipped(gaps: Gaps, first: int, last: int) -> list[Gap]:
    """The gaps, as far as they lie within first..last."""
    return [
        Gap(first if gap.low is None else max(gap.low, first), min(gap.high, last), gap.since)
        for gap in gaps
        if gap.high >= first and (gap.low is None or gap.low <= last)
    ]
