"""Examines a feed before its first poll: table, key, indexes and settings, as the database's
catalogue has them.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from app.source.findings import Finding, Level
from app.source.indexes import Index, indexes_of, is_view
from app.source.plan import FeedPlan


def examine_feed(connection: Connection, plan: FeedPlan) -> tuple[Finding, ...]:
    """What was found about a feed whose names the catalogue has confirmed, in the order to read it.

    Sync, for `AsyncConnection.run_sync`. Raises SQLAlchemy's errors.
    """
    inspector = inspect(connection)
    view = is_view(inspector, plan.table)
    indexes = [] if view else list(indexes_of(inspector, plan.table, plan.product))
    columns = f"{len(plan.table.columns)} columns, of which {len(plan.shape.names)} are sent"
    return (
        Finding("view" if view else "table", Level.OK, f"{plan.feed.table}: {columns}"),
        key_finding(plan, indexes, view=view),
        *plan.strategy.findings(connection, indexes, view=view),
        *plan.product.examine(connection, plan.feed),
    )


def key_finding(plan: FeedPlan, indexes: list[Index], *, view: bool) -> Finding:
    """Whether the catalogue proves that no two rows share the feed's key."""
    key = {column.name for column in plan.strategy.selection.key}
    named = ", ".join(plan.feed.key)
    proof = next((index for index in indexes if index.unique and set(index.columns) <= key), None)
    if proof is not None:
        return Finding("key", Level.OK, f"{named}: unique by {proof.name}")
    if view:
        return Finding(
            "key",
            Level.WARNING,
            f"{named}: a view's keys cannot be proven unique; make sure they are",
        )
    said = f"{named}: no unique index proves it; of rows that share a key, one is delivered: add a unique index"
    return Finding("key", Level.WARNING, said)
