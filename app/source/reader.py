"""Reading a feed from its source, page by page, so that no row is missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Row
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.budget import PORTION, Budget, NoRoom, Reservation, Room, cost
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import ColumnsCame, SourceRefused
from app.core.position import Position, ReadRange
from app.core.rows import Ahead, Columns, Page, SourceRow
from app.feeds.feed import Feed
from app.source.broken import Salvage, gaps_stretch, page_stretch, walked_stretch
from app.source.broken import Stretch as BrokenStretch
from app.source.columns import columns_of, form_of, settled, still_there
from app.source.cursors.gaps import GAP_RANGES, Gaps, Round, coarsen
from app.source.cursors.selection import Statement
from app.source.cursors.strategy import TIES
from app.source.engine import source_name
from app.source.errors import advised, is_by_value, translated
from app.source.examine import examine_feed
from app.source.explain import Explained, explain
from app.source.findings import Finding
from app.source.lookup import Found, can_be_found, find_row, find_rows, keys_a_statement
from app.source.outside import Outside, Rows, below, keys_of, unordered, waiting
from app.source.plan import FeedPlan
from app.source.plans import Plans
from app.source.portion import Broken, Portion, Read
from app.source.products.registry import product_of
from app.source.scan import ScanWindow, Stretch, counted, cut, kept, stride
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

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

GAP_STATEMENTS = 20
"""Statements that one read spends on gaps at most; a read whose page is full spends one."""
LOOK_EVERY = timedelta(minutes=1)
"""How often a poll that finds nothing looks whether its cursor is ahead of the table."""
HELD_COUNTED = 100
"""Rows that wait while none may be read are counted up to this."""
TOLERATED_SKEW = timedelta(seconds=1)
"""What our clock and the source's may differ by before gaps are aged by the source's: asking takes time, too."""
SECOND_LOOKS_SECONDS = (0.0, 0.25, 1.0)
"""How long before each new look at a table whose plan was refused."""
STATEMENT_CHARACTERS = 1_000_000
"""Of keys in one statement at most, unless a single key has more."""
LATEST = 20
"""Rows that are read to show one."""
_ROWS_A_TURN = 500
"""Rows turned into JSON before the event loop gets a turn: a few milliseconds."""


def renewing(
    method: Callable[Concatenate[Source, Feed, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Source, Feed, P], Coroutine[Any, Any, T]]:
    """The method of `Source`, again with a new plan where one that had worked before is refused.

    A column that the feed does not name was dropped, a type changed, the table was swapped for another: the plan was
    of the table as it had been. Between the two renames of a swap there is no table for a moment, so a new plan that
    is refused as well is made twice more. A login that is refused is not tried again: that may lock it out.
    """

    @wraps(method)
    async def run(self: Source, feed: Feed, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for wait in SECOND_LOOKS_SECONDS if self._plans.proven(feed) else ():
            try:
                return await method(self, feed, *args, **kwargs)
            except SourceRefused as error:
                if self._plans.proven(feed) or isinstance(error, ColumnsCame):
                    raise
                log.info("plan_renewed", feed=feed.name, error=type(error).__name__)
            await asyncio.sleep(wait)
        return await method(self, feed, *args, **kwargs)

    return run


class Source:
    """The source database, as the use cases see it. Safe to share between coroutines of one event loop.

    Every method raises `SourceUnavailable` (worth a retry) or `SourceRefused` (someone must act).
    """

    def __init__(self, engine: AsyncEngine, budget: Budget | None = None) -> None:
        """`budget`: the process's memory for rows."""
        self._engine = engine
        self._budget = budget or Budget()
        self._product = product_of(engine.url)
        self._plans = Plans(self._product)
        self._asked: dict[str, int] = {}
        """Feed → of how many rows sizes are asked, where a page before was ended by memory."""
        self._stopped_at: dict[str, int | None] = {}
        self._looked: dict[str, tuple[datetime, Position, Ahead | None]] = {}
        self._held_back: dict[str, tuple[datetime, Position, str | None]] = {}

    def room(self, feed: Feed) -> Reservation:
        """Memory for a page of the feed: holds nothing yet."""
        return self._budget.reading(feed.name)

    @renewing
    async def read_page(self, feed: Feed, cursor: Cursor, now: datetime, room: Reservation | None = None) -> Page:
        """Ask for the open gaps again and read the next rows: at most `feed.page_size` rows, in ascending order, and as
        many as a portion of memory takes. Waits for memory, and holds no connection meanwhile.

        `room`: holds what the page takes, until the caller gives it back; without it nothing is held after the call.

        `now` is taken before the call. Save the page's position and gaps as the cursor's also when it has no rows;
        while `full` is set, read again at once. A row comes twice where gaps were merged, or the cursor not saved.

        No row falls between the reads: gaps lie at or below the cursor's position, the page above it, and each of
        the two drops an id only because it holds the row. A row that commits after its gap was asked for stays a gap;
        one that commits after the page was read lies above it, or in a gap made from what the page did not hold. Only
        a gap that was looked at in this very read can expire, so one that aged while nobody polled is asked for first.
        Gaps age by the source's clock, so that a worker whose clock is wrong gives up none too early.
        """

        async def read(hold: Reservation) -> Page:
            async with self._reading(feed) as (connection, _):
                return await self._page(connection, feed, cursor, now, hold)

        return await self._with_room(feed, read, room)

    async def _with_room(
        self, feed: Feed, read: Callable[[Reservation], Awaitable[T]], room: Reservation | None = None
    ) -> T:
        """Read; where memory is wanting, wait for it and read again. What is held without a `room` is given back."""
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

    async def _page(self, connection: AsyncConnection, feed: Feed, cursor: Cursor, now: datetime, room: Room) -> Page:
        found = await self._plans.columns(connection, feed, cursor.columns, settled=settled(feed, cursor))
        form = form_of(feed, cursor, found)
        plan = await self._plans.of(connection, feed, form.names)
        horizon = await _horizon(connection, plan)
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
        ahead = None if fresh.rows else await self._ahead(connection, plan, replace(cursor, position=position), now)
        held = None if fresh.rows else await self._held(connection, plan, position, horizon, now)
        lowest = await _lowest(connection, plan, fresh) if cursor.lowest is None else None
        if gaps or plan.strategy.missing(position, fresh.positions, now):
            now = await _source_time(connection, plan, now)
        self._stopped_at[feed.name] = gap_round.stopped_at
        arrived = [value for value in late.positions if isinstance(value, int)]
        kept, expired = gap_round.settle(arrived, now, plan.strategy.gap_timeout)
        opened = plan.strategy.missing(position, fresh.positions, now)
        return Page(
            rows=await _source_rows(plan, _matching(plan, late + fresh)),
            position=plan.strategy.reached(fresh.positions, position, more=fresh.more, horizon=horizon),
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
        """A cursor that stands at `beginning`, `now` or a position, as `CursorSpec.start` means them."""
        async with self._reading(feed) as (connection, plan):
            horizon = await _horizon(connection, plan)
            position, gaps = await _started(connection, plan, where, horizon, now)
            standing = plan.strategy.lowest if position is None else position
            return Cursor(feed.name, standing, gaps, spans=(ReadRange(position),))

    @renewing
    async def waiting(self, feed: Feed, cursor: Cursor, limit: int) -> int:
        """How many rows lie beyond the cursor, counted up to `limit` (1 or more) so that the cost is bounded."""
        async with self._reading(feed) as (connection, plan):
            position, start = cursor.position, feed.cursor.start
            if position is None and start == "now":
                return 0
            if position is None:
                position, _ = plan.strategy.started(start, (), utc_now())
            return int(await _one(connection, plan.strategy.waiting(position, limit)))

    @renewing
    async def check(self, feed: Feed) -> Columns:
        """Look the feed's table up anew and read a row of it. Returns all columns of the table, with their types."""
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, plan):
            horizon = await _horizon(connection, plan)
            await _run(connection, plan.strategy.page(None, 1, horizon))
            return columns_of(plan.table, connection.dialect)

    @renewing
    async def explain(self, feed: Feed) -> list[Explained]:
        """The statements that reading the feed sends, written for this database."""
        async with self._reading(feed) as (connection, plan):
            return explain(plan, connection.dialect)

    @renewing
    async def examine(self, feed: Feed) -> tuple[Finding, ...]:
        """What the catalogue says about the feed's table, key, indexes and settings; looked up anew."""
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, plan):
            return await connection.run_sync(examine_feed, plan)

    async def find(self, feed: Feed, key: str, agreed: Columns = ()) -> Found | None:
        """The row of that key, written as in its delivery's id; `None` where there is none. The table is looked up
        anew. `agreed`: the cursor's `columns`; none: all columns that the table has.
        """
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, _):
            plan = await self._agreed_plan(connection, feed, agreed)
            if plan.scales and (large := _too_large(plan, await _run(connection, find_row(plan.scales, key)))):
                return Found(_changes(plan, [large[0]])[0] if large[1] else large[0], large[1])
            rows = await _run(connection, find_row(plan, key))
            if not rows:
                return None
            ordered = _ordered(plan, rows)
            if not ordered:
                return Found(plan.shape.source_row(rows[0], None), read=False)
            portion = Portion([*ordered], plan.strategy.positions(ordered))
            found = await _source_rows(plan, portion)
            return Found(found[0], read=bool(_matching(plan, portion).rows))

    async def latest(self, feed: Feed, agreed: Columns = ()) -> tuple[SourceRow, ...]:
        """The newest rows that a poll would give, newest first: of the last `LATEST` those that the feed's conditions
        select. The table is looked up anew; `agreed` as for `find`.
        """
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, _):
            plan = await self._agreed_plan(connection, feed, agreed)
            horizon, count = await _horizon(connection, plan), LATEST
            if plan.scales:
                weighed_rows = await _run(connection, plan.scales.strategy.latest(LATEST, horizon))
                if large := _too_large(plan, weighed_rows):
                    return tuple(_changes(plan, [large[0]])) if large[1] else ()
                count = _before_too_large(plan, weighed_rows)
            rows = [*reversed(await _run(connection, plan.strategy.latest(count, horizon)))]
            portion = Portion([*rows], plan.strategy.positions(rows))
            return (await _source_rows(plan, _matching(plan, portion)))[::-1]

    async def find_all(self, feed: Feed, keys: Sequence[str], agreed: Columns = ()) -> tuple[SourceRow, ...]:
        """The rows of these keys that the feed's conditions select, without their payloads: key, position and hash.

        Each key as `walk` gave it; nothing is found under one of another form. `agreed`: the cursor's `columns`.
        """
        found: list[SourceRow] = []
        left = list(keys)
        while left:
            rows, count = await self.find_some(feed, left, agreed)
            found += [replace(row, payload="") for row in rows]
            left = left[count:]
        return tuple(found)

    @renewing
    async def find_some(
        self, feed: Feed, keys: Sequence[str], agreed: Columns = (), room: Reservation | None = None
    ) -> tuple[tuple[SourceRow, ...], int]:
        """As above, but whole, as a page would give them; of the first of these keys (1 or more), as many as a portion
        of memory takes. Returns the rows, and how many keys they are of. `room`: as in `read_page`.
        """

        async def read(hold: Reservation) -> tuple[tuple[SourceRow, ...], int]:
            async with self._reading(feed) as (connection, _):
                plan = await self._agreed_plan(connection, feed, agreed)
                part = next(_parts(plan, keys))
                known = [key for key in part if can_be_found(plan, key)]
                weights, large = await self._weigh_keys(connection, plan, known) if known else ({}, ())
                count = fitting([weights.get(key, 0) for key in part], hold.portion)
                part = part[:count]
                weight = sum(weights.get(key, 0) for key in part)
                if not hold.take(weight):
                    raise NoRoom(weight)
                left = tuple(row for row in large if row.key in part)
                wanted = set(part).intersection(known) - {row.key for row in left}
                whole = await self._find_part(connection, plan, [key for key in part if key in wanted])
                return (*left, *(row for row in whole if row.key in wanted)), count

        return await self._with_room(feed, read, room)

    async def _weigh_keys(
        self, connection: AsyncConnection, plan: FeedPlan, keys: Sequence[str]
    ) -> tuple[dict[str, int], tuple[SourceRow, ...]]:
        """Key → what its rows cost in memory, and the rows that are too large, which are not read. Where the sizes
        cannot be asked for, each costs as much as a payload may have.
        """
        if plan.scales is None:
            return {}, ()
        try:
            rows = _ordered(plan.scales, await _run(connection, find_rows(plan.scales, keys)))
        except SQLAlchemyError as error:
            if not self._may_be_a_row(plan, error):
                raise
            return dict.fromkeys(keys, cost(plan.feed.max_payload)), ()
        found = weighed(plan.scales, rows, None)
        weights: dict[str, int] = {}
        for row, its_cost in zip(rows, costs(plan, found.sizes), strict=True):
            key = plan.scales.shape.key_row(row, None).key
            weights[key] = weights.get(key, 0) + its_cost
        large = [part for part in runs(plan, found.sizes) if part[2]]
        left = [_left_behind(plan, found, low, high) for low, high, _ in large]
        behind = [row.found for part in left for row in part.rows if isinstance(row, Broken) and row.selected]
        return weights, tuple(_changes(plan, behind))

    async def _find_part(
        self, connection: AsyncConnection, plan: FeedPlan, keys: Sequence[str]
    ) -> tuple[SourceRow, ...]:
        """As many as one statement takes; half as many and half again, where a row's value breaks it."""
        if not keys:
            return ()
        try:
            rows = _ordered(plan, await _run(connection, find_rows(plan, keys)))
        except SQLAlchemyError as error:
            if not self._may_be_a_row(plan, error):
                raise
            if len(keys) > 1:
                halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
                return sum([await self._find_part(connection, plan, half) for half in halves], ())
            bare = await self._plans.narrow(connection, plan.feed, where=False)
            rows = _ordered(bare, await _run(connection, find_rows(bare, keys)))
            reason = f"the source cannot give this row: {self._said(error)}"
            broken = [
                replace(bare.shape.key_row(*read), error=reason)
                for read in zip(rows, bare.strategy.positions(rows), strict=True)
            ]
            return tuple(_changes(plan, broken))
        return await _source_rows(plan, _matching(plan, Portion([*rows], plan.strategy.positions(rows))))

    @renewing
    async def walk(self, feed: Feed, stretch: Stretch, after: Position, limit: int, agreed: Columns = ()) -> ScanWindow:
        """The stretch's next rows behind `after`, without their payloads: at most `limit` (1 or more), and one that
        shares the last one's position. `agreed`: the cursor's `columns`.

        Nothing is locked for longer than the statement takes, and nothing is remembered between two calls.
        """

        async def read_window(hold: Reservation) -> ScanWindow:
            async with self._reading(feed) as (connection, _):
                plan = await self._agreed_plan(connection, feed, agreed)
                begun, asked_for = time.monotonic(), walked_stretch(stretch, after, limit + 1)
                read = await self._fetch(connection, plan, asked_for, limit + 1, room=hold)
                more = read.more or len(read.rows) > limit
                read = await _with_ties(connection, plan, read, cut(read.positions, limit))
                asked = begun, time.monotonic()
            found = await _source_rows(plan, kept(plan, stretch, read), plan.shape.content_row)
            return ScanWindow(found, plan.strategy.reached(read.positions, after, more=more), more, asked)

        return await self._with_room(feed, read_window)

    async def _agreed_plan(self, connection: AsyncConnection, feed: Feed, agreed: Columns) -> FeedPlan:
        """The plan that reads the columns agreed, as far as the table has them."""
        there = await self._plans.columns(connection, feed, agreed, settled=True)
        return await self._plans.of(connection, feed, still_there(feed, agreed, there))

    @renewing
    async def count(self, feed: Feed, stretch: Stretch, after: Position, size: int) -> tuple[int, Position]:
        """How many of the next `size` rows of the stretch a walk would give, and the position that `size` reaches.

        The position is `None` where no more rows are waiting. The server counts: no row comes here. Where the feed's
        conditions cannot be told of one of them, all are counted.
        """
        async with self._walking(feed) as (connection, plan):
            bare = await self._plans.narrow(connection, feed, where=False)
            try:
                rows = int(await _one(connection, counted(plan, stretch, after, size)))
            except SQLAlchemyError as error:
                if not self._may_be_a_row(plan, error):
                    raise
                rows = int(await _one(connection, counted(bare, stretch, after, size)))
            last = bare.strategy.positions(await _run(connection, stride(bare, stretch, after, size)))
            return rows, last[0] if last else None

    @renewing
    async def present(self, feed: Feed, keys: Sequence[str]) -> Mapping[str, SourceRow | None]:
        """Which of these keys the source has: key → its row without a payload, `None` where there is none.

        Of a key that cannot be looked up nothing is said: one with a NULL in it, or of another form.
        """
        async with self._reading(feed) as (connection, _):
            plan = await self._plans.narrow(connection, feed, where=False)
            known = [key for key in keys if can_be_found(plan, key)]
            found: dict[str, SourceRow | None] = dict.fromkeys(known)
            for part in _parts(plan, known):
                rows = await _run(connection, find_rows(plan, part))
                there = [plan.shape.key_row(row, None) for row in rows]
                ordered = _ordered(plan, rows)
                there += map(plan.shape.key_row, ordered, plan.strategy.positions(ordered))
                found |= {row.key: row for row in _changes(plan, there) if row.key in found}
        return found

    @renewing
    async def outside(self, feed: Feed, cursor: Cursor) -> Outside:
        """What the cursor does not reach, looked at now."""
        async with self._reading(feed) as (connection, whole):
            plan = await self._plans.narrow(connection, feed)
            low, beyond = below(plan, cursor), waiting(plan, cursor)
            return Outside(
                unordered=keys_of(plan, await _run(connection, unordered(plan))),
                below=keys_of(plan, await _run(connection, low), without=cursor.lowest) if low else Rows(),
                waiting=keys_of(plan, await _run(connection, beyond)) if beyond else Rows(),
                ahead=await _look(connection, whole, cursor) if cursor.position is not None else None,
            )

    async def version(self) -> str:
        """Product and version of the server, such as `sqlite 3.40.1`, and its driver where that may differ.

        Connects if nothing is connected yet.
        """
        async with self._connected("version") as connection:
            return await connection.run_sync(self._product.describe)

    @property
    def product(self) -> str:
        """SQLAlchemy's name for the database product."""
        return self._product.name

    async def close(self) -> None:
        """Close every connection. The source must not be used afterwards."""
        await self._engine.dispose()

    async def _ahead(self, connection: AsyncConnection, plan: FeedPlan, cursor: Cursor, now: datetime) -> Ahead | None:
        """Whether the cursor is ahead of the table: looked at once a minute, and else as it was found then."""
        position = cursor.position
        looked_at, standing, found = self._looked.get(plan.feed.name, (None, None, None))
        if position is None or (looked_at is not None and standing == position and now - looked_at < LOOK_EVERY):
            return found if standing == position else None
        found = await _look(connection, plan, cursor)
        self._looked[plan.feed.name] = (now, position, found)
        return found

    async def _held(
        self, connection: AsyncConnection, plan: FeedPlan, position: Position, horizon: Any, now: datetime
    ) -> str | None:
        """Why rows that lie beyond the cursor are not read, where there are any: looked at once a minute, as above."""
        name = plan.feed.name
        looked_at, standing, found = self._held_back.get(name, (None, None, None))
        if looked_at is not None and standing == position and now - looked_at < LOOK_EVERY:
            return found
        why = plan.strategy.held_back(horizon)
        waiting = 0 if why is None else int(await _one(connection, plan.strategy.waiting(position, HELD_COUNTED)))
        number = f"{waiting}" if waiting < HELD_COUNTED else f"{HELD_COUNTED} or more"
        found = f"rows beyond the cursor ({number}) may not be read: {why}" if waiting else None
        self._held_back[name] = (now, position, found)
        return found

    @asynccontextmanager
    async def _connected(self, subject: str) -> AsyncIterator[AsyncConnection]:
        url = self._engine.url
        with translated(f"{source_name(url)}: {subject}", self._product, url.password):
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _reading(self, feed: Feed) -> AsyncIterator[tuple[AsyncConnection, FeedPlan]]:
        """A connection and the feed's plan. Any error drops the plan: the table may have changed."""
        async with self._connected(f"feed {feed.name}: table {feed.table}") as connection:
            try:
                yield connection, await self._plans.of(connection, feed)
            except NoRoom:
                raise
            except Exception:
                self._plans.forget(feed)
                raise
            self._plans.prove(feed)

    @asynccontextmanager
    async def _walking(self, feed: Feed) -> AsyncIterator[tuple[AsyncConnection, FeedPlan]]:
        """As `_reading`, with the plan that reads keys and cursor columns only."""
        async with self._reading(feed) as (connection, _):
            yield connection, await self._plans.narrow(connection, feed)

    async def _fetch(
        self,
        connection: AsyncConnection,
        plan: FeedPlan,
        stretch: BrokenStretch,
        limit: int,
        *,
        room: Room,
        must: bool = True,
    ) -> Portion:
        """Read a stretch whose statement asks for one row more than `limit`: that row says whether there are more.

        No more than memory has room for is read. Where there is none, `must` raises `NoRoom`; else nothing is read.
        Where a value breaks the statement, and the plan is new, the rows that do are found.
        """
        try:
            if plan.scales is None:
                return await self._fetch_short(connection, plan, stretch, min(limit, most_rows(plan, room.portion)))
            return await self._fetch_weighed(connection, plan, stretch, limit, room)
        except NoRoom:
            if must:
                raise
            return Portion(more=True)
        except SQLAlchemyError as error:
            if not self._may_be_a_row(plan, error):
                raise
            found = await self._salvaging(connection, plan, room).read(stretch, error)
            return Portion(found.rows[:limit], found.positions[:limit], found.more or len(found) > limit)

    async def _fetch_short(
        self, connection: AsyncConnection, plan: FeedPlan, stretch: BrokenStretch, limit: int
    ) -> Portion:
        """Where no value can be large."""
        rows = await _run(connection, limited(stretch.whole(plan), limit + 1))
        read = Portion(list(rows), plan.strategy.positions(rows, stretch.behind))
        return await _with_ties(connection, plan, read, limit)

    async def _fetch_weighed(
        self, connection: AsyncConnection, plan: FeedPlan, stretch: BrokenStretch, limit: int, room: Room
    ) -> Portion:
        """Ask what the rows weigh, then read those that there is room for."""
        assert plan.scales is not None  # noqa: S101 - the caller looked
        ask = min(limit, self._asked.get(plan.feed.name, limit))
        whole = stretch.whole(plan.scales)
        rows = await _run(connection, whole if ask == limit else limited(whole, ask + 1))
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
        """Ask of fewer rows after a page that memory ended, and of more again as pages take all that was asked of."""
        self._asked[feed.name] = max(FEWEST_ASKED, ASKED_BEYOND * count)
        if self._asked[feed.name] >= feed.page_size:
            del self._asked[feed.name]

    async def _read_weighed(
        self, connection: AsyncConnection, plan: FeedPlan, stretch: BrokenStretch, found: Weighed
    ) -> Portion:
        """Read these rows whole, but for those that are too large."""
        if not found.exact:
            rows = await _run(connection, limited(stretch.whole(plan), len(found.rows)))
            return Portion(list(rows), plan.strategy.positions(rows, stretch.behind))
        read = Portion()
        for low, high, large in runs(plan, found.sizes):
            if large:
                read += _left_behind(plan, found, low, high)
            else:
                rows = await _run(connection, stretch.part(plan, found.positions, low, high))
                read += Portion(list(rows), plan.strategy.positions(rows, found.positions[low - 1] if low else None))
        return read

    def _may_be_a_row(self, plan: FeedPlan, error: SQLAlchemyError) -> bool:
        """Whether a row's value may be the cause; while the plan is one that has worked, a new one is asked first."""
        return not self._plans.proven(plan.feed) and is_by_value(error, self._product)

    def _salvaging(self, connection: AsyncConnection, plan: FeedPlan, room: Room) -> Salvage:
        return Salvage(plan, partial(_run, connection), self._said, room=room)

    def _said(self, error: Exception) -> str:
        return advised(error, self._product, self._engine.url.password)


