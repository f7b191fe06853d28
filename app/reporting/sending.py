"""What a report is sent by. A sending that fails says why in one line, without a secret, and is tried again later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.reporting.record import Report

ERROR_LIMIT = 300
"""Characters kept of what went wrong."""


class NotSent(Exception):
    """The other side did not take the report. `str(error)` is one line that may be shown and stored."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split())[:ERROR_LIMIT])


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A report to be sent."""

    report: Report
    revised: Mapping[str, Any] | None

    @property
    def id(self) -> str:
        """The same for each try at sending the same result, so that whoever gets it twice can tell."""
        count = self.revised["count"] if self.revised else 0
        through = f"|{self.report.through:%H:%M:%S}" if self.report.running else ""
        return f"{self.report.id}|{count}{through}"


class Sender(Protocol):
    """One way out."""

    name: str
    """Under which the report's document keeps what came of it."""

    async def send(self, outgoing: Outgoing) -> None:
        """Send the report. Raises `NotSent`."""
