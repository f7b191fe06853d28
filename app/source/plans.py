"""The plans that a process reads by: made from the catalogue, and again when the table may have
changed.

A plan is what was believed of a table when it was last looked up. It is looked up again once it is
`LIFE` old, where the feed or the columns agreed for it are not what it was made for, and after any
error: what the error says may be nothing but the table's having changed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.rows import Columns
from app.feeds.feed import Feed
from app.source.catalogue import find_table
from app.source.columns import columns_of
from app.source.plan import FeedPlan, narrowed, plan_table
from app.source.products.product import Product
from app.source.table import SourceTable

LIFE = timedelta(minutes=1)
"""After this the table is looked up again: a column that came is noticed within it, and the feed's
next poll.
"""


@dataclass(slots=True)
class _Known:
    feed: Feed
    table: SourceTable
    looked_at: float
    columns: Columns
    """All of the table, in the dialect's words."""
    names: tuple[str, ...] | None
    plan: FeedPlan
    narrow: dict[bool, FeedPlan] = field(default_factory=dict)
    """Whether with the feed's conditions → keys and cursor columns only."""
    proven: bool = False
    """Something was read by it."""


class Plans:
    """One process's plans, by feed."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._known: dict[str, _Known] = {}

    def proven(self, feed: Feed) -> bool:
        """Whether there is a plan for the feed that something was read by: what fails now may be
        the table's change.
        """
        known = self._known.get(feed.name)
        return known is not None and known.proven

    def prove(self, feed: Feed) -> None:
        """Something was read by the feed's plan."""
        if known := self._known.get(feed.name):
            known.proven = True

    def forget(self, feed: Feed) -> None:
        """Look the feed's table up anew next time."""
        self._known.pop(feed.name, None)

    async def of(
        self, connection: AsyncConnection, feed: Feed, names: tuple[str, ...] | None = None
    ) -> FeedPlan:
        """The feed's plan. `names`: the columns to be sent; `None`: those of the plan there is,
        else as the feed says.

        Raises `SourceRefused` that names what the table lacks.
        """
        known = await self._looked_up(connection, feed)
        if names is not None and names != known.names:
            chosen = feed.model_copy(update={"columns": names})
            known.plan = await self._planned(connection, known.table, chosen)
            known.names, known.narrow = names, {}
        return known.plan

    async def narrow(
        self, connection: AsyncConnection, feed: Feed, *, where: bool = True
    ) -> FeedPlan:
        """The feed's plan with keys and cursor columns only; with `where`, and what its conditions
        say.
        """
        known = await self._looked_up(connection, feed)
        if where not in known.narrow:
            known.narrow[where] = narrowed(known.plan, where=where)
        return known.narrow[where]

    async def columns(
        self, connection: AsyncConnection, feed: Feed, agreed: Columns, *, settled: bool
    ) -> Columns:
        """The table's columns. Looked up anew where the table as it was known lacks what was
        `agreed`; and where it has more, unless that is `settled`.
        """
        known = await self._looked_up(connection, feed)
        lacks = set(agreed) - set(known.columns)
        more = set(known.columns) - set(agreed)
        if agreed and (lacks or (more and not settled)):
            self.forget(feed)
            known = await self._looked_up(connection, feed)
        return known.columns

    async def _looked_up(self, connection: AsyncConnection, feed: Feed) -> _Known:
        known, now = self._known.get(feed.name), time.monotonic()
        if (
            known is not None
            and known.feed == feed
            and now - known.looked_at < LIFE.total_seconds()
        ):
            return known
        table = await connection.run_sync(find_table, feed, self._product)
        columns = columns_of(table, connection.dialect)
        if known is not None and known.feed == feed and known.columns == columns:
            known.looked_at = now
            return known
        plan = await self._planned(connection, table, feed)
        self._known[feed.name] = made = _Known(feed, table, now, columns, None, plan)
        return made

    async def _planned(
        self, connection: AsyncConnection, table: SourceTable, feed: Feed
    ) -> FeedPlan:
        return await connection.run_sync(lambda sync: plan_table(table, feed, self._product, sync))