async def _ask(
    fetch: Callable[..., Awaitable[Portion]], gap_round: Round, statements: int, limit: int, *, must: bool = True
) -> Portion:
    """Ask for the round's next gaps, until they, the statements, the rows (`limit`) or memory are used up."""
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


async def _run(connection: AsyncConnection, statement: Statement) -> Sequence[Row[Any]]:
    """Raises SQLAlchemy's errors; `DataError` for a value that the driver cannot hand over."""
    try:
        rows: Sequence[Row[Any]] = (await connection.execute(statement.select, statement.parameters)).all()
    except (ArithmeticError, ValueError) as error:  # no Unicode, a date out of Python's years
        raise DataError(None, None, error) from error
    return rows


async def _look(connection: AsyncConnection, plan: FeedPlan, cursor: Cursor) -> Ahead | None:
    statements = plan.strategy.newest(cursor.position)
    newest = [next(iter(await _run(connection, statement)), None) for statement in statements]
    return plan.strategy.ahead(cursor, newest)


async def _lowest(connection: AsyncConnection, plan: FeedPlan, fresh: Portion) -> Position:
    """Where the table's lowest row stands, for a feed of which that is not on record yet."""
    if fresh.positions:
        return fresh.positions[0]
    strategy = (plan.scales or plan).strategy
    found = strategy.positions(await _run(connection, strategy.page(None, 1)))
    return found[0] if found else None


