"""The `rowversion` strategy in `feeds.toml`: a column that the server gives a new, higher version
at each write.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from app.feeds.cursors.spec import ColumnCursor

_VERSION = re.compile(r"0[xX][0-9A-Fa-f]{1,16}")


class RowversionCursor(ColumnCursor):
    """A position is a version, `0x` and 16 digits: rows are read after it."""

    strategy: Literal["rowversion"] = "rowversion"

    position_form: ClassVar[str] = "0x…"

    @classmethod
    def parse_position(cls, value: int | str) -> str:
        text = str(value).strip()
        if not _VERSION.fullmatch(text):
            raise ValueError(
                'strategy rowversion needs "beginning", "now" or a version such as "0x00000000000007D1"'
            )
        return f"0x{int(text, 16):016X}"
