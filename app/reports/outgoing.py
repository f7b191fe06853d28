"""A report as it is sent: by mail, and to a webhook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from app.reports.files import Format, path_of, rendered
from app.reports.page import title, when
from app.reports.record import Report
from app.reports.table import summary


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
