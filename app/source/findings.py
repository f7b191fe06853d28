"""What an examination found, for an operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    """The feed works; slower, or with less certainty, than it could."""
    FAILED = "failed"
    """The feed cannot work, or would miss rows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    level: Level
    detail: str
    """What was found; where that is not well, what to do."""
