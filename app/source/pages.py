"""Reading a feed page by page, so that no row is missed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.budget import Budget, Reservation, Room
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.core.position import Position, ReadRange
from app.core.rows import Ahead, Page
from app.feeds.feed import Feed
from app.source.access import renewing
from app.source.broken import gaps_stretch, page_stretch
from app.source.columns import form_of, settled
from app.source.cursors.gaps import GAP_RANGES, Gaps, Round, coarsen, expire
from app.source.fetch import Fetching
from app.source.plan import FeedPlan
from app.source.portion import Portion
from app.source.run import horizon_of, matching, one, run, source_rows

GAP_STATEMENTS = 20
"""Statements that one read spends on gaps at most; a read whose page is full spends one."""
CHECK_EVERY = timedelta(minutes=1)
"""How often a poll that finds nothing checks whether its cursor is ahead of the table, and what is
held back.
"""
HELD_COUNTED = 100
"""Rows that wait while none may be read are counted up to this."""
TOLERATED_SKEW = timedelta(seconds=1)
"""What our clock and the source's may differ by before gaps are aged by the source's: asking takes
time, too.
"""


class Pages(Fetching):
    """Reads the pages of one process's polls, and says where a cursor begins and what waits beyond
    it.
    """

    def __init__(self, engine: AsyncEngine, budget: Budget | None = None) -> None:
        """`budget`: the process's memory for rows."""
        super().__init__(engine, budget)
        self._stopped_at: dict[str, int | None] = {}
        self._ahead_checked: dict[str, tuple[datetime, Position, Ahead | None]] = {}
        self._held_back: dict[str, tuple[datetime, Position, str | None]] = {}
        self._apart: tuple[float, timedelta] | None = None
        """When the source's clock was last asked, by the monotonic one, and by how much it is ahead
        of ours.
        """

    @renewing
    async def read_page(
        self, feed: Feed, cursor: Cursor, now: datetime, room: Reservation | None = None
    ) -> Page:
        """Ask for the open gaps again and read the next rows: at most `feed.page_size` rows, in
        ascending order, and as many as a portion of memory takes. Waits for memory, and holds no
        connection meanwhile.

        `room`: holds what the page takes, until the caller gives it back; without it nothing is
        held after the call.

        `now` is taken before the call. Save the page's position and gaps as the cursor's also when
        it has no rows; while `full` is set, read again at once. A row comes twice where gaps were
        merged, or the cursor not saved.

        No row falls between the reads: gaps lie at or below the cursor's position, the page above
        it, and each of the two drops an id only because it holds the row. A row that commits after
        its gap was asked for stays a gap; one that commits after the page was read lies above it,
        or in a gap made from what the page did not hold. Only a gap that was looked at in this very
        read can expire, so one that aged while nobody polled is asked for first. Gaps age by the
        source's clock, so that a worker whose clock is wrong gives up none too early.
        """

        async def read(hold: Reservation) -> Page:
            async with self._reading(feed) as (connection, _):
                return await self._page(connection, feed, cursor, now, hold)

        return await self._with_room(feed, read, room)

    async def _page(
        self, connection: AsyncConnection, feed: Feed, cursor: Cursor, now: datetime, room: Room
    ) -> Page:
        found = await self._plans.columns(
            connection, feed, cursor.columns, settled=settled(feed, cursor)
        )
        form = form_of(feed, cursor, found)
        plan = await self._plans.of(connection, feed, form.names)
        horizon = await horizon_of(connection, plan)
        position, gaps = await _standing(connection, plan, cursor, horizon, now)
        gap_round = Round(gaps, self._stopped_at.get(feed.name))
        asking = partial(self._fetch, connection, plan, room=room)
        late = await _ask(asking, gap_round, 1, feed.page_size // 2)
        limit = feed.page_size - len(late)  # 1 or more: rows in merged gaps never keep new ones out
        fresh = await asking(page_stretch(position, limit + 1, horizon), limit, must=not late.rows)
        if not fresh.more:
            rest = limit - len(fresh)
            late += await _ask(asking, gap_round, GAP_STATEMENTS - 1, rest, must=False)
        if lost := await _lost(connection, plan, position):
            return Page((), cursor.position, cursor.gaps, full=False, ahead=lost)
        reached = plan.strategy.reached(fresh.positions, position, more=fresh.more, horizon=horizon)
        standing = replace(cursor, position=position)
        ahead: Ahead | None = None
        if fresh.rows:
            self._not_ahead(standing, reached)
        else:
            ahead = await self._ahead(connection, plan, standing, now)
        held = None if fresh.rows else await self._held(connection, plan, position, horizon, now)
        lowest = await _lowest(connection, plan, fresh) if cursor.lowest is None else None
        opens = bool(plan.strategy.missing(position, fresh.positions, now))
        if gaps or opens:
            now = await self._gaps_time(connection, plan, gaps, now, opens=opens)
        self._stopped_at[feed.name] = gap_round.stopped_at
        arrived = [value for value in late.positions if isinstance(value, int)]
        kept, expired = gap_round.settle(arrived, now, plan.strategy.gap_timeout)
        opened = plan.strategy.missing(position, fresh.positions, now)
        return Page(
            rows=await source_rows(plan, matching(plan, late + fresh)),
            position=reached,
            gaps=coarsen(kept + opened, plan.strategy.max_gaps),
            full=fresh.more or not gap_round.complete,
            expired=expired,
            ahead=ahead,
            held=held,
            began=position if cursor.position is None else None,
            form=form.new,
            lowest=lowest,
        )

    @renewing
    async def begin(self, feed: Feed, where: int | str, now: datetime) -> Cursor:
        """A cursor that stands at `beginning`, `now` or a position, as `CursorSpec.start` means
        them.

        Raises `SourceRefused` also for a position that nothing can be read from any more.
        """
        async with self._reading(feed) as (connection, plan):
            horizon = await horizon_of(connection, plan)
            position, gaps = await _started(connection, plan, where, horizon, now)
            if lost := await _lost(connection, plan, position):
                raise SourceRefused(f"feed {feed.name}: {lost.reason}")
            standing = plan.strategy.lowest if position is None else position
            return Cursor(feed.name, standing, gaps, spans=(ReadRange(position),))

    @renewing
    async def waiting(self, feed: Feed, cursor: Cursor, limit: int) -> int:
        """How many rows lie beyond the cursor, counted up to `limit` (1 or more) so that the cost
        is bounded.
        """
        async with self._reading(feed) as (connection, plan):
            position, start = cursor.position, feed.cursor.start
            if position is None and start == "now":
                return 0
            if position is None:
                position, _ = plan.strategy.started(start, (), utc_now())
            return int(await one(connection, plan.strategy.waiting(position, limit)))

    async def _gaps_time(
        self, connection: AsyncConnection, plan: FeedPlan, gaps: Gaps, now: datetime, *, opens: bool
    ) -> datetime:
        """`now` by the source's clock, for the gaps' age.

        The source is asked where a gap opens, or may be given up. For the others it is enough how
        far the clocks were apart within `CHECK_EVERY`: they stay open either way.
        """
        known = self._apart
        if (
            not opens
            and known is not None
            and time.monotonic() - known[0] < CHECK_EVERY.total_seconds()
        ):
            _, due = expire(gaps, now + known[1], plan.strategy.gap_timeout)
            if not due:
                return now + known[1]
        corrected = await _source_time(connection, plan, now)
        self._apart = (time.monotonic(), corrected - now)
        return corrected

    async def _ahead(
        self, connection: AsyncConnection, plan: FeedPlan, cursor: Cursor, now: datetime
    ) -> Ahead | None:
        """Whether the cursor is ahead of the table: checked once a minute, and remembered in
        between, also while it moves past rows that were read.
        """
        position = cursor.position
        checked_at, standing, found = self._ahead_checked.get(plan.feed.name, (None, None, None))
        if position is None or (
            checked_at is not None and standing == position and now - checked_at < CHECK_EVERY
        ):
            return found if standing == position else None
        found = await ahead_of(connection, plan, cursor)
        self._ahead_checked[plan.feed.name] = (now, position, found)
        return found

    def _not_ahead(self, cursor: Cursor, reached: Position) -> None:
        """Rows were read up to there: if the cursor was not ahead of the table, it is not now."""
        checked_at, standing, found = self._ahead_checked.get(cursor.feed, (None, None, None))
        if checked_at is not None and standing == cursor.position and found is None:
            self._ahead_checked[cursor.feed] = (checked_at, reached, None)

    async def _held(
        self,
        connection: AsyncConnection,
        plan: FeedPlan,
        position: Position,
        horizon: Any,
        now: datetime,
    ) -> str | None:
        """Why rows that lie beyond the cursor are not read, where there are any: checked once a
        minute, as above.
        """
        name = plan.feed.name
        checked_at, standing, found = self._held_back.get(name, (None, None, None))
        if checked_at is not None and standing == position and now - checked_at < CHECK_EVERY:
            return found
        why = plan.strategy.held_back(horizon)
        waiting = (
            0
            if why is None
            else int(await one(connection, plan.strategy.waiting(position, HELD_COUNTED)))
        )
        number = f"{waiting}" if waiting < HELD_COUNTED else f"{HELD_COUNTED} or more"
        found = f"rows beyond the cursor ({number}) may not be read: {why}" if waiting else None
        self._held_back[name] = (now, position, found)
        return found


async def _ask(
    fetch: Callable[..., Awaitable[Portion]],
    gap_round: Round,
    statements: int,
    limit: int,
    *,
    must: bool = True,
) -> Portion:
    """Ask for the round's next gaps, until they, the statements, the rows (`limit`) or memory are
    used up.
    """
    late = Portion()
    for _ in range(statements):
        gaps, rows = gap_round.ask(GAP_RANGES), limit - len(late)
        if not gaps or rows <= 0:
            break
        portion = await fetch(gaps_stretch(gaps, rows + 1), rows, must=must and not late.rows)
        if portion.more and not portion.rows:
            break
        last = portion.positions[-1] if portion.more else None
        gap_round.looked(gaps, last if isinstance(last, int) else None)
        late += portion
    return late


async def ahead_of(connection: AsyncConnection, plan: FeedPlan, cursor: Cursor) -> Ahead | None:
    statements = plan.strategy.newest(cursor.position)
    newest = [next(iter(await run(connection, statement)), None) for statement in statements]
    return plan.strategy.ahead(cursor, newest)


async def _lowest(connection: AsyncConnection, plan: FeedPlan, fresh: Portion) -> Position:
    """Where the table's lowest row stands, for a feed of which that is not on record yet."""
    if fresh.positions:
        return fresh.positions[0]
    strategy = (plan.scales or plan).strategy
    found = strategy.positions(await run(connection, strategy.page(None, 1)))
    return found[0] if found else None


async def _lost(connection: AsyncConnection, plan: FeedPlan, position: Position) -> Ahead | None:
    """Why the page just read after the position may lack rows that the source has dropped."""
    statement = plan.strategy.lasting()
    return (
        None
        if statement is None
        else plan.strategy.lost(position, (await run(connection, statement))[0])
    )


async def _standing(
    connection: AsyncConnection, plan: FeedPlan, cursor: Cursor, horizon: Any, now: datetime
) -> tuple[Position, Gaps]:
    """Where the cursor stands; for one that has not begun, where it begins."""
    if cursor.position is not None:
        return cursor.position, cursor.gaps
    return await _started(connection, plan, plan.feed.cursor.start, horizon, now)


async def _started(
    connection: AsyncConnection, plan: FeedPlan, where: int | str, horizon: Any, now: datetime
) -> tuple[Position, Gaps]:
    statement = plan.strategy.start(where, horizon)
    now = await _source_time(connection, plan, now)
    return plan.strategy.started(where, await run(connection, statement) if statement else (), now)


async def _source_time(connection: AsyncConnection, plan: FeedPlan, now: datetime) -> datetime:
    """`now`, corrected by what this machine's clock differs from the source's."""
    text = await one(connection, plan.strategy.clock())
    if text is None:
        return now
    skew = datetime.fromisoformat(text).replace(tzinfo=UTC) - utc_now()
    return now + skew if abs(skew) > TOLERATED_SKEW else now
