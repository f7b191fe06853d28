"""How a delivery stands, as the ledger stores it."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a delivery stands. `docs/architecture.md` draws the moves between them."""

    QUEUED = "queued"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


OPEN_STATES = (State.QUEUED, State.RETRYING)
"""A delivery in one of these is still owed to the partner."""
