"""Examining a feed before its first poll: what the database's catalogue says about table, key, indexes and settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.engine import Inspector
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.sql import quoted_name

from app.feeds.feed import Strategy
from app.source.findings import Finding, Level
from app.source.outside import COUNTED
from app.source.plan import FeedPlan


@dataclass(frozen=True, slots=True)
class Index:
    """An index, or a constraint that has one, over every row of its table."""

    name: str
    columns: tuple[str, ...]
    unique: bool


def examine_feed(connection: Connection, plan: FeedPlan) -> tuple[Finding, ...]:
    """What was found about a feed whose names the catalogue has confirmed, in the order to read it.

    Sync, for `AsyncConnection.run_sync`. Raises SQLAlchemy's errors.
    """
    inspector = inspect(connection)
    view = is_view(inspector, plan)
    indexes = [] if view else list(indexes_of(inspector, plan))
    columns = f"{len(plan.table.columns)} columns, of which {len(plan.shape.names)} are sent"
    return (
        Finding("view" if view else "table", Level.OK, f"{plan.feed.table}: {columns}"),
        key_finding(plan, indexes, view=view),
        index_finding(plan, indexes, view=view),
        *unread_findings(connection, plan),
        *plan.product.examine(connection, plan.feed),
    )


def unread_findings(connection: Connection, plan: FeedPlan) -> Iterator[Finding]:
    """Whether the table may hold rows, or come to hold some, that the cursor does not see."""
    column = plan.strategy.selection.cursor.name
    cursor = plan.strategy.column
    some = select(cursor).where(cursor.is_(None)).limit(COUNTED + 1).subquery()
    rows = int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    if rows:
        count = f"{min(rows, COUNTED)}{' or more' if rows > COUNTED else ''}"
        said = f"{column} is NULL in {count} rows: no poll reads them; fill it, or use strategy rowversion"
        yield Finding("cursor column", Level.WARNING, said)
    else:
        yield Finding("cursor column", Level.OK, f"{column} is NULL in no row")
    counter = plan.strategy.selection.identity_counter
    if plan.feed.cursor.strategy is Strategy.IDENTITY and counter is not None:
        counted = connection.execute(counter).first()
        if counted is not None and len(counted) == 2 and counted[1] is not None and counted[1] < 0:
            said = f"{column} counts down: new rows come below the cursor; use strategy rowversion"
            yield Finding("identity", Level.FAILED, said)
    if plan.feed.cursor.strategy is Strategy.TIMESTAMP:
        yield from clock_finding(connection, plan)


def clock_finding(connection: Connection, plan: FeedPlan) -> Iterator[Finding]:
    """Whether the hour that comes twice, when daylight saving time ends, may be passed over."""
    clock, sql, kind = plan.feed.cursor.clock, plan.strategy.selection.sql, plan.strategy.selection.cursor.type
    if sql is None or clock == "utc" or "OFFSET" in type(kind).__name__.upper():
        return
    behind = clock == "either" and int(connection.execute(select(sql.offset_minutes)).scalar_one()) < 0
    if clock == "local" or behind:
        said = (
            f"{plan.feed.cursor.column} may hold local time: in the autumn night in which an hour comes twice, rows of "
            "the second one lie below the cursor, and no poll reads them (the next reconciliation does); write UTC and "
            'set clock = "utc", or use strategy rowversion'
        )
        yield Finding("clock", Level.WARNING, said)


def key_finding(plan: FeedPlan, indexes: list[Index], *, view: bool) -> Finding:
    """Whether the catalogue proves that no two rows share the feed's key."""
    key = {column.name for column in plan.strategy.selection.key}
    named = ", ".join(plan.feed.key)
    proof = next((index for index in indexes if index.unique and set(index.columns) <= key), None)
    if proof is not None:
        return Finding("key", Level.OK, f"{named}: unique by {proof.name}")
    if view:
        return Finding("key", Level.WARNING, f"{named}: a view's keys cannot be proven unique; make sure they are")
    said = f"{named}: no unique index proves it; of rows that share a key, one is delivered: add a unique index"
    return Finding("key", Level.WARNING, said)


def index_finding(plan: FeedPlan, indexes: list[Index], *, view: bool) -> Finding:
    """Whether a poll can seek by the cursor column."""
    column = plan.strategy.selection.cursor.name
    leading = next((index for index in indexes if index.columns[:1] == (column,)), None)
    if leading is not None:
        return Finding("cursor index", Level.OK, f"{column}: leads {leading.name}")
    if view:
        said = f"{column}: a view's indexes cannot be told; make sure the table behind it has one on this column"
        return Finding("cursor index", Level.WARNING, said)
    create = f"CREATE INDEX <name> ON {plan.feed.table} ({column})"
    said = f"{column} leads no index, so each poll reads the whole table: {create}"
    return Finding("cursor index", Level.WARNING, said)


def is_view(inspector: Inspector, plan: FeedPlan) -> bool:
    """Whether the feed reads a view."""
    views = inspector.get_view_names(schema=_schema(plan))
    return plan.table.name.casefold() in (name.casefold() for name in views)


def indexes_of(inspector: Inspector, plan: FeedPlan) -> Iterator[Index]:
    """The indexes of the feed's table that a seek can use, its primary key first. Partial ones are left out."""
    name, schema = plan.table.name, _schema(plan)
    primary = inspector.get_pk_constraint(name, schema=schema)
    if primary["constrained_columns"]:
        yield Index(primary["name"] or "the primary key", tuple(primary["constrained_columns"]), unique=True)
    for index in inspector.get_indexes(name, schema=schema):
        if not _partial(index):
            columns = tuple(column or "" for column in index["column_names"])
            yield Index(index["name"] or "an index", columns, unique=bool(index["unique"]))
    if inspector.dialect.name == "sqlite":  # elsewhere a unique constraint is among the indexes
        for constraint in inspector.get_unique_constraints(name, schema=schema):
            yield Index(constraint["name"] or "a unique constraint", tuple(constraint["column_names"]), unique=True)


def _partial(index: ReflectedIndex) -> bool:
    options = index.get("dialect_options", {})
    return any(option.endswith(("_where", "_columnstore")) for option in options)


def _schema(plan: FeedPlan) -> str | None:
    return None if plan.table.schema is None else quoted_name(plan.table.schema, quote=True)
