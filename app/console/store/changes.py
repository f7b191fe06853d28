"""How many rows a statement changed, and deletes that keep nobody waiting."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.dml import Delete, Update

PRUNED_AT_ONCE = 1000
"""Rows that a periodic job deletes in one transaction: SQLite's other writers wait for it."""


async def rows_changed(session: AsyncSession, statement: Update | Delete) -> int:
    """Run it; returns how many rows it changed."""
    result: Any = await session.execute(statement)
    assert isinstance(result, CursorResult)  # noqa: S101 - what such a statement gives
    return result.rowcount


async def delete_some(
    session: AsyncSession,
    key: InstrumentedAttribute[str],
    condition: ColumnElement[bool],
    limit: int,
) -> int:
    """Delete at most `limit` rows that fulfil the condition, of the table whose primary key that is;
    returns how many."""
    some = select(key).where(condition).limit(limit)
    statement = delete(key.class_).where(key.in_(some))
    return await rows_changed(session, statement.execution_options(synchronize_session=False))
