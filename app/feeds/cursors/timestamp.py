"""The `timestamp` strategy in `feeds.toml`: a column that says when a row was written."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.feeds.cursors.spec import ColumnCursor
from app.feeds.duration import Duration

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,7})?)?( ?[+-]\d\d:\d\d|Z)?)?")


class TimestampCursor(ColumnCursor):
    """A position is a moment: rows are read from it on."""

    strategy: Literal["timestamp"] = "timestamp"
    lag: Annotated[Duration, Field(le=timedelta(days=1))] = timedelta(seconds=10)
    """Rows younger than this, by the server's clock, are left for later. Longer than the longest
    transaction that writes to the table."""
    clock: Literal["either", "utc", "local"] = "either"
    """Whether the column holds the server's UTC or local time. `either` takes the earlier of the
    two: never wrong, but where they differ rows may wait for as long as the difference."""

    position_form: ClassVar[str] = "a moment"

    @property
    def settles_in(self) -> timedelta:
        return self.lag

    @classmethod
    def parse_position(cls, value: int | str) -> str:
        text = str(value).strip()
        if not _MOMENT.fullmatch(text):
            raise ValueError(
                'strategy timestamp needs "beginning", "now" or a moment such as "2026-01-31 10:00:00"'
            )
        return text.replace("T", " ").replace("Z", "+00:00")
