"""Finding rows of a feed by the text of their keys.

The key needs an index, as `doctor` says: without one each statement reads the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from sqlalchemy import BigInteger, BindParameter, ColumnElement, LargeBinary, Unicode, and_, bindparam, or_, select
from sqlalchemy.types import TypeEngine

from app.errors import SourceRefused
from app.source.catalogue import Column
from app.source.cursors import Statement
from app.source.plan import FeedPlan

_SIZES = (1, 10, 100, 500)
_COMPOSITE_SIZES = (1, 10, 50)
"""Statements exist for these numbers of keys, the rest filled with the last one: few texts, so plans are reused. A
composite key takes a term for each of its parts, and products bound how many of these they take."""
_TYPES: dict[type, TypeEngine[Any]] = {int: BigInteger(), str: Unicode(), bytes: LargeBinary()}


def find_row(plan: FeedPlan, key: str) -> Statement:
    """The statement that reads the row of this key, as it stands in a delivery's id (see `rows.key_text`).

    Raises `SourceRefused` for a text that cannot be the key of one of the feed's rows.
    """
    selection, parts = plan.strategy.selection, key.split(":")
    if len(parts) != len(selection.key):
        names = ", ".join(column.name for column in selection.key)
        raise SourceRefused(f"feed {plan.feed.name}: key {key!r} has {len(parts)} parts; its key is {names}")
    wanted = [
        selection.rows.c[column.name] == _value(plan, column, part)
        for column, part in zip(selection.key, parts, strict=True)
    ]
    return Statement(select(*selection.columns(selection.rows)).where(*wanted).limit(1))


def keys_a_statement(plan: FeedPlan) -> int:
    """How many keys `find_rows` takes at most."""
    return (_SIZES if len(plan.strategy.selection.key) == 1 else _COMPOSITE_SIZES)[-1]


def can_be_found(plan: FeedPlan, key: str) -> bool:
    """Whether a text has the form of a key of this feed; not where a part is NULL, or the key had other parts."""
    columns = plan.strategy.selection.key
    parts = key.split(":")
    if len(parts) != len(columns) or "%-" in parts or "@" in key:
        return False
    try:
        for column, part in zip(columns, parts, strict=True):
            _value(plan, column, part)
    except SourceRefused:
        return False
    return True


def find_rows(plan: FeedPlan, keys: Sequence[str]) -> Statement:
    """The statement that reads the rows of these keys as a page would, in any order; for some, perhaps more rows.

    Takes 1 to `keys_a_statement` keys, each of which `can_be_found`. Where the server knows letters that differ to be
    equal (`A` and `a`), rows of keys nobody asked for come too: compare the text.
    """
    columns = plan.strategy.selection.key
    sizes = _SIZES if len(columns) == 1 else _COMPOSITE_SIZES
    size = next(size for size in sizes if size >= len(keys))
    filled = [*keys, *[keys[-1]] * (size - len(keys))]
    bound = [
        [_bound(plan, column, part, f"key{place}p{number}") for number, (column, part) in enumerate(_parts(plan, key))]
        for place, key in enumerate(filled)
    ]
    rows = plan.strategy.selection.rows
    named = [rows.c[column.name] for column in columns]
    wanted: ColumnElement[bool] = (
        named[0].in_([values[0] for values in bound])
        if len(named) == 1
        else or_(*(and_(*map(_equal, named, values)) for values in bound))
    )
    return Statement(plan.strategy.every_row.where(wanted))


def _parts(plan: FeedPlan, key: str) -> list[tuple[Column, str]]:
    return list(zip(plan.strategy.selection.key, key.split(":"), strict=True))


def _equal(column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
    return column == value


def _bound(plan: FeedPlan, column: Column, part: str, name: str) -> ColumnElement[Any]:
    """A part of a key as a parameter of the column's own type, so that the server compares by the column's index."""
    value, sql = _value(plan, column, part), plan.strategy.selection.sql
    plain: BindParameter[Any] = bindparam(name, value, type_=_TYPES[type(value)])
    if sql is None:
        return plain
    if isinstance(value, str) and sql.text(plain, column.type) is not None:  # a moment: SQL Server's style 121 has no T
        plain = bindparam(name, value.replace("T", " ", 1), type_=_TYPES[str])
    return sql.typed(plain, column.type)


def _value(plan: FeedPlan, column: Column, part: str) -> Any:
    """A part of the key in the column's own kind; text, where the server knows how to read that."""
    try:
        kind = column.type.python_type
    except NotImplementedError:
        kind = str
    try:
        return int(part) if kind is int else bytes.fromhex(part) if kind is bytes else unquote(part)
    except ValueError:
        raise SourceRefused(f"feed {plan.feed.name}: key {part!r} is no value of column {column.name!r}") from None
