"""The statements that find rows by the text of their keys.

The key needs an index, as `doctor` says: without one each statement reads the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from app.core.errors import SourceRefused
from app.core.keys import has_identity, is_short_key
from app.core.rows import SourceRow
from app.source.cursors.selection import Statement
from app.source.plan import FeedPlan
from app.source.position_codec import PartValue, Unplaceable


@dataclass(frozen=True, slots=True)
class Found:
    """A row that was asked for by its key."""

    row: SourceRow
    """As a page would give it."""
    read: bool
    """A poll gives it: the feed's conditions (`where`) select it, and its cursor column is not
    NULL.
    """


_SIZES = (1, 10, 100, 500)
_COMPOSITE_SIZES = (1, 10, 50)
"""Statements exist for these numbers of keys, the rest filled with the last one: few texts, so
plans are reused. A composite key takes a term for each of its parts, and products bound how many of
these they take."""


def find_row(plan: FeedPlan, key: str) -> Statement:
    """The statement that reads the row of this key (see `rows.key_text`), as a page would.

    Raises `SourceRefused` for a text that cannot be the key of one of the feed's rows.
    """
    selection, parts = plan.strategy.selection, key.split(":")
    if len(parts) != len(selection.key):
        names = ", ".join(column.name for column in selection.key)
        raise SourceRefused(
            f"feed {plan.feed.name}: key {key!r} has {len(parts)} parts; its key is {names}"
        )
    rows, every_row = plan.strategy.found_rows
    wanted = [
        rows.c[column.name] == _bound(plan, number, part, f"key{number}")
        for number, (column, part) in enumerate(zip(selection.key, parts, strict=True))
    ]
    return Statement(every_row.where(*wanted).limit(1))


def keys_a_statement(plan: FeedPlan) -> int:
    """How many keys `find_rows` takes at most."""
    return (_SIZES if len(plan.strategy.selection.key) == 1 else _COMPOSITE_SIZES)[-1]


def can_be_found(plan: FeedPlan, key: str) -> bool:
    """Whether a text has the form of a key of this feed; not where a part is NULL, or the key had
    other parts.
    """
    parts = key.split(":")
    if (
        len(parts) != len(plan.strategy.selection.key)
        or "%-" in parts
        or not has_identity(key)
        or is_short_key(key)
    ):
        return False
    try:
        for number, part in enumerate(parts):
            _place(plan, number, part)
    except SourceRefused:
        return False
    return True


def find_rows(plan: FeedPlan, keys: Sequence[str]) -> Statement:
    """The statement that reads the rows of these keys as a page would, in any order; for some,
    perhaps more rows.

    Takes 1 to `keys_a_statement` keys, each of which `can_be_found`. Where the server knows letters
    that differ to be equal (`A` and `a`), rows of keys nobody asked for come too: compare the text.
    """
    columns = plan.strategy.selection.key
    sizes = _SIZES if len(columns) == 1 else _COMPOSITE_SIZES
    size = next(size for size in sizes if size >= len(keys))
    filled = [*keys, *[keys[-1]] * (size - len(keys))]
    bound = [
        [
            _bound(plan, number, part, f"key{place}p{number}")
            for number, part in enumerate(key.split(":"))
        ]
        for place, key in enumerate(filled)
    ]
    rows, every_row = plan.strategy.found_rows
    named = [rows.c[column.name] for column in columns]
    wanted: ColumnElement[bool] = (
        named[0].in_([values[0] for values in bound])
        if len(named) == 1
        else or_(*(and_(*map(_equal, named, values)) for values in bound))
    )
    return Statement(every_row.where(wanted))


def _equal(column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
    return column == value


def _bound(plan: FeedPlan, number: int, part: str, name: str) -> ColumnElement[Any]:
    """A part of a key as a parameter of the column's own type, so that the server compares by the
    column's index.
    """
    return plan.strategy.selection.key_codecs[number].bind(name, _place(plan, number, part))


def _place(plan: FeedPlan, number: int, part: str) -> PartValue:
    """A part of the key as a position has it."""
    selection = plan.strategy.selection
    try:
        return selection.key_codecs[number].read(part)
    except (ValueError, Unplaceable):
        name = selection.key[number].name
        raise SourceRefused(
            f"feed {plan.feed.name}: key {part!r:.200} is no value of column {name!r}"
        ) from None
