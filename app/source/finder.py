"""Finds rows by their keys, and the newest ones, as a page would give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.budget import NoRoom, Reservation, cost
from app.core.parts import in_parts
from app.core.rows import Columns, SourceRow
from app.feeds.feed import Feed
from app.source.access import renewing
from app.source.fetch import Fetching, before_too_large, first_too_large, left_behind
from app.source.lookup import Found, can_be_found, find_row, find_rows, keys_a_statement
from app.source.plan import FeedPlan
from app.source.portion import Broken, Portion
from app.source.run import changes, horizon_of, in_order, matching, run, source_rows
from app.source.weighing import costs, fitting, runs, weighed

STATEMENT_CHARACTERS = 1_000_000
"""Of keys in one statement at most, unless a single key has more."""
LATEST = 20
"""Rows that are read to show one."""


class Finder(Fetching):
    """Looks rows up for one process."""

    async def find(self, feed: Feed, key: str, agreed: Columns = ()) -> Found | None:
        """The row of that key, written as in its delivery's id; `None` where there is none. The
        table is looked up anew. `agreed`: the cursor's `columns`; none: all columns that the table
        has.
        """
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, _):
            plan = await self._agreed_plan(connection, feed, agreed)
            if plan.scales and (
                large := first_too_large(plan, await run(connection, find_row(plan.scales, key)))
            ):
                return Found(changes(plan, [large[0]])[0] if large[1] else large[0], large[1])
            rows = await run(connection, find_row(plan, key))
            if not rows:
                return None
            ordered = in_order(plan, rows)
            if not ordered:
                return Found(plan.shape.source_row(rows[0], None), read=False)
            portion = Portion([*ordered], plan.strategy.positions(ordered))
            found = await source_rows(plan, portion)
            return Found(found[0], read=bool(matching(plan, portion).rows))

    async def latest(self, feed: Feed, agreed: Columns = ()) -> tuple[SourceRow, ...]:
        """The newest rows that a poll would give, newest first: of the last `LATEST` those that the
        feed's conditions select. The table is looked up anew; `agreed` as for `find`.
        """
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, _):
            plan = await self._agreed_plan(connection, feed, agreed)
            horizon, count = await horizon_of(connection, plan), LATEST
            if plan.scales:
                weighed_rows = await run(connection, plan.scales.strategy.latest(LATEST, horizon))
                if large := first_too_large(plan, weighed_rows):
                    return tuple(changes(plan, [large[0]])) if large[1] else ()
                count = before_too_large(plan, weighed_rows)
            rows = [*reversed(await run(connection, plan.strategy.latest(count, horizon)))]
            portion = Portion([*rows], plan.strategy.positions(rows))
            return (await source_rows(plan, matching(plan, portion)))[::-1]

    async def find_all(
        self, feed: Feed, keys: Sequence[str], agreed: Columns = ()
    ) -> tuple[SourceRow, ...]:
        """The rows of these keys that the feed's conditions select, without their payloads: key,
        position and hash.

        Each key as `walk` gave it; nothing is found under one of another form. `agreed`: the
        cursor's `columns`.
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
        """As above, but whole, as a page would give them; of the first of these keys (1 or more),
        as many as a portion of memory takes. Returns the rows, and how many keys they are of.
        `room`: as in `read_page`.
        """

        async def read(hold: Reservation) -> tuple[tuple[SourceRow, ...], int]:
            async with self._reading(feed) as (connection, _):
                plan = await self._agreed_plan(connection, feed, agreed)
                part = next(_parts(plan, keys))
                known = [key for key in part if can_be_found(plan, key)]
                weights, large = (
                    await self._weigh_keys(connection, plan, known) if known else ({}, ())
                )
                count = fitting([weights.get(key, 0) for key in part], hold.portion)
                part = part[:count]
                weight = sum(weights.get(key, 0) for key in part)
                if not hold.take(weight):
                    raise NoRoom(weight)
                left = tuple(row for row in large if row.key in part)
                wanted = set(part).intersection(known) - {row.key for row in left}
                whole = await self._find_part(
                    connection, plan, [key for key in part if key in wanted]
                )
                return (*left, *(row for row in whole if row.key in wanted)), count

        return await self._with_room(feed, read, room)

    async def _weigh_keys(
        self, connection: AsyncConnection, plan: FeedPlan, keys: Sequence[str]
    ) -> tuple[dict[str, int], tuple[SourceRow, ...]]:
        """Key → what its rows cost in memory, and the rows that are too large, which are not read.
        Where the sizes cannot be asked for, each costs as much as a payload may have.
        """
        if plan.scales is None:
            return {}, ()
        try:
            rows = in_order(plan.scales, await run(connection, find_rows(plan.scales, keys)))
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
        left = [left_behind(plan, found, low, high) for low, high, _ in large]
        behind = [
            row.found
            for part in left
            for row in part.rows
            if isinstance(row, Broken) and row.selected
        ]
        return weights, tuple(changes(plan, behind))

    async def _find_part(
        self, connection: AsyncConnection, plan: FeedPlan, keys: Sequence[str]
    ) -> tuple[SourceRow, ...]:
        """As many as one statement takes; half as many and half again, where a row's value breaks
        it.
        """
        if not keys:
            return ()
        try:
            rows = in_order(plan, await run(connection, find_rows(plan, keys)))
        except SQLAlchemyError as error:
            if not self._may_be_a_row(plan, error):
                raise
            if len(keys) > 1:
                halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
                return sum([await self._find_part(connection, plan, half) for half in halves], ())
            bare = await self._plans.narrow(connection, plan.feed, where=False)
            rows = in_order(bare, await run(connection, find_rows(bare, keys)))
            reason = f"the source cannot give this row: {self._said(error)}"
            broken = [
                replace(bare.shape.key_row(*read), error=reason)
                for read in zip(rows, bare.strategy.positions(rows), strict=True)
            ]
            return tuple(changes(plan, broken))
        return await source_rows(
            plan, matching(plan, Portion([*rows], plan.strategy.positions(rows)))
        )

    @renewing
    async def present(self, feed: Feed, keys: Sequence[str]) -> Mapping[str, SourceRow | None]:
        """Which of these keys the source has: key → its row without a payload, `None` where there
        is none.

        Of a key that cannot be looked up nothing is said: one with a NULL in it, or of another
        form.
        """
        async with self._reading(feed) as (connection, _):
            plan = await self._plans.narrow(connection, feed, where=False)
            known = [key for key in keys if can_be_found(plan, key)]
            found: dict[str, SourceRow | None] = dict.fromkeys(known)
            for part in _parts(plan, known):
                rows = await run(connection, find_rows(plan, part))
                there = [plan.shape.key_row(row, None) for row in rows]
                ordered = in_order(plan, rows)
                there += map(plan.shape.key_row, ordered, plan.strategy.positions(ordered))
                found |= {row.key: row for row in changes(plan, there) if row.key in found}
        return found


def _parts(plan: FeedPlan, keys: Sequence[str]) -> Iterator[list[str]]:
    """The keys in parts that one statement takes; of long keys, fewer."""
    return in_parts(keys, keys_a_statement(plan), (len, STATEMENT_CHARACTERS))
