"""Scans what a cursor has read, for a reconciliation, and counts what it does not reach."""

from __future__ import annotations

import time

from sqlalchemy.exc import SQLAlchemyError

from app.core.budget import Reservation
from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Columns
from app.feeds.feed import Feed
from app.source.access import renewing
from app.source.broken import walked_stretch
from app.source.columns import settled, unsent
from app.source.fetch import Fetching, with_ties
from app.source.outside import Outside, Rows, below, keys_of, unordered, waiting
from app.source.pages import ahead_of
from app.source.run import one, run, source_rows
from app.source.scan import ScanRange, ScanWindow, counted, cut, kept, stride


class Scanner(Fetching):
    """Walks for one process."""

    @renewing
    async def walk(
        self, feed: Feed, stretch: ScanRange, after: Position, limit: int, agreed: Columns = ()
    ) -> ScanWindow:
        """The stretch's next rows behind `after`, without their payloads: at most `limit` (1 or
        more), and one that shares the last one's position. `agreed`: the cursor's `columns`.

        Nothing is locked for longer than the statement takes, and nothing is remembered between two
        calls.
        """

        async def read_window(hold: Reservation) -> ScanWindow:
            async with self._reading(feed) as (connection, _):
                plan = await self._agreed_plan(connection, feed, agreed)
                begun, asked_for = time.monotonic(), walked_stretch(stretch, after, limit + 1)
                read = await self._fetch(connection, plan, asked_for, limit + 1, room=hold)
                more = read.more or len(read.rows) > limit
                read = await with_ties(connection, plan, read, cut(read.positions, limit))
                asked = begun, time.monotonic()
            found = await source_rows(plan, kept(plan, stretch, read), plan.shape.content_row)
            return ScanWindow(
                found, plan.strategy.reached(read.positions, after, more=more), more, asked
            )

        return await self._with_room(feed, read_window)

    @renewing
    async def count(
        self, feed: Feed, stretch: ScanRange, after: Position, size: int
    ) -> tuple[int, Position]:
        """How many of the next `size` rows of the stretch a walk would give, and the position that
        `size` reaches.

        The position is `None` where no more rows are waiting. The server counts: no row comes here.
        Where the feed's conditions cannot be told of one of them, all are counted.
        """
        async with self._reading(feed) as (connection, _):
            plan = await self._plans.narrow(connection, feed)
            bare = await self._plans.narrow(connection, feed, where=False)
            try:
                rows = int(await one(connection, counted(plan, stretch, after, size)))
            except SQLAlchemyError as error:
                if not self._may_be_a_row(plan, error):
                    raise
                rows = int(await one(connection, counted(bare, stretch, after, size)))
            last = bare.strategy.positions(
                await run(connection, stride(bare, stretch, after, size))
            )
            return rows, last[0] if last else None

    @renewing
    async def outside(self, feed: Feed, cursor: Cursor) -> Outside:
        """What the cursor does not reach, looked at now."""
        async with self._reading(feed) as (connection, whole):
            plan = await self._plans.narrow(connection, feed)
            low, beyond = below(plan, cursor), waiting(plan, cursor)
            there = await self._plans.columns(
                connection, feed, cursor.columns, settled=settled(feed, cursor)
            )
            return Outside(
                unordered=keys_of(plan, await run(connection, unordered(plan))),
                below=keys_of(plan, await run(connection, low), without=cursor.lowest)
                if low
                else Rows(),
                waiting=keys_of(plan, await run(connection, beyond)) if beyond else Rows(),
                ahead=await ahead_of(connection, whole, cursor)
                if cursor.position is not None
                else None,
                columns=unsent(feed, cursor, there),
            )