async def _one(connection: AsyncConnection, statement: Statement | None) -> Any:
    """The single value that a statement gives; `None` without a statement."""
    return None if statement is None else (await _run(connection, statement))[0][0]


async def _horizon(connection: AsyncConnection, plan: FeedPlan) -> Any:
    """Below which all is committed; `None` where that is not asked."""
    statement = plan.strategy.horizon()
    return None if statement is None else plan.strategy.horizon_of((await _run(connection, statement))[0])


async def _lost(connection: AsyncConnection, plan: FeedPlan, position: Position) -> Ahead | None:
    """Why the page just read after the position may lack rows that the source has dropped."""
    statement = plan.strategy.lasting()
    return None if statement is None else plan.strategy.lost(position, (await _run(connection, statement))[0])


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
    return plan.strategy.started(where, await _run(connection, statement) if statement else (), now)


async def _source_time(connection: AsyncConnection, plan: FeedPlan, now: datetime) -> datetime:
    """`now`, corrected by what this machine's clock differs from the source's."""
    text = await _one(connection, plan.strategy.clock())
    if text is None:
        return now
    skew = datetime.fromisoformat(text).replace(tzinfo=UTC) - utc_now()
    return now + skew if abs(skew) > TOLERATED_SKEW else now


async def _with_ties(connection: AsyncConnection, plan: FeedPlan, read: Portion, size: int) -> Portion:
    """The first `size` rows (1 or more); with them, where more were read, what the server holds equal to the last.

    Raises `SourceRefused` where that is more than `TIES`.
    """
    more = read.more or len(read) > size
    rows, positions = read.rows[:size], read.positions[:size]
    tied = plan.strategy.tied(positions[-1], read.positions[size]) if len(read) > size else None
    if tied is None:
        return Portion(rows, positions, more)
    found = await _run(connection, tied)
    if len(found) > TIES:
        raise plan.strategy.refused(f"and key are the same in more than {TIES} rows: the key must be unique")
    others = [
        (row, position)
        for row, position in zip(found, plan.strategy.positions(found), strict=True)
        if position not in positions
    ]
    return Portion(rows + [row for row, _ in others], positions + [position for _, position in others], more)


