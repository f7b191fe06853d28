"""Everything about reading one feed that stays the same from page to page."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from app.core.errors import SourceRefused
from app.feeds.feed import Feed
from app.source.cursors.registry import STRATEGIES
from app.source.cursors.selection import Selection
from app.source.cursors.strategy import CursorStrategy
from app.source.payload import RowShape
from app.source.position_codec import Codec
from app.source.products.product import Product
from app.source.table import Column, SourceTable
from app.source.where import where_columns


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """A feed whose names the catalogue has confirmed."""

    feed: Feed
    table: SourceTable
    strategy: CursorStrategy
    shape: RowShape
    scales: FeedPlan | None = None
    """The same rows by key and cursor column alone, each with its bytes in place of what it holds.
    `None`: the server does not say them, or none can be large."""

    @property
    def product(self) -> Product:
        """The database product that it was made for."""
        return self.strategy.selection.product


def plan_table(
    table: SourceTable, feed: Feed, product: Product, connection: Connection | None = None
) -> FeedPlan:
    """The plan for a table that is known already.

    Raises `SourceRefused` where the feed names a column that the table does not have, or one of an
    unfit type.
    """
    plan = _plan(_select(table, feed, product, connection))
    if connection is not None:
        plan.strategy.confirm(connection)
    return replace(plan, scales=_scales(plan))


def narrowed(plan: FeedPlan, *, where: bool = True) -> FeedPlan:
    """The plan with the feed's key as the only columns that are read, beside its cursor column.
    `where`: and what the feed's conditions say of each row.
    """
    narrow = plan.feed.model_copy(update={"columns": plan.feed.key})
    return plan_table(plan.table, narrow if where else without_where(narrow), plan.product)


def without_where(feed: Feed) -> Feed:
    """The feed without its conditions."""
    return feed.model_copy(update={"where": ()})


def _plan(selection: Selection) -> FeedPlan:
    feed, table, decoder = selection.feed, selection.table, selection.product.decoder
    sent = _sent_columns(feed, table)
    shape = RowShape(
        names=tuple(column.name for column in sent),
        key_places=tuple(selection.place(column) for column in selection.key),
        key_writers=tuple(codec.write for codec in selection.key_codecs),
        decoders=tuple(
            (place, decode)
            for place, column in enumerate(sent)
            if (decode := decoder(column.type)) is not None
        ),
        max_payload=feed.max_payload,
    )
    strategy = STRATEGIES[feed.cursor.strategy](selection)
    return FeedPlan(feed, table, strategy, strategy.shaped(shape))


def _scales(plan: FeedPlan) -> FeedPlan | None:
    selection, rows = plan.strategy.selection, plan.strategy.selection.rows
    if all(
        plan.product.size(rows.c[column.name], column.type) is None for column in selection.read
    ):
        return None
    narrow = plan.feed.model_copy(update={"columns": plan.feed.key})
    return _plan(replace(_select(plan.table, narrow, plan.product, None), weighed=selection.read))


def _select(
    table: SourceTable, feed: Feed, product: Product, connection: Connection | None
) -> Selection:
    sql = product.cursors
    kind = STRATEGIES[feed.cursor.strategy]
    cursor = kind.cursor_column(table, feed)
    key = tuple(table.column(name, "key") for name in feed.key)
    selection = Selection(
        feed=feed,
        table=table,
        rows=table.clause(cursor, kind.column_type),
        read=tuple(dict.fromkeys([*_sent_columns(feed, table), *key, cursor])),
        cursor=cursor,
        key=key,
        key_codecs=tuple(_key_codec(feed, table, column, product) for column in key),
        where=tuple(where_columns(feed, table)),
        product=product,
        identity_counter=sql.identity_counter(connection, table, cursor) if sql else None,
    )
    return kind.prepared(selection)


def _key_codec(feed: Feed, table: SourceTable, column: Column, product: Product) -> Codec:
    codec = product.codec(column)
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
