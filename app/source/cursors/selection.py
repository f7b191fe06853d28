"""What the statements of a strategy are built from, and where things stand in the rows that they
give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, Select, case, func
from sqlalchemy.sql import literal_column, quoted_name

from app.feeds.feed import Feed
from app.source.payload import KEY_CHARACTERS
from app.source.position_codec import Codec
from app.source.products.product import SHORT, CursorSql, Product
from app.source.table import Column, SourceTable
from app.source.where import matches


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and the values for the parameters it names."""

    select: Select[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a strategy builds its statements from, and where things stand in a row."""

    feed: Feed
    table: SourceTable
    rows: FromClause
    """What is selected from."""
    read: tuple[Column, ...]
    """The columns that a page reads: first those that are sent, then those that only key and cursor
    need.
    """
    cursor: Column
    key: tuple[Column, ...]
    key_codecs: tuple[Codec, ...]
    """How the values of each column of the key stand in positions and ids."""
    where: tuple[Column, ...]
    """The column of each of the feed's conditions."""
    product: Product
    identity_counter: Select[Any] | None = None
    passes_on: Callable[[FromClause, ColumnElement[bool] | None], ColumnElement[bool]] | None = None
    """The condition for a row to be passed on, made of the rows and of the feed's conditions
    (`None`: it has none). `None`: the conditions alone decide."""
    weighed: tuple[Column, ...] = ()
    """The columns whose bytes are added up in place of their being read; none: a row says nothing
    of its size.
    """

    @property
    def sql(self) -> CursorSql | None:
        """What is known of the product's versions, moments and identities."""
        return self.product.cursors

    @property
    def match_place(self) -> int | None:
        """Where a row says, with 1 or 0, whether it goes on: as the feed's conditions say. `None`:
        every row does.
        """
        return len(self.read) if self._matched else None

    @property
    def extra_place(self) -> int:
        """Where in a row the columns begin that a strategy adds."""
        return self.size_place + bool(self.weighed)

    @property
    def size_place(self) -> int:
        """Where a row says how many bytes the `weighed` columns hold."""
        return len(self.read) + self._matched

    def columns(self, rows: FromClause) -> list[ColumnElement[Any]]:
        """What a page selects from `rows`, which has the table's columns.

        Rows that the conditions leave out are read too: were they not, the cursor could not move
        past them, and each poll would search through them again; and with `identity` each would
        look like a gap.
        """
        columns = [self._read(rows, column) for column in self.read]
        if self._matched:
            met = self._met(rows)
            columns.append(
                case((met, literal_column("1")), else_=literal_column("0")).label(
                    self.fresh_name("rowrelay_matches")
                )
            )
        if self.weighed:
            columns.append(self._size(rows).label(self.fresh_name("rowrelay_bytes")))
        return columns

    @property
    def needed(self) -> list[Column]:
        """Every column that `columns` is made of."""
        return list(dict.fromkeys(self.read + self.where + self.weighed))

    @property
    def _matched(self) -> bool:
        return bool(self.where) or self.passes_on is not None

    def _met(self, rows: FromClause) -> ColumnElement[bool]:
        conditions = matches(self.feed.where, self.where, rows) if self.where else None
        if self.passes_on is not None:
            return self.passes_on(rows, conditions)
        assert conditions is not None  # noqa: S101 - `_matched`: one of the two is there
        return conditions

    def _size(self, rows: FromClause) -> ColumnElement[Any]:
        """What a row holds, with the names that its JSON repeats."""
        sizes = [self.product.size(rows.c[column.name], column.type) for column in self.weighed]
        names = sum(len(column.name) + 4 for column in self.weighed)
        total: ColumnElement[Any] = literal_column(
            str(names + SHORT * sum(size is None for size in sizes)), Integer()
        )
        for size in sizes:
            if size is not None:
                total += func.coalesce(size, literal_column("0"))
        return total

    def _read(self, rows: FromClause, column: Column) -> ColumnElement[Any]:
        plain: ColumnElement[Any] = rows.c[column.name]
        limit = (
            max(self.feed.max_payload, KEY_CHARACTERS)
            if column in self.key
            else self.feed.max_payload
        )
        found = self.product.selected(plain, column.type, limit)
        return plain if found is plain else found.label(quoted_name(column.name, quote=True))

    def place(self, column: Column) -> int:
        """Where a column that is read stands in a row."""
        return self.read.index(column)

    def fresh_name(self, name: str) -> str:
        """The name, changed until no column of the table has it."""
        taken = {column.name.casefold() for column in self.table.columns}
        while name in taken:
            name += "_"
        return name