def _matching(plan: FeedPlan, portion: Portion) -> Portion:
    """Without the rows that the feed's conditions leave out."""
    place = plan.strategy.selection.match_place
    if place is None:
        return portion
    kept = [
        index for index, row in enumerate(portion.rows) if (row.selected if isinstance(row, Broken) else row[place])
    ]
    return Portion([portion.rows[index] for index in kept], [portion.positions[index] for index in kept])


async def _source_rows(
    plan: FeedPlan, portion: Portion, shaped: Callable[[Row[Any], Position], SourceRow] | None = None
) -> tuple[SourceRow, ...]:
    """The rows as they go on, or as `shaped` makes them.

    The event loop gets a turn every few hundred rows: senders share it.
    """
    shape = shaped or plan.shape.source_row
    done: list[SourceRow] = []
    for start in range(0, len(portion), _ROWS_A_TURN):
        turn = slice(start, start + _ROWS_A_TURN)
        done += [
            row.found if isinstance(row, Broken) else shape(row, position)
            for row, position in zip(portion.rows[turn], portion.positions[turn], strict=True)
        ]
        await asyncio.sleep(0)
    return tuple(_changes(plan, done))


def _too_large(plan: FeedPlan, rows: Sequence[Row[Any]]) -> tuple[SourceRow, bool] | None:
    """Of rows that were weighed: the first, if it is too large, and whether a poll gives it."""
    assert plan.scales is not None  # noqa: S101 - they were weighed
    first = rows[:1]
    size = sum(int(row[plan.scales.strategy.selection.size_place]) for row in first)
    if not too_large(plan, size):
        return None
    ordered = _ordered(plan.scales, first)
    if not ordered:
        return replace(plan.scales.shape.key_row(first[0], None), error=too_large_reason(plan, size)), False
    (left,) = _left_behind(plan, weighed(plan.scales, ordered, None), 0, 1).rows
    assert isinstance(left, Broken)  # noqa: S101 - as all of them are
    return left.found, left.selected


