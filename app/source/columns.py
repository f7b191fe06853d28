"""Which columns a feed sends when it does not name them: agreed once for the feed, not by each
worker.

What was agreed is kept beside the cursor in the ledger, and moves with it by the same
compare-and-set. So workers that looked the table up at different times send one form; the form
changes between two pages, for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.exc import CompileError

from app.core.cursors import Cursor
from app.core.errors import ColumnsCame
from app.core.rows import Columns, NewForm
from app.feeds.feed import Feed
from app.source.findings import Finding, Level
from app.source.table import Column, SourceTable

_FOLLOWS = {
    "include": "sent from the next page on",
    "ignore": 'not sent (on_new_column = "ignore")',
    "pause": 'the next page pauses the feed (on_new_column = "pause")',
}


@dataclass(frozen=True, slots=True)
class Form:
    """What a page is read as."""

    names: tuple[str, ...] | None
    """The columns that are sent; `None`: those that the feed names."""
    new: NewForm | None = None
    """What is to be agreed from this page on."""


def columns_of(table: SourceTable, dialect: SqlDialect) -> Columns:
    """The table's columns with their types, in words that stay the same from one process to the
    next.
    """
    return tuple((column.name, _type_text(column, dialect)) for column in table.columns)


def form_of(feed: Feed, cursor: Cursor, found: Columns) -> Form:
    """What the next page is read as, and what changes by that. `found`: the table's columns, just
    looked up or settled.

    Raises `ColumnsCame` where `on_new_column` is `pause` and nobody has resumed the feed since.
    """
    if feed.columns is not None:
        return Form(None)
    agreed = cursor.columns
    if not agreed:
        return Form(_names(found), NewForm(found))
    types, had = dict(found), dict(agreed)
    came = tuple(name for name in types if name not in had)
    kept = tuple((name, types[name]) for name in had if name in types)
    unseen = [name for name in came if name not in cursor.offered]
    if came and feed.on_new_column == "pause" and unseen:
        raise ColumnsCame(_paused(feed, came), came)
    joined = () if feed.on_new_column == "ignore" else tuple((name, types[name]) for name in came)
    offered = came if feed.on_new_column == "ignore" else ()
    columns = kept + joined
    if columns == agreed and not (unseen and offered):
        return Form(_names(columns))
    said = "; ".join(
        _said(feed, came, [name for name in had if name not in types], _retyped(kept, had))
    )
    return Form(_names(columns), NewForm(columns, offered, said))


def sent_names(feed: Feed, cursor: Cursor, found: Columns) -> list[str]:
    """The columns that the next page sends; where it would pause the feed, those agreed that the
    table still has.
    """
    try:
        form = form_of(feed, cursor, found)
    except ColumnsCame:
        return list(still_there(feed, cursor.columns, found) or ())
    return list(form.names or feed.columns or ())


def unsent(feed: Feed, cursor: Cursor, found: Columns) -> tuple[str, ...]:
    """The table's columns that the feed would send and has not agreed on yet: its next poll does."""
    if feed.columns is not None or feed.on_new_column == "ignore" or not cursor.columns:
        return ()
    agreed = dict(cursor.columns)
    return tuple(name for name, _ in found if name not in agreed)


def columns_finding(feed: Feed, cursor: Cursor, found: Columns) -> Finding:
    """What is agreed for a feed that names no columns, and how the table differs from it now."""
    agreed, now = dict(cursor.columns), dict(found)
    if not agreed:
        said = f"none agreed yet; the first page sends all that the table has: {_listed(list(now))}"
        return Finding("columns", Level.OK, said)
    said = f"agreed and sent: {_listed(list(agreed))}"
    came = [name for name in now if name not in agreed]
    kept = tuple((name, now[name]) for name in agreed if name in now)
    news: list[str] = []
    if came and not (feed.on_new_column == "ignore" and set(came) <= set(cursor.offered)):
        news.append(f"new: {_listed(came)}: {_FOLLOWS[feed.on_new_column]}")
    elif came:
        said += f'; not sent (on_new_column = "ignore"): {_listed(came)}'
    if gone := [name for name in agreed if name not in now]:
        news.append(f"gone: {_listed(gone)}: the next page is sent without")
    if retyped := _retyped(kept, agreed):
        news.append(f"changed: {', '.join(retyped)}")
    return Finding("columns", Level.WARNING if news else Level.OK, "; ".join([said, *news]))


def settled(feed: Feed, cursor: Cursor) -> bool:
    """Whether columns beyond those agreed are no news."""
    return feed.columns is not None or (feed.on_new_column == "ignore" and bool(cursor.offered))


def still_there(feed: Feed, agreed: Columns, found: Columns) -> tuple[str, ...] | None:
    """The columns agreed, as far as the table has them; `None` where there is nothing to agree on,
    or nothing yet.
    """
    names = dict(found)
    return tuple(name for name, _ in agreed if feed.columns is None and name in names) or None


def _said(
    feed: Feed, came: Sequence[str], gone: Sequence[str], retyped: Sequence[str]
) -> Iterator[str]:
    if came:
        follows = (
            'not sent (on_new_column = "ignore")'
            if feed.on_new_column == "ignore"
            else "sent from here on"
        )
        yield f"new in table {feed.table}: {_listed(came)}: {follows}"
    if gone:
        yield f"gone from table {feed.table}: {_listed(gone)}: rows are sent without"
    if retyped:
        yield f"changed in table {feed.table}: {', '.join(retyped)}"


def _retyped(kept: Columns, had: dict[str, str]) -> list[str]:
    return [f"{name!r} from {had[name]} to {now}" for name, now in kept if had[name] != now]


def _paused(feed: Feed, came: Sequence[str]) -> str:
    return (
        f'feed {feed.name}: new in table {feed.table}: {_listed(came)} (on_new_column = "pause"); to send what is '
        f'new: python -m app feeds resume {feed.name}; else first name the `columns`, or set on_new_column = "ignore"'
    )


def _names(columns: Columns) -> tuple[str, ...]:
    return tuple(name for name, _ in columns)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _type_text(column: Column, dialect: SqlDialect) -> str:
    written = partial(column.type.compile, dialect=dialect)
    try:
        return str(written())
    except CompileError:  # a type that SQLAlchemy does not know
        return str(column.type)
