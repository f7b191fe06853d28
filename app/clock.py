"""The time of day, as a value that tests can replace."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]
"""Gives the current time, with its zone."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Before any moment in the ledger: a query says "after that" to be served by an index of what has a moment."""


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)
