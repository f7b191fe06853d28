"""The `change_tracking` strategy: SQL Server's own record of which rows changed, deletes included.

A version is given to a transaction when it commits, so none commits late: versions come in the
order of commits (Microsoft Learn: "About change tracking"; "SQL Server Change Tracking vs
min_active_rowversion()"). The steps are those of "Work with change tracking", without a snapshot
transaction:

1. the current version is asked for before the changes: those that commit after it are left for the
   next page;
2. the changes up to it, in the order of (version, key), each with its row as it is now; a row that
   changes again while it is read comes again under its higher version;
3. the lowest version that is still kept is asked for after the changes: it only grows, so what is
   kept then was kept when they were read, whatever the cleanup did meanwhile. If the cursor lies
   below it, the page is dropped.

A page that reaches the end moves the cursor to the current version itself, so that a table in which
nothing happens does not fall behind what is kept.

`start = "beginning"` walks through the table by its key first, from the version that was current
before (`change_positions.py`). A change since then comes again, as a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    func,
    inspect,
    literal_column,
    select,
)

from app.core.cursors import Cursor
from app.core.errors import SourceRefused
from app.core.position import Position
from app.core.rows import Ahead
from app.feeds.cursors.change_tracking import ChangeTrackingCursor
from app.feeds.feed import Feed
from app.source.cursors.change_positions import (
    WALK,
    ChangeOrder,
    needed,
    version,
    walk_from,
    walked,
)
from app.source.cursors.changed_rows import (
    DELETED,
    VERSION,
    Changes,
    ChangeShape,
    Walk,
    changed,
    sql_of,
    whole,
    with_deletes,
    without_deletes,
)
from app.source.cursors.gaps import Gaps
from app.source.cursors.keyset import example_key
from app.source.cursors.selection import Selection, Statement
from app.source.cursors.strategy import CursorStrategy, advice
from app.source.findings import Finding, Level
from app.source.indexes import Index
from app.source.payload import RowShape
from app.source.table import Column, SourceTable


class ChangeTracking(CursorStrategy):
    """`FROM CHANGETABLE(CHANGES …, :since) LEFT JOIN …`, in the order of (version, key)."""

    on_replica: ClassVar[str] = (
        "what it has not replayed yet is read later, and nothing is lost by it; where it does not answer CHANGETABLE, "
        "read from the primary (no ApplicationIntent=ReadOnly)"
    )

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self._sql = sql_of(selection)
        self._changes = Changes(selection)
        self._walk = Walk(replace(selection, rows=whole(selection)))
        self._order = ChangeOrder(selection, self._changes, self._walk, self.moved_strategy)
        self.column = self._changes.column

    @classmethod
    def cursor_column(cls, table: SourceTable, feed: Feed) -> Column:
        del table, feed
        return Column(VERSION, BigInteger())

    @classmethod
    def prepared(cls, selection: Selection) -> Selection:
        spec = selection.feed.cursor
        assert isinstance(spec, ChangeTrackingCursor)  # noqa: S101 - the registry goes by the schema's name
        return replace(
            selection,
            rows=changed(selection),
            passes_on=with_deletes if spec.deletes else without_deletes,
        )

    def shaped(self, shape: RowShape) -> RowShape:
        plain = {known.name: getattr(shape, known.name) for known in fields(RowShape) if known.init}
        names = tuple(column.name for column in self.selection.key)
        place = self._changes.extra_place
        return ChangeShape(
            **plain, operation=place, key_names=names, deleted=self.selection.fresh_name(DELETED)
        )

    def confirm(self, connection: Connection) -> None:
        table, feed = self.selection.table, self.selection.feed
        found = inspect(connection).get_pk_constraint(table.name, schema=table.schema)[
            "constrained_columns"
        ]
        if {column.name for column in self.selection.key} != set(found):
            primary = ", ".join(found) if found else "none"
            raise SourceRefused(
                f"feed {feed.name}: key: found {', '.join(feed.key)}; strategy change_tracking knows rows by the "
                f"table's primary key, which is: {primary}"
            )

    @property
    def every_row(self) -> Select[Any]:
        return self._changes.every_row

    @property
    def found_rows(self) -> tuple[FromClause, Select[Any]]:
        return self._walk.selection.rows, self._walk.every_row

    @property
    def lowest(self) -> Position:
        return walk_from(0)

    def start(self, where: int | str, horizon: Any = None) -> Statement | None:
        """The current version, before any row is read."""
        del horizon
        return Statement(select(self._sql.current)) if where in ("beginning", "now") else None

    def started(
        self, where: int | str, rows: Sequence[Row[Any]], now: datetime
    ) -> tuple[Position, Gaps]:
        del now
        if where not in ("beginning", "now"):
            return int(where), ()
        current = int(rows[0][0]) if rows else 0
        return (current if where == "now" else walk_from(current)), ()

    def page(self, position: Position, limit: int, horizon: Any = None) -> Statement:
        position = self.lowest if position is None else position
        rows, parameters = self._rows_after(position)
        bound = self._order.at(position).below(horizon)
        ordered = rows.order_by(*self._order.at(position).order).limit(limit)
        return Statement(ordered if bound is None else ordered.where(bound), parameters)

    def latest(self, limit: int, horizon: Any = None) -> Statement:
        """The rows of the highest keys: changes are in no order that can be read from its end."""
        return self._walk.latest(limit, horizon)

    def last_upto(self, position: Position, limit: int) -> Statement:
        order = self._order.at(position)
        rows = order.every_row.where(self.upto(position)).order_by(
            *(column.desc() for column in order.order)
        )
        return Statement(rows.limit(limit))

    def waiting(self, position: Position, limit: int) -> Statement:
        rows, parameters = self._rows_after(position)
        some = (
            rows.with_only_columns(literal_column("1").label("one"), maintain_column_froms=True)
            .limit(limit)
            .subquery()
        )
        return Statement(select(func.count()).select_from(some), parameters)

    def beyond(self, position: Position, name: str = "position") -> ColumnElement[bool]:
        return self._order.beyond(position, name)

    def upto(self, position: Position, name: str = "upto") -> ColumnElement[bool]:
        return self._order.upto(position, name)

    def positions(self, rows: Sequence[Row[Any]], before: Position = None) -> list[Position]:
        return self._order.positions(rows, before)

    def reached(
        self, positions: Sequence[Position], before: Position, *, more: bool, horizon: Any = None
    ) -> Position:
        """At the end of the changes, the version up to which they were read; at that of the table,
        the version from which changes are to be read."""
        if more:
            reached = positions[-1] if positions else before
            if reached == before and positions:
                raise self.refused(
                    f"{self.change(before)} cannot be read past: no key of the next rows can be kept"
                )
            return reached
        if (began := walked(before)) is not None:
            return began
        last = positions[-1] if positions else before
        return last if horizon is None else max(int(horizon), version(before))

    @property
    def example(self) -> Position:
        return [2000, *(example_key(column) for column in self.selection.key)]

    @property
    def example_horizon(self) -> Any:
        return 3000

    def explained(self) -> Iterator[tuple[str, str, Statement]]:
        position: Position = [
            1990,
            [WALK, "2000"],
            *(example_key(column) for column in self.selection.key),
        ]
        yield (
            "table",
            'with start = "beginning", after the first page: page by page, until the table has been read',
            self.page(position, self.selection.feed.page_size + 1),
        )
        yield (
            "kept",
            "after each page: since which version changes are kept",
            Statement(self._oldest()),
        )

    def horizon(self) -> Statement | None:
        return Statement(select(self._sql.current, self._sql.oldest(self.selection.table)))

    def horizon_of(self, row: Row[Any]) -> Any:
        current, oldest = list(row)
        if current is None or oldest is None:
            raise SourceRefused(f"feed {self.selection.feed.name}: {self._untracked()}")
        return int(current)

    def lasting(self) -> Statement | None:
        return Statement(self._oldest())

    def lost(self, position: Position, row: Row[Any]) -> Ahead | None:
        if row[0] is None:
            return Ahead(self._untracked(), certain=True)
        since, oldest, feed = needed(position), int(row[0]), self.selection.feed
        if since >= oldest:
            return None
        reason = (
            f"the cursor needs the changes after version {since}, but those of {feed.table} are kept from version "
            f"{oldest} on: the feed read nothing for longer than CHANGE_RETENTION, or the table was truncated, or "
            "tracking enabled anew; what was deleted in between is not known any more, all else is read again by: "
            f"python -m app feeds rewind {feed.name} --to beginning --dry-run; then rewind and resume"
        )
        return Ahead(reason, certain=True)

    def newest(self, position: Position) -> list[Statement]:
        del position
        return [Statement(select(self._sql.current))]

    def ahead(self, cursor: Cursor, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        """The version never falls but by a restore, and it was at the position or above when that
        was read.
        """
        current = newest[0][0] if newest[0] else None
        standing = version(cursor.position)
        if current is None or standing <= int(current):
            return None
        reason = (
            f"the cursor stands at change version {standing}, but the database has only reached {current}: it was "
            f"restored to an older state, or change tracking was enabled anew; {advice(self.selection.feed)}"
        )
        return Ahead(reason, certain=True)

    def findings(
        self, connection: Connection, indexes: Sequence[Index], *, view: bool
    ) -> Iterator[Finding]:
        del indexes
        if view:
            yield Finding(
                "change tracking",
                Level.FAILED,
                "changes are tracked of tables only: name the table itself",
            )
        else:
            yield from self._sql.examine(connection, self.selection.table)
        yield from self.replica_findings(connection)

    def refused(self, what: str) -> SourceRefused:
        return SourceRefused(f"feed {self.selection.feed.name}: change version {what}")

    def _untracked(self) -> str:
        return (
            f"changes of {self.selection.feed.table} are not tracked, "
            f"or the login may not see them: {self._sql.enable}"
        )

    def _oldest(self) -> Select[Any]:
        return select(self._sql.oldest(self.selection.table))

    def _rows_after(self, position: Position) -> tuple[Select[Any], dict[str, int]]:
        """The rows after a position, in no order, and the parameter that says which."""
        rows = self._order.at(position).every_row.where(self.beyond(position))
        began = walked(position)
        return rows, {"since": needed(position)} if began is None else {"walked": began}
