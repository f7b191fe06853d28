"""The statements that polling and reconciling a feed send.

Written out so that a database administrator can review and run them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.types import BigInteger, TypeEngine

from app.core.position import ReadRange
from app.feeds.feed import Feed
from app.source.catalogue import parse_table_name
from app.source.cursors.keyset import example_key
from app.source.cursors.registry import STRATEGIES
from app.source.cursors.selection import Statement
from app.source.lookup import find_rows
from app.source.outside import unordered
from app.source.plan import FeedPlan, narrowed, plan_table
from app.source.products import registry as products
from app.source.scan import ScanRange, counted, stride, window
from app.source.table import Column, SourceTable

_NAMED = re.compile(r"(?<!:):([A-Za-z_]\w*)")
PRODUCTS = tuple(name for name, product in products.PRODUCTS.items() if product.cursors)
"""The products that `explain_unseen` writes for."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One statement that a poll or a reconciliation sends."""

    name: str
    when: str
    sql: str
    """With named parameters: `@name` for SQL Server, `:name` elsewhere."""
    parameters: Mapping[str, object]
    """Examples of the values that are bound."""


def explain(plan: FeedPlan, dialect: SqlDialect) -> list[Explained]:
    """Each statement of the plan, compiled for the dialect with example positions."""
    written: Any = _dialect(dialect.name, paramstyle="named")
    written._supports_offset_fetch = True  # noqa: SLF001 - else known of a connection only: SQL Server 2012 has it
    statements = [*_statements(plan)]
    if plan.feed.cursor.unreconciled is None:
        statements += _walk_statements(plan, narrowed(plan), narrowed(plan, where=False))
    return [
        _explained(name, when, statement, written, plan.product.parameter_mark)
        for name, when, statement in statements
    ]


def explain_unseen(feed: Feed, product: str) -> list[Explained]:
    """As `explain`, without a connection: the table is taken to have the columns that the feed
    names, and no others.

    Raises `SourceRefused` for a table name that cannot be read.
    """
    plan = plan_table(_assumed_table(feed, product), feed, products.PRODUCTS[product])
    return explain(plan, _dialect(product))


def _dialect(product: str, **options: Any) -> Any:
    """SQLAlchemy's dialect of a product: loaded where somebody asks for statements, which few
    commands do.
    """
    return registry.load(product)(**options)


def _statements(plan: FeedPlan) -> Iterator[tuple[str, str, Statement]]:
    strategy, feed = plan.strategy, plan.feed
    position, horizon = strategy.example, strategy.example_horizon
    if (asked := strategy.horizon()) is not None:
        yield "horizon", "before each page: all below is committed", asked
    if (start := strategy.start("now", horizon)) is not None:
        yield "start", 'once, with start = "now"', start
    yield (
        "first page",
        "while nothing has been read",
        strategy.page(None, feed.page_size + 1, horizon),
    )
    yield (
        "page",
        "each poll; again while a page is full",
        strategy.next_page(position, feed.page_size + 1, horizon),
    )
    if plan.scales is not None:
        sizes = plan.scales.strategy.next_page(position, feed.page_size + 1, horizon)
        yield (
            "sizes",
            "in front of each page, where rows may be large: what the next ones hold",
            sizes,
        )
        yield (
            "page, up to a row",
            "in place of the page, after its sizes: the rows that memory has room for",
            strategy.page_upto(position, position, horizon),
        )
    yield from strategy.explained()
    if (clock := strategy.clock()) is not None:
        yield (
            "clock",
            "each poll, while ids are missing: their age is measured by the server's clock",
            clock,
        )
    for number, newest in enumerate(strategy.newest(position), start=1):
        yield f"newest {number}", "a poll that finds nothing, at most once a minute", newest
    yield (
        "waiting",
        "commands that show how many rows are waiting; up to 100, a poll that finds nothing, at most once a minute",
        strategy.waiting(position, 100_000),
    )


def _walk_statements(
    plan: FeedPlan, narrow: FeedPlan, bare: FeedPlan
) -> Iterator[tuple[str, str, Statement]]:
    position = plan.strategy.example
    leading = str(position[0]) if isinstance(position, list) else position
    below = ScanRange(ReadRange(None, position), floor=leading)
    key = ":".join(f"{example_key(column)}" for column in plan.strategy.selection.key)
    keys = [key.replace("0x2A", "2A")]
    size = min(2000, plan.feed.page_size)
    walking = f"a reconciliation, {size} rows after {size} rows up to the cursor, with rests"
    yield "walk", walking, window(plan, ScanRange(ReadRange(None, position)), position, size + 1)
    yield (
        "left out",
        "a reconciliation: counts what retention may have purged",
        counted(narrow, below, position, 50_000),
    )
    yield (
        "left out, on",
        "the same: where the next 50,000 rows begin",
        stride(bare, below, position, 50_000),
    )
    yield (
        "missing",
        "a reconciliation that misses rows: up to 500 keys a statement",
        find_rows(plan, keys),
    )
    yield (
        "deleted",
        "a reconciliation that has deliveries left over: up to 500 keys",
        find_rows(bare, keys),
    )
    yield (
        "unordered",
        "a reconciliation: rows that the cursor column does not order",
        unordered(narrow),
    )


def _explained(
    name: str, when: str, statement: Statement, dialect: SqlDialect, mark: str
) -> Explained:
    compiled = statement.select.compile(dialect=dialect)
    state = compiled.construct_expanded_state(statement.parameters)
    sql = state.statement
    if mark != ":":
        sql = _NAMED.sub(rf"{mark}\1", sql)
    return Explained(name, when, sql, state.parameters)


def _assumed_table(feed: Feed, product: str) -> SourceTable:
    schema, name = parse_table_name(feed.table, feed.name)
    names = [
        *(feed.columns or ()),
        *feed.key,
        *feed.cursor.named_columns,
        *(condition.column for condition in feed.where),
    ]
    columns = (
        Column(wanted, _assumed_type(feed, wanted, product)) for wanted in dict.fromkeys(names)
    )
    return SourceTable(feed.name, schema, name, tuple(columns))


def _assumed_type(feed: Feed, name: str, product: str) -> TypeEngine[Any]:
    if name not in feed.cursor.named_columns:
        return BigInteger()
    return STRATEGIES[feed.cursor.strategy].assumed_type(products.PRODUCTS[product])
