"""Who made a change on somebody's behalf, when, and why: as the ledger records it beside the change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.ledger.client import Document

BY_LIMIT = 200
WHY_LIMIT = 1000
"""Characters: a reason is stored with each of up to millions of deliveries."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who made a move, when, and why, where a reason was given."""

    by: str
    at: datetime
    why: str | None = None

    @property
    def document(self) -> Document:
        """As it is stored, within bounds: `why` only where there is one."""
        why = {"why": self.why[:WHY_LIMIT]} if self.why else {}
        return {"at": self.at, "by": self.by[:BY_LIMIT]} | why
