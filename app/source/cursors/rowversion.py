"""The `rowversion` strategy: SQL Server gives each row a new, higher version at each insert and
update.

A version is given out when a row is written, and seen when its transaction commits: a lower one can
commit after a higher one. MIN_ACTIVE_ROWVERSION() is the lowest that an open transaction still
holds, so all below it is settled (Microsoft Learn: MIN_ACTIVE_ROWVERSION). It is asked for before
the page, in a statement of its own: within one statement, under row-versioned isolation, it could
be evaluated after the moment whose rows the statement sees, and a transaction that commits between
the two would be passed over (docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Row, func, select
from sqlalchemy.types import TypeEngine

from app.core.cursors import Cursor
from app.core.position import Position
from app.core.rows import Ahead
from app.source.cursors.keyset import Keyset, VersionCodec
from app.source.cursors.selection import Selection, Statement
from app.source.cursors.strategy import advice
from app.source.findings import Finding
from app.source.indexes import Index
from app.source.position_codec import Codec, Unplaceable
from app.source.products.product import Product

_LOWEST = f"0x{0:016X}"


def _version(value: object) -> str:
    """A version that the server gives, as bytes or as a number, in the form of positions. Raises
    `Unplaceable`.
    """
    number = int.from_bytes(value, "big") if isinstance(value, bytes) else value
    if not isinstance(number, int) or not 0 <= number < 2**64:
        raise Unplaceable(f"holds {value!a:.40}, which is no version")
    return f"0x{number:016X}"


class Rowversion(Keyset):
    """`WHERE rv > :position AND rv < :horizon ORDER BY rv, key`."""

    on_replica: ClassVar[str] = (
        "MIN_ACTIVE_ROWVERSION() does not speak for transactions on the primary; "
        "read from the primary (no ApplicationIntent=ReadOnly)"
    )
    example_place: ClassVar[str] = "0x00000000000007D1"
    precise: ClassVar[bool] = True

    def __init__(self, selection: Selection) -> None:
        found, sql = selection.cursor.type, selection.sql
        self.selection = selection
        if sql and not isinstance(found, sql.rowversion_types):
            raise self.refused(
                f"is {found!r}; rowversion needs a rowversion column (SQLite: an integer or a blob)"
            )
        super().__init__(selection)

    @classmethod
    def assumed_type(cls, product: Product) -> TypeEngine[Any]:
        return product.cursors.usual_version() if product.cursors else super().assumed_type(product)

    @property
    def lowest(self) -> Position:
        return _LOWEST

    @property
    def example_horizon(self) -> Any:
        return None if self.sql.min_active is None else b"\xff" * 8

    def findings(
        self, connection: Connection, indexes: Sequence[Index], *, view: bool
    ) -> Iterator[Finding]:
        yield from super().findings(connection, indexes, view=view)
        yield from self.sql.examine_versions(connection, self.selection.feed)

    def horizon(self) -> Statement | None:
        return None if self.sql.min_active is None else Statement(select(self.sql.min_active))

    def below(self, horizon: Any) -> ColumnElement[bool] | None:
        if horizon is None:
            return None
        return self.column < self.parts[0].codec.bind("horizon", _version(horizon))

    def cursor_codec(self) -> Codec:
        return VersionCodec(super().cursor_codec())

    def held_back(self, horizon: Any) -> str | None:
        if horizon is None:
            return None
        return (
            f"MIN_ACTIVE_ROWVERSION() is {_version(horizon)}: a transaction has been open in this "
            "database since before they were written (DBCC OPENTRAN tells which), or the feed reads a view of another "
            "database, whose versions are none of this one's: name that database in SOURCE_URL"
        )

    def newest(self, position: Position) -> list[Statement]:
        del position
        highest = Statement(select(func.max(self.column)))
        if self.sql.min_active is None or self.sql.last_version is None:
            return [self.horizon() or highest]
        return [
            Statement(select(self.sql.min_active)),
            highest,
            Statement(select(self.sql.last_version)),
        ]  # in this order

    def ahead(self, cursor: Cursor, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        """MIN_ACTIVE_ROWVERSION() never falls but by a restore, and a position was below it when it
        was read.

        A row's version was given out before it could be read, so one above the database's last is
        another database's.
        """
        position, value = cursor.position, newest[0][0] if newest[0] else None
        if foreign := self._foreign(newest):
            return foreign
        try:
            found = _LOWEST if value is None else _version(value)
        except Unplaceable:  # on SQLite, where any value can stand in a column of integers
            return None
        standing, feed = self.change(position), self.selection.feed
        if self.sql.min_active is None:
            if standing <= found:
                return None
            reason = (
                f"the cursor stands at {standing}, ahead of the table's highest version {found}"
            )
            return Ahead(f"{reason}: rows were deleted, or an older state restored", certain=False)
        if standing < found:
            return None
        reason = (
            f"the cursor stands at {standing}, but the database has only reached version {found}: "
            f"it was restored to an older state, or replaced; {advice(feed)}"
        )
        return Ahead(reason, certain=True)

    def _foreign(self, newest: Sequence[Row[Any] | None]) -> Ahead | None:
        if len(newest) < 3 or newest[1] is None or newest[2] is None or newest[1][0] is None:
            return None
        highest, last = (str(_version(row[0])) for row in newest[1:3] if row)
        if highest <= last:
            return None
        feed = self.selection.feed
        reason = (
            f"{feed.table} holds version {highest}, but this database has only given out {last}: "
            "the versions are another database's, whose open transactions cannot be seen from here, so rows would be "
            "missed; name that database in SOURCE_URL, and read the table itself"
        )
        return Ahead(reason, certain=True)
