"""What `doctor` says of a cursor column, whatever the strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from app.source.cursors.selection import Selection
from app.source.findings import Finding, Level
from app.source.indexes import Index

COUNTED = 10_000
"""Rows of a kind that are counted at most."""


def index_finding(selection: Selection, indexes: Sequence[Index], *, view: bool) -> Finding:
    """Whether a poll can seek by the cursor column."""
    column = selection.cursor.name
    leading = next((index for index in indexes if index.columns[:1] == (column,)), None)
    if leading is not None:
        return Finding("cursor index", Level.OK, f"{column}: leads {leading.name}")
    if view:
        said = f"{column}: a view's indexes cannot be told; make sure the table behind it has one on this column"
        return Finding("cursor index", Level.WARNING, said)
    create = f"CREATE INDEX <name> ON {selection.feed.table} ({column})"
    said = f"{column} leads no index, so each poll reads the whole table: {create}"
    return Finding("cursor index", Level.WARNING, said)


def unordered_finding(
    connection: Connection, selection: Selection, cursor: ColumnElement[Any]
) -> Finding:
    """Whether the table holds rows that the cursor does not see."""
    column = selection.cursor.name
    some = select(cursor).where(cursor.is_(None)).limit(COUNTED + 1).subquery()
    rows = int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    if not rows:
        return Finding("cursor column", Level.OK, f"{column} is NULL in no row")
    count = f"{min(rows, COUNTED)}{' or more' if rows > COUNTED else ''}"
    said = (
        f"{column} is NULL in {count} rows: no poll reads them; fill it, or use strategy rowversion"
    )
    return Finding("cursor column", Level.WARNING, said)
