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
    operation: str | None = None
    """The mark of an operation in bulk: it moves nothing that carries its mark already."""

    @property
    def document(self) -> Document:
        """As it is stored, within bounds: `why` and `operation` only where there are such."""
        made: Document = {"at": self.at, "by": self.by[:BY_LIMIT]}
        if self.why:
            made["why"] = self.why[:WHY_LIMIT]
        return made | ({"operation": self.operation} if self.operation else {})

    def unmarked(self, field: str) -> list[Document]:
        """The condition that this operation has not moved it yet. `field`: where such a move is told."""
        return [{f"{field}.operation": {"$ne": self.operation}}] if self.operation else []
