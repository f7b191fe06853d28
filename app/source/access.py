"""Connections and plans for reading a feed, with a new plan when the table has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.budget import NoRoom
from app.core.errors import ColumnsCame, SourceRefused
from app.core.rows import Columns
from app.feeds.feed import Feed
from app.source.columns import still_there
from app.source.engine import source_name
from app.source.errors import advised, is_by_value, translated
from app.source.plan import FeedPlan
from app.source.plans import Plans
from app.source.products.registry import product_of

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

NEW_PLAN_AFTER_SECONDS = (0.0, 0.25, 1.0)
"""How long to wait before each new plan, where a plan that had worked was refused."""


class Access:
    """One process's way to the source: its connections, and the plans that it reads by."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._product = product_of(engine.url)
        self._plans = Plans(self._product)

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

    async def _agreed_plan(
        self, connection: AsyncConnection, feed: Feed, agreed: Columns
    ) -> FeedPlan:
        """The plan that reads the columns agreed, as far as the table has them."""
        there = await self._plans.columns(connection, feed, agreed, settled=True)
        return await self._plans.of(connection, feed, still_there(feed, agreed, there))

    def _may_be_a_row(self, plan: FeedPlan, error: SQLAlchemyError) -> bool:
        """Whether a row's value may be the cause; while the plan is one that has worked, a new one
        is asked first.
        """
        return not self._plans.proven(plan.feed) and is_by_value(error, self._product)

    def _said(self, error: Exception) -> str:
        return advised(error, self._product, self._engine.url.password)


A = TypeVar("A", bound=Access)


def renewing(
    method: Callable[Concatenate[A, Feed, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[A, Feed, P], Coroutine[Any, Any, T]]:
    """The method, again with a new plan where one that had worked before is refused.

    A column that the feed does not name was dropped, a type changed, the table was swapped for
    another: the plan was of the table as it had been. Between the two renames of a swap there is no
    table for a moment, so a new plan that is refused as well is made twice more. A login that is
    refused is not tried again: that may lock it out.
    """

    @wraps(method)
    async def run(self: A, feed: Feed, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for wait in NEW_PLAN_AFTER_SECONDS if self._plans.proven(feed) else ():
            try:
                return await method(self, feed, *args, **kwargs)
            except SourceRefused as error:
                if self._plans.proven(feed) or isinstance(error, ColumnsCame):
                    raise
                log.info("plan_renewed", feed=feed.name, error=type(error).__name__)
            await asyncio.sleep(wait)
        return await method(self, feed, *args, **kwargs)

    return run
