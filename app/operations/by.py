"""Who does something, and why: what every operation is told, and the ledger records where it
records the operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.ledger.stamp import Stamp


@dataclass(frozen=True, slots=True)
class By:
    """An operator, and the reason given."""

    who: str
    """`user@host` of a command; elsewhere a name that people know."""
    why: str | None = None
    """`None`: none was given."""
    operation: str | None = None
    """The mark of the operation in bulk that does it; `None`: it is none."""

    def at(self, moment: datetime) -> Stamp:
        """As the ledger records it."""
        return Stamp(self.who, moment, self.why, self.operation)
