"""All that reading one feed needs and that stays the same from page to page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from app.core.errors import SourceRefused
from app.feeds.feed import Feed, Strategy
from app.source.catalogue import Column, SourceTable
from app.source.codec import Codec
from app.source.cursors.cursor import CursorStrategy, Selection
from app.source.cursors.cursor_sql import CURSOR_SQL, CursorSql
from app.source.cursors.identity import Identity
from app.source.cursors.rowversion import Rowversion
from app.source.cursors.timestamp import Timestamp
from app.source.products.dialect import Dialect
from app.source.rows import RowShape
from app.source.where import where_columns

STRATEGIES: Mapping[Strategy, type[CursorStrategy]] = {
    Strategy.ROWVERSION: Rowversion,
    Strategy.IDENTITY: Identity,
    Strategy.TIMESTAMP: Timestamp,
}


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """A feed whose names the catalogue has confirmed."""

    feed: Feed
    table: SourceTable
    strategy: CursorStrategy
    shape: RowShape
    scales: FeedPlan | None = None
    """The same rows by key and cursor column alone, each with its bytes in place of what it holds. `None`: the server
    does not say them, or none can be large."""


def plan_table(
    table: SourceTable, feed: Feed, dialect: Dialect, product: str, connection: Connection | None = None
) -> FeedPlan:
    """The plan for a table that is known already. `product` is SQLAlchemy's name for the database product.

    Raises `SourceRefused` where the feed names a column that the table does not have, or one of an unfit type.
    """
    plan = _plan(_select(table, feed, dialect, product, connection))
    return replace(plan, scales=_scales(plan, product))


def _plan(selection: Selection) -> FeedPlan:
    feed, table, dialect = selection.feed, selection.table, selection.dialect
    sent = _sent_columns(feed, table)
    shape = RowShape(
        names=tuple(column.name for column in sent),
        key_places=tuple(selection.place(column) for column in selection.key),
        key_writers=tuple(codec.write for codec in selection.key_codecs),
        decoders=tuple(
            (place, decode) for place, column in enumerate(sent) if (decode := dialect.decoder(column.type)) is not None
        ),
        max_payload=feed.max_payload,
    )
    return FeedPlan(feed, table, STRATEGIES[feed.cursor.strategy](selection), shape)


def _scales(plan: FeedPlan, product: str) -> FeedPlan | None:
    selection, dialect = plan.strategy.selection, plan.strategy.selection.dialect
    rows = selection.rows
    if all(dialect.size(rows.c[column.name], column.type) is None for column in selection.read):
        return None
    narrow = plan.feed.model_copy(update={"columns": plan.feed.key})
    return _plan(replace(_select(plan.table, narrow, dialect, product, None), weighed=selection.read))


def _select(table: SourceTable, feed: Feed, dialect: Dialect, product: str, connection: Connection | None) -> Selection:
    sql = CURSOR_SQL.get(product)
    cursor = table.column(feed.cursor.column, "cursor.column")
    key = tuple(table.column(name, "key") for name in feed.key)
    return Selection(
        feed=feed,
        table=table,
        rows=table.clause(cursor, STRATEGIES[feed.cursor.strategy].column_type),
        read=tuple(dict.fromkeys([*_sent_columns(feed, table), *key, cursor])),
        cursor=cursor,
        key=key,
        key_codecs=tuple(_key_codec(feed, table, column, sql) for column in key),
        where=tuple(where_columns(feed, table)),
        dialect=dialect,
        sql=sql,
        identity_counter=sql.identity_counter(connection, table, cursor) if sql else None,
    )


def _key_codec(feed: Feed, table: SourceTable, column: Column, sql: CursorSql | None) -> Codec:
    codec = Codec(column) if sql is None else sql.codec(column)
    if codec is None:
        raise SourceRefused(
            f"feed {feed.name}: key: column {column.name!r} of table {table.name!r} is {column.type!r}: a row "
            "cannot be told from others, or found again, by such a value (docs/types.md); name another column"
        )
    return codec


def _sent_columns(feed: Feed, table: SourceTable) -> list[Column]:
    if feed.columns is None:
        return list(table.columns)
    return list(dict.fromkeys(table.column(name, "columns") for name in feed.columns))
