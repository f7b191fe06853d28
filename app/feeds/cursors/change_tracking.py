"""The `change_tracking` strategy in `feeds.toml`: SQL Server's own record of which rows changed,
deletes included.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import ClassVar, Literal

from app.feeds.cursors.spec import CursorSpec


class ChangeTrackingCursor(CursorSpec):
    """A position is a change version, the database's count of transactions: changes are read after
    it.
    """

    strategy: Literal["change_tracking"] = "change_tracking"
    deletes: bool = False
    """A row that is deleted is a delivery too, of its key alone."""

    position_form: ClassVar[str] = "a change version"
    unreconciled: ClassVar[str | None] = (
        "strategy change_tracking reads changes in the order of versions that SQL Server forgets after its retention "
        "period, so source and ledger cannot be compared, and there is no certificate; for certificates use strategy "
        "rowversion"
    )

    @property
    def order(self) -> str:
        return "change version"

    def unfit(self, *, capture: str, key: Collection[str], tested: Collection[str]) -> str | None:
        if not self.deletes:
            return None
        if capture != "changes":
            return (
                'deletes = true needs capture = "changes": '
                'with "inserts" a row is one delivery, whatever becomes of it'
            )
        if others := sorted(set(tested) - set(key)):
            return (
                "deletes = true goes with conditions (where, filter) on columns of the key alone: of a row that is "
                f"gone nothing else is known; found {', '.join(others)}"
            )
        return None

    @classmethod
    def parse_position(cls, value: int | str) -> int:
        text = str(value).strip()
        if not re.fullmatch(r"\d{1,18}", text):
            raise ValueError(
                'strategy change_tracking needs "beginning", "now" or a change version such as 2000'
            )
        return int(text)
