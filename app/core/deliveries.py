"""A delivery: one source row on its way to the partner."""

from __future__ import annotations

from datetime import datetime

from app.core.record import record


@record
class Delivery:
    """One source row on its way to the partner."""

    id: str
    feed: str
    key: str
    payload: str
    """The row as a JSON object."""
    created_at: datetime
    attempts: int = 0
    """Attempts made so far; since the last replay, where there was one."""
    replayed_at: datetime | None = None
    in_doubt: bool = False
    """An attempt before may have reached the partner, and nothing since has told."""
    refused_at: datetime | None = None
    """When the partner first answered 403 to it."""

    @property
    def owed_since(self) -> datetime:
        """When its age starts: when it was logged, or last replayed."""
        return self.replayed_at or self.created_at
