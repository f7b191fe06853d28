"""The source database, as the use cases see it."""

from __future__ import annotations

from app.core.rows import Columns
from app.feeds.feed import Feed
from app.source.access import renewing
from app.source.columns import columns_of
from app.source.examine import examine_feed
from app.source.explain import Explained, explain
from app.source.finder import Finder
from app.source.findings import Finding
from app.source.pages import Pages
from app.source.run import horizon_of, run
from app.source.scanner import Scanner


class Source(Pages, Finder, Scanner):
    """The source database: its pages, its rows by key, walks through it, and what it says of itself
    and of a feed.

    Safe to share between coroutines of one event loop. Every method raises `SourceUnavailable`
    (worth a retry) or `SourceRefused` (someone must act).
    """

    @renewing
    async def check(self, feed: Feed) -> Columns:
        """Look the feed's table up anew and read a row of it. Returns all columns of the table,
        with their types.
        """
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, plan):
            horizon = await horizon_of(connection, plan)
            await run(connection, plan.strategy.page(None, 1, horizon))
            return columns_of(plan.table, connection.dialect)

    @renewing
    async def explain(self, feed: Feed) -> list[Explained]:
        """The statements that reading the feed sends, written for this database."""
        async with self._reading(feed) as (connection, plan):
            return explain(plan, connection.dialect)

    @renewing
    async def examine(self, feed: Feed) -> tuple[Finding, ...]:
        """What the catalogue says about the feed's table, key, indexes and settings; looked up
        anew.
        """
        self._plans.forget(feed)
        async with self._reading(feed) as (connection, plan):
            return await connection.run_sync(examine_feed, plan)

    async def version(self) -> str:
        """Product and version of the server, such as `sqlite 3.40.1`, and its driver where that may
        differ.

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
