"""What is sent to people, and by what. A sending that fails says why in one line, without a secret, and is tried again
later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from app.core.shown import one_line
from app.reports.files import Format, path_of, rendered
from app.reports.page import title, when
from app.reports.record import Report
from app.reports.table import summary

ERROR_LIMIT = 300
"""Characters kept of what went wrong."""


class NotSent(Exception):
    """The other side did not take it. `str(error)` is one line that may be shown and stored."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text, ERROR_LIMIT))


class Outgoing(Protocol):
    """Something to be sent. It holds no payload and no secret."""

    @property
    def id(self) -> str:
        """The same for each try at sending the same thing, so that whoever gets it twice can tell."""

    @property
    def subject(self) -> str:
        """Of a mail."""

    def text(self) -> str:
        """Of a mail, plain."""

    def page(self) -> tuple[str, bytes] | None:
        """What a mail has attached: a file's name, and HTML."""

    def json(self) -> bytes:
        """What a webhook gets."""


@dataclass(frozen=True, slots=True)
class OutgoingReport:
    """A report to be sent."""

    report: Report
    revised: Mapping[str, Any] | None

    @property
    def id(self) -> str:
        count = self.revised["count"] if self.revised else 0
        through = f"|{self.report.through:%H:%M:%S}" if self.report.running else ""
        return f"{self.report.id}|{count}{through}"

    @property
    def subject(self) -> str:
        revised = f" (revised {self.revised['count']})" if self.revised else ""
        return f"{self._verdict}{title(self.report)}: {when(self.report, ZoneInfo(self.report.timezone))}{revised}"

    @property
    def _verdict(self) -> str:
        """What a reader must know before opening it."""
        if self.report.incomplete:
            return "NOT COMPLETE: "
        return "NOT CERTIFIED: " if self.report.uncertified else ""

    def text(self) -> str:
        return summary(self.report)

    def page(self) -> tuple[str, bytes]:
        name = path_of(Path(), self.report.feed, self.report.period, Format.HTML).name
        return name, rendered(self.report, Format.HTML, self.revised)

    def json(self) -> bytes:
        return rendered(self.report, Format.JSON, self.revised)


class Sender(Protocol):
    """One way out."""

    name: str
    """Under which the document keeps what came of it."""

    async def send(self, outgoing: Outgoing) -> None:
        """Send it. Raises `NotSent`."""
