"""A feed's table and columns, checked against the database's own catalogue.

Only names that the catalogue gave back reach a statement, and always quoted: nothing typed into a
feed can inject.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import TypeEngine

from app.core.cursors import Origin
from app.core.errors import SourceRefused
from app.feeds.feed import Feed
from app.source.products.product import Product
from app.source.table import Column, SourceTable, listed

_PART = re.compile(r'\[((?:[^\]]|\]\])+)\]|"((?:[^"]|"")+)"|([^."\[\]]+)')


def parse_table_name(text: str, feed: str) -> tuple[str | None, str]:
    """Schema (`None`: the default one) and name out of `name`, `schema.name`, `[my schema].[name]`
    or `"s"."n"`.

    Raises `SourceRefused` for any other form.
    """
    parts: list[str] = []
    place = -1
    while place < len(text):
        match = _PART.match(text, place + 1)
        if match is None or text[match.end() : match.end() + 1] not in ("", "."):
            break
        bracketed, quoted, bare = match.groups()
        parts.append(bare or (bracketed or "").replace("]]", "]") or quoted.replace('""', '"'))
        place = match.end()
    if len(parts) > 2 and place >= len(text):
        raise SourceRefused(
            f"feed {feed}: table: found {text!r}, a table of another database; "
            "write schema.name, and name the database in SOURCE_URL"
        )
    if place < len(text) or len(parts) not in (1, 2):
        raise SourceRefused(
            f"feed {feed}: table: found {text!r}; write name or schema.name, a part with dots in it as [part]"
        )
    return (parts[0] if len(parts) == 2 else None), parts[-1]


def origin_of(feed: Feed) -> Origin:
    """What the feed reads, in the form that the ledger keeps. Raises `SourceRefused` for a name of
    no known form.
    """
    schema, name = parse_table_name(feed.table, feed.name)
    table = name if schema is None else f"{schema}.{name}"
    key = tuple(column.casefold() for column in feed.key)
    return Origin(table.casefold(), key, feed.cursor.strategy, feed.cursor.order.casefold())


def other_source(feed: Feed, origin: Origin) -> str:
    """That the feed's deliveries came from `origin`, and what to do."""
    return (
        f"feed {feed.name}: its deliveries came from {origin}, but feeds.toml says {origin_of(feed)}; "
        f"give what is another source a feed of another name; if it is the same: python -m app feeds adopt {feed.name}"
    )


def find_table(connection: Connection, feed: Feed, product: Product) -> SourceTable:
    """Look the feed's table or view up. Raises `SourceRefused` that names it and what exists.

    Sync, for `AsyncConnection.run_sync`.
    """
    written, name = parse_table_name(feed.table, feed.name)
    # Quoted, so that SQLAlchemy takes no dot in a schema's name for the end of a database's.
    schema = None if written is None else quoted_name(written, quote=True)
    inspector = inspect(connection)
    _require_schema(inspector, feed, schema)
    try:
        found = inspector.get_columns(name, schema=schema)
    except NoSuchTableError:
        raise _no_such_table(inspector, feed, schema, product) from None
    # A quoted_name is a str that orjson takes for no dict key: the formatting makes it a plain one.
    named: list[tuple[str, TypeEngine[Any]]] = [
        (f"{entry['name']}", entry["type"]) for entry in found
    ]
    named = product.columns(connection, written, name, named)
    return SourceTable(feed.name, written, name, tuple(Column(*column) for column in named))


def _no_such_table(
    inspector: Inspector, feed: Feed, schema: str | None, product: Product
) -> SourceRefused:
    known = [*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)]
    return SourceRefused(
        f"feed {feed.name}: table {feed.table!r} does not exist{product.unseen}; "
        f"tables and views: {listed(sorted(known))}"
    )


def _require_schema(inspector: Inspector, feed: Feed, schema: str | None) -> None:
    if schema is None:
        return
    known = inspector.get_schema_names()
    if schema.casefold() not in (name.casefold() for name in known):
        raise SourceRefused(
            f"feed {feed.name}: table {feed.table!r}: no schema {schema!r}; schemas: {listed(known)}"
        )
