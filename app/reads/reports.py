"""Reports: of an hour or a day, compiled when somebody asks for it; and those that are kept. Nothing is
changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.core.errors import UnknownFeed
from app.core.period import Kind, Period
from app.ledger import Ledger
from app.reports.record import ALL, Report, report_of
from app.reports.reporting import Reporting


async def read_report(
    reporting: Reporting, feeds: Collection[str], period: Period, feed: str = ALL
) -> Report | None:
    """The report on one feed, or on all (`ALL`), also of a period that is still running. `feeds`:
    those that are configured.

    `None`: the period's statistics are deleted, and no report of it was kept. Raises `UnknownFeed`
    for one that is neither configured nor has figures in the period, `ValueError` for a period that
    has not begun, and the ledger's errors.
    """
    found = {report.feed: report for report in await reporting.preview(period)}
    if feed not in found and feed not in (ALL, *feeds):
        raise UnknownFeed(feed, tuple(feeds))
    return found.get(feed)


@dataclass(frozen=True, slots=True)
class KeptLine:
    """A report that is kept, in a list."""

    feed: str
    kind: Kind
    period: str
    start: datetime
    end: datetime
    delivered: int
    dead: int
    revisions: int
    """How often it was compiled again with other figures."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A report that is kept."""

    report: Report
    revised: Mapping[str, Any] | None
    """`{count, at, changes}`, where it was compiled again with other figures."""


async def list_reports(
    ledger: Ledger, feed: str, kind: Kind | None, prefix: str, *, before: str | None, size: int
) -> Sequence[KeptLine]:
    """Kept reports of a feed, or of all together (`ALL`), the latest first: of periods that begin
    with `prefix` and come before the period `before`. Raises the ledger's errors."""
    found = await ledger.reports.page(feed, kind.value if kind else None, prefix, before, size)
    return [_line(document) for document in found]


async def kept_report(ledger: Ledger, feed: str, period: str) -> Kept | None:
    """The report that is kept of that feed (`ALL`: all) and period; `None`: none is. Raises the
    ledger's errors, `ValueError` for one that another version wrote and this one cannot read."""
    stored = await ledger.reports.get(feed, period)
    return Kept(report_of(stored["report"]), stored.get("revised")) if stored else None


def _line(document: Mapping[str, Any]) -> KeptLine:
    totals = document.get("report", {}).get("totals", {})
    return KeptLine(
        document["feed"], Kind(document["kind"]), document["period"], document["start"], document["end"],
        totals.get("delivered", 0), totals.get("dead", 0), document.get("revised", {}).get("count", 0),
    )  # fmt: skip
