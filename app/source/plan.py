"""All that reading one feed needs and that stays the same from page to page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from app.errors import SourceRefused
from app.feed import Feed, Strategy
from app.source.catalogue import Column, SourceTable, find_table
from app.source.cursors import CursorStrategy, Selection
from app.source.dialect import Dialect
from app.source.identity import Identity
from app.source.rows import RowShape

STRATEGIES: Mapping[Strategy, type[CursorStrategy]] = {Strategy.IDENTITY: Identity}


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """A feed whose names the catalogue has confirmed."""

    feed: Feed
    table: SourceTable
    strategy: CursorStrategy
    shape: RowShape


def plan_feed(connection: Connection, feed: Feed, dialect: Dialect) -> FeedPlan:
    """Check a feed against the catalogue. Raises `SourceRefused` that names what is missing and what exists.

    Sync, for `AsyncConnection.run_sync`.
    """
    kind = STRATEGIES.get(feed.cursor.strategy)
    if kind is None:
        known = ", ".join(STRATEGIES)
        raise SourceRefused(
            f"feed {feed.name}: cursor.strategy: found {feed.cursor.strategy}; this version has {known}"
        )
    table = find_table(connection, feed)
    sent = _sent_columns(feed, table)
    cursor = table.column(feed.cursor.column, "cursor.column")
    key = [table.column(name, "key") for name in feed.key]
    selected = list(dict.fromkeys([*sent, *key, cursor]))
    clause = table.clause(cursor, kind.column_type)
    selection = Selection(
        feed=feed,
        table=table,
        columns=tuple(clause.c[column.name] for column in selected),
        cursor=clause.c[cursor.name],
        cursor_place=selected.index(cursor),
        key_places=tuple(selected.index(column) for column in key),
    )
    shape = RowShape(
        names=tuple(column.name for column in sent),
        key_places=selection.key_places,
        decoders=tuple(
            (place, decode) for place, column in enumerate(sent) if (decode := dialect.decoder(column.type)) is not None
        ),
        max_payload=feed.max_payload,
    )
    return FeedPlan(feed, table, kind(selection), shape)


def _sent_columns(feed: Feed, table: SourceTable) -> list[Column]:
    if feed.columns is None:
        return list(table.columns)
    return list(dict.fromkeys(table.column(name, "columns") for name in feed.columns))
