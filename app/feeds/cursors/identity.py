"""The `identity` strategy in `feeds.toml`: an ascending integer column."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import ClassVar, Literal

from pydantic import Field

from app.feeds.cursors.spec import GAP_TIMEOUT, ColumnCursor
from app.feeds.duration import Duration


class IdentityCursor(ColumnCursor):
    """A position is an id: rows are read after it."""

    strategy: Literal["identity"] = "identity"
    gap_timeout: Duration = GAP_TIMEOUT
    """How long a missing id is asked for again. Longer than the longest transaction that inserts.
    """
    max_gaps: int = Field(default=1000, ge=10, le=100_000)
    """Gap ranges kept; above it neighbours are merged, which costs reads but loses nothing."""

    position_form: ClassVar[str] = "an id"
    unseen_updates: ClassVar[str | None] = "an update moves no identity"

    @property
    def gap_age_limit(self) -> timedelta:
        return self.gap_timeout

    @classmethod
    def parse_position(cls, value: int | str) -> int:
        text = str(value).strip()
        if not re.fullmatch(r"-?\d{1,19}", text):
            raise ValueError('strategy identity needs "beginning", "now" or an integer')
        return int(text)
