"""A feed's `where`: conditions on columns that the catalogue knows, with bound values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_

from app.feeds.feed import Condition, Feed
from app.source.table import Column, SourceTable

_COMPARISONS: Mapping[str, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "like": lambda column, value: column.like(value),
    "in": lambda column, values: column.in_(values),
    "not in": lambda column, values: column.not_in(values),
    "is null": lambda column, _: column.is_(None),
    "is not null": lambda column, _: column.is_not(None),
}


def where_columns(feed: Feed, table: SourceTable) -> list[Column]:
    """The columns that the feed's conditions name. Raises `SourceRefused` for one that the table
    does not have.
    """
    return [table.column(condition.column, "where") for condition in feed.where]


def matches(
    conditions: Sequence[Condition], columns: Sequence[Column], rows: FromClause
) -> ColumnElement[bool]:
    """That a row meets all conditions (1 or more), each on the column at the same place."""
    return and_(
        *(
            _COMPARISONS[condition.op](rows.c[column.name], _bound(condition))
            for condition, column in zip(conditions, columns, strict=True)
        )
    )


def _bound(condition: Condition) -> Any:
    return (
        list(condition.values)
        if condition.op in ("in", "not in")
        else next(iter(condition.values), None)
    )