def _before_too_large(plan: FeedPlan, rows: Sequence[Row[Any]]) -> int:
    """How many of these rows, weighed, can be read together: one at least, and none that is too large but the first."""
    assert plan.scales is not None  # noqa: S101 - they were weighed
    sizes = [int(row[plan.scales.strategy.selection.size_place]) for row in rows]
    small = next((place for place, size in enumerate(sizes) if too_large(plan, size)), len(sizes))
    return max(1, min(small, fitting(costs(plan, sizes), PORTION)))


def _left_behind(plan: FeedPlan, found: Weighed, low: int, high: int) -> Portion:
    """Rows that are too large, by key and cursor column alone, with the reason."""
    assert plan.scales is not None  # noqa: S101 - they were weighed
    shape, matched = plan.scales.shape, plan.scales.strategy.selection.match_place
    left: list[Read] = []
    for row, position, size in zip(found.rows[low:high], found.positions[low:high], found.sizes[low:high], strict=True):
        key = shape.key_row(row, position)
        reason = key.error or too_large_reason(plan, size)
        left.append(Broken(replace(key, error=reason), row, matched is None or bool(row[matched])))
    return Portion(left, list(found.positions[low:high]))


def _changes(plan: FeedPlan, rows: list[SourceRow]) -> list[SourceRow]:
    """The rows, each with the change that it is where the feed captures changes."""
    if plan.feed.capture != "changes":
        return rows
    return [replace(row, change=plan.strategy.change(row.position)) for row in rows]


def _ordered(plan: FeedPlan, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Without the rows that the cursor column does not order: it is NULL in them."""
    place = plan.strategy.selection.place(plan.strategy.selection.cursor)
    return [row for row in rows if row[place] is not None]


def _parts(plan: FeedPlan, keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """The keys in parts that one statement takes; of long keys, fewer."""
    size, part, characters = keys_a_statement(plan), list[str](), 0
    for key in keys:
        if part and (len(part) == size or characters + len(key) > STATEMENT_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(key)
        characters += len(key)
    if part:
        yield part
