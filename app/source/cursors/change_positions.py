"""Where a row stands for the `change_tracking` strategy: among the changes, in the order of (version,
key), or, while the table is read first, in the walk through it by its key.

| a position | stands |
| --- | --- |
| `57` | at the end of the changes of version 57 |
| `[57, key…]` | after that row among the changes of version 57 |
| `[57, ["walk", "60"], key…]` | in the walk, after that row of version 57; then changes are read from version 60 on |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, bindparam, false, true

from app.core.errors import SourceRefused
from app.core.position import Position
from app.source.cursors.changed_rows import Changes, Walk
from app.source.cursors.keyset import Keyset
from app.source.cursors.selection import Selection
from app.source.position_codec import PartValue

WALK = "walk"


class ChangeOrder:
    """The two orders of one feed, and which of them a position is in."""

    def __init__(
        self,
        selection: Selection,
        changes: Changes,
        walk: Walk,
        moved: Callable[[Position], SourceRefused],
    ) -> None:
        """`moved`: the error for a position that another strategy, or another key, has left."""
        self._selection = selection
        self._changes = changes
        self._walk = walk
        self._moved = moved

    def at(self, position: Position) -> Keyset:
        """What rows are in the order of, there. Raises `SourceRefused` for what another strategy,
        or key, has left.
        """
        if isinstance(position, int):
            return self._changes
        if not isinstance(position, list) or not isinstance(position[0], int):
            raise self._moved(position)
        return self._changes if walked(position) is None else self._walk

    def beyond(self, position: Position, name: str) -> ColumnElement[bool]:
        """The condition of rows after the position; `name` begins the names of its parameters."""
        if position is None:
            return self._changes.column.is_not(None)
        if isinstance(position, int):
            return self._changes.column > bindparam(name, position, type_=BigInteger)
        order, values = self.at(position), _values(position)
        return order.beyond(values, name) if values else true()

    def upto(self, position: Position, name: str) -> ColumnElement[bool]:
        """The condition of the others."""
        if isinstance(position, int):
            return self._changes.column <= bindparam(name, position, type_=BigInteger)
        order, values = self.at(position), _values(position)
        return order.upto(values, name) if values else false()

    def positions(self, rows: Sequence[Row[Any]], before: Position) -> list[Position]:
        """Where each row stands. `before`: where the first of them was read from."""
        found: list[Position] = []
        place, began_place = (
            self._selection.place(self._selection.cursor),
            self._changes.extra_place + 1,
        )
        for row in rows:
            began = row[began_place]
            order = self._changes if began is None else self._walk
            (values,) = order.positions([row])
            if isinstance(values, list):
                before = values if began is None else [int(row[place]), [WALK, str(began)], *values]
            found.append(before)
        return found


def walk_from(began: int) -> Position:
    """In front of the whole table, with changes to be read from that version on."""
    return [0, [WALK, str(began)]]


def walked(position: Position) -> int | None:
    """From which version on changes are read once the table has been; `None` where they are being
    read.
    """
    tag = position[1] if isinstance(position, list) and len(position) > 1 else None
    return int(tag[1]) if isinstance(tag, list) and tag[0] == WALK else None


def version(position: Position) -> int:
    """Up to which version, at least, the database had come when a cursor reached the position."""
    leading = position[0] if isinstance(position, list) else position
    began = walked(position)
    return began if began is not None else int(str(leading))


def needed(position: Position) -> int:
    """The changes after this version are needed to read on. A version may end amid the rows of one
    transaction.
    """
    amid = isinstance(position, list) and walked(position) is None
    return version(position) - amid


def _values(position: Position) -> list[PartValue]:
    """What stands in the order, of a position that is a list."""
    assert isinstance(position, list)  # noqa: S101 - `at` looked
    return position if walked(position) is None else position[2:]
