"""Runs a plan's statements and shapes the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.position import Position
from app.core.rows import SourceRow
from app.source.cursors.selection import Statement
from app.source.plan import FeedPlan
from app.source.portion import Broken, Portion

_ROWS_A_TURN = 500
"""Rows turned into JSON before the event loop gets a turn: a few milliseconds."""


async def run(connection: AsyncConnection, statement: Statement) -> Sequence[Row[Any]]:
    """Raises SQLAlchemy's errors; `DataError` for a value that the driver cannot hand over."""
    try:
        rows: Sequence[Row[Any]] = (
            await connection.execute(statement.select, statement.parameters)
        ).all()
    except (ArithmeticError, ValueError) as error:  # no Unicode, a date out of Python's years
        raise DataError(None, None, error) from error
    return rows


async def one(connection: AsyncConnection, statement: Statement | None) -> Any:
    """The single value that a statement gives; `None` without a statement."""
    return None if statement is None else (await run(connection, statement))[0][0]


async def horizon_of(connection: AsyncConnection, plan: FeedPlan) -> Any:
    """Below which all is committed; `None` where that is not asked."""
    statement = plan.strategy.horizon()
    return (
        None
        if statement is None
        else plan.strategy.horizon_of((await run(connection, statement))[0])
    )


def matching(plan: FeedPlan, portion: Portion) -> Portion:
    """Without the rows that the feed's conditions leave out."""
    place = plan.strategy.selection.match_place
    if place is None:
        return portion
    kept = [
        index
        for index, row in enumerate(portion.rows)
        if (row.selected if isinstance(row, Broken) else row[place])
    ]
    return Portion(
        [portion.rows[index] for index in kept], [portion.positions[index] for index in kept]
    )


async def source_rows(
    plan: FeedPlan,
    portion: Portion,
    shaped: Callable[[Row[Any], Position], SourceRow] | None = None,
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
    return tuple(changes(plan, done))


def changes(plan: FeedPlan, rows: list[SourceRow]) -> list[SourceRow]:
    """The rows, each with the change that it is where the feed captures changes."""
    if plan.feed.capture != "changes":
        return rows
    return [replace(row, change=plan.strategy.change(row.position)) for row in rows]


def in_order(plan: FeedPlan, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Without the rows that the cursor column does not order: it is NULL in them."""
    place = plan.strategy.selection.place(plan.strategy.selection.cursor)
    return [row for row in rows if row[place] is not None]
