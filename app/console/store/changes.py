"""How many rows a statement changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import Delete, Update


async def rows_changed(session: AsyncSession, statement: Update | Delete) -> int:
    """Run it; returns how many rows it changed."""
    result: Any = await session.execute(statement)
    assert isinstance(result, CursorResult)  # noqa: S101 - what such a statement gives
    return result.rowcount
