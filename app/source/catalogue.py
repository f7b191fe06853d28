"""A feed's table and columns, checked against the database's own catalogue.

Only names that the catalogue gave back reach a statement, and always quoted: nothing typed into a feed can inject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnClause, Connection, TableClause, column, inspect, table, text
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import TypeEngine

from app.core.cursors import Origin
from app.core.errors import SourceRefused
from app.feeds.feed import Feed
from app.source.products.mssql.columns import all_columns

_PART = re.compile(r'\[((?:[^\]]|\]\])+)\]|"((?:[^"]|"")+)"|([^."\[\]]+)')
_NAMES_SHOWN = 20
_DIGITS = text("SELECT name, scale FROM sys.columns WHERE object_id = OBJECT_ID(:named)")


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the catalogue describes it."""

    name: str
    type: TypeEngine[Any]


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table or view as the catalogue describes it."""

    feed: str
    schema: str | None
    name: str
    columns: tuple[Column, ...]

    def column(self, wanted: str, setting: str) -> Column:
        """The column of that name: written the same, or else the only one that differs in case alone.

        Raises `SourceRefused` that names the feed's setting and the columns there are.
        """
        exact = [known for known in self.columns if known.name == wanted]
        alike = exact or [known for known in self.columns if known.name.casefold() == wanted.casefold()]
        if len(alike) == 1:
            return alike[0]
        raise SourceRefused(
            f"feed {self.feed}: {setting}: table {self.name!r} has no column {wanted!r}; "
            f"its columns: {_listed(known.name for known in self.columns)}"
        )

    def clause(self, typed: Column, column_type: TypeEngine[Any] | None) -> TableClause:
        """The table for a statement. Values come as the driver gives them; only `typed` is bound as `column_type`.

        SQLAlchemy's own conversions are left out because one malformed value would fail the whole page.
        """
        return table(
            quoted_name(self.name, quote=True),
            *(_clause(known, column_type if known is typed else None) for known in self.columns),
            schema=None if self.schema is None else quoted_name(self.schema, quote=True),
        )


def parse_table_name(text: str, feed: str) -> tuple[str | None, str]:
    """Schema (`None`: the default one) and name out of `name`, `schema.name`, `[my schema].[name]` or `"s"."n"`.

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
    """What the feed reads, in the form that the ledger keeps. Raises `SourceRefused` for a name of no known form."""
    schema, name = parse_table_name(feed.table, feed.name)
    table = name if schema is None else f"{schema}.{name}"
    key = tuple(column.casefold() for column in feed.key)
    return Origin(table.casefold(), key, feed.cursor.strategy.value, feed.cursor.column.casefold())


def other_source(feed: Feed, origin: Origin) -> str:
    """That the feed's deliveries came from `origin`, and what to do."""
    return (
        f"feed {feed.name}: its deliveries came from {origin}, but feeds.toml says {origin_of(feed)}; "
        f"give what is another source a feed of another name; if it is the same: python -m app feeds adopt {feed.name}"
    )


def find_table(connection: Connection, feed: Feed) -> SourceTable:
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
        raise _no_such_table(inspector, feed, schema) from None
    # A quoted_name is a str that orjson takes for no dict key: the formatting makes it a plain one.
    named: list[tuple[str, TypeEngine[Any]]] = [(f"{entry['name']}", entry["type"]) for entry in found]
    if connection.dialect.name == "mssql":
        named = all_columns(connection, written, name, named)
    columns = tuple(Column(*column) for column in named)
    if connection.dialect.name == "mssql":
        _tell_digits(connection, quoted_table(written, name), columns)
    return SourceTable(feed.name, written, name, columns)


def quoted_table(schema: str | None, name: str) -> str:
    """A table's name as OBJECT_ID() takes it, whatever letters it has."""
    return ".".join(f"[{part.replace(']', ']]')}]" for part in (schema, name) if part)


def _tell_digits(connection: Connection, named: str, columns: Iterable[Column]) -> None:
    """Give types of dates and times the digits of a second that SQL Server declares: SQLAlchemy leaves them out."""
    untold = {known.name: known.type for known in columns if getattr(known.type, "precision", 0) is None}
    if untold:
        for column_name, digits in connection.execute(_DIGITS, {"named": named}):
            if column_name in untold:
                vars(untold[column_name])["precision"] = digits


def _no_such_table(inspector: Inspector, feed: Feed, schema: str | None) -> SourceRefused:
    known = [*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)]
    hidden = ", or is a synonym, or the login may not see it" if inspector.dialect.name == "mssql" else ""
    return SourceRefused(
        f"feed {feed.name}: table {feed.table!r} does not exist{hidden}; tables and views: {_listed(sorted(known))}"
    )


def _require_schema(inspector: Inspector, feed: Feed, schema: str | None) -> None:
    if schema is None:
        return
    known = inspector.get_schema_names()
    if schema.casefold() not in (name.casefold() for name in known):
        raise SourceRefused(f"feed {feed.name}: table {feed.table!r}: no schema {schema!r}; schemas: {_listed(known)}")


def _clause(known: Column, column_type: TypeEngine[Any] | None) -> ColumnClause[Any]:
    return column(quoted_name(known.name, quote=True), column_type)


def _listed(names: Iterable[str]) -> str:
    shown: Sequence[str] = [repr(f"{name}") for name in names]
    more = f" and {len(shown) - _NAMES_SHOWN} more" if len(shown) > _NAMES_SHOWN else ""
    return (", ".join(shown[:_NAMES_SHOWN]) or "none") + more
