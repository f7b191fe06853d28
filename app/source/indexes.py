"""The indexes of a feed's table, as the catalogue has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.engine import Inspector
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.sql import quoted_name

from app.source.products.product import Product
from app.source.table import SourceTable


@dataclass(frozen=True, slots=True)
class Index:
    """An index, or a constraint that has one, over every row of its table."""

    name: str
    columns: tuple[str, ...]
    unique: bool


def is_view(inspector: Inspector, table: SourceTable) -> bool:
    """Whether it is a view."""
    views = inspector.get_view_names(schema=_schema(table))
    return table.name.casefold() in (name.casefold() for name in views)


def indexes_of(inspector: Inspector, table: SourceTable, product: Product) -> Iterator[Index]:
    """The indexes of the feed's table that a seek can use, its primary key first. Partial ones are
    left out.
    """
    name, schema = table.name, _schema(table)
    primary = inspector.get_pk_constraint(name, schema=schema)
    if primary["constrained_columns"]:
        yield Index(
            primary["name"] or "the primary key", tuple(primary["constrained_columns"]), unique=True
        )
    for index in inspector.get_indexes(name, schema=schema):
        if not _partial(index):
            columns = tuple(column or "" for column in index["column_names"])
            yield Index(index["name"] or "an index", columns, unique=bool(index["unique"]))
    if product.unique_constraints_apart:
        for constraint in inspector.get_unique_constraints(name, schema=schema):
            yield Index(
                constraint["name"] or "a unique constraint",
                tuple(constraint["column_names"]),
                unique=True,
            )


def _partial(index: ReflectedIndex) -> bool:
    options = index.get("dialect_options", {})
    return any(option.endswith(("_where", "_columnstore")) for option in options)


def _schema(table: SourceTable) -> str | None:
    return None if table.schema is None else quoted_name(table.schema, quote=True)
