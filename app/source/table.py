"""A table or view and its columns, as the catalogue describes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnClause, TableClause, column, table
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import TypeEngine

from app.core.errors import SourceRefused
from app.core.spelling import alike

_NAMES_SHOWN = 20


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
        """The column of that name: written the same, or else the only one that differs in case
        alone.

        Raises `SourceRefused` that names the feed's setting and the columns there are.
        """
        found = alike(wanted, (known.name for known in self.columns))
        if len(found) == 1:
            return next(known for known in self.columns if known.name == found[0])
        raise SourceRefused(
            f"feed {self.feed}: {setting}: table {self.name!r} has no column {wanted!r}; "
            f"its columns: {listed(known.name for known in self.columns)}"
        )

    def clause(self, typed: Column, column_type: TypeEngine[Any] | None) -> TableClause:
        """The table for a statement. Values come as the driver gives them; only `typed` is bound as
        `column_type`.

        SQLAlchemy's own conversions are left out because one malformed value would fail the whole
        page.
        """
        return table(
            quoted_name(self.name, quote=True),
            *(_clause(known, column_type if known is typed else None) for known in self.columns),
            schema=None if self.schema is None else quoted_name(self.schema, quote=True),
        )


def quoted_table(schema: str | None, name: str) -> str:
    """A table's name as OBJECT_ID() takes it, whatever letters it has."""
    return ".".join(f"[{part.replace(']', ']]')}]" for part in (schema, name) if part)


def _clause(known: Column, column_type: TypeEngine[Any] | None) -> ColumnClause[Any]:
    return column(quoted_name(known.name, quote=True), column_type)


def listed(names: Iterable[str]) -> str:
    """The first names, quoted, and how many more there are."""
    shown: Sequence[str] = [repr(f"{name}") for name in names]
    more = f" and {len(shown) - _NAMES_SHOWN} more" if len(shown) > _NAMES_SHOWN else ""
    return (", ".join(shown[:_NAMES_SHOWN]) or "none") + more
