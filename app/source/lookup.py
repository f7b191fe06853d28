"""Finding one row of a feed by its key's text."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sqlalchemy import select

from app.errors import SourceRefused
from app.source.catalogue import Column
from app.source.cursors import Statement
from app.source.plan import FeedPlan


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
