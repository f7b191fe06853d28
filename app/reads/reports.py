"""The report of an hour or a day, compiled when somebody asks for it. Nothing is changed."""

from __future__ import annotations

from collections.abc import Collection

from app.core.errors import UnknownFeed
from app.core.period import Period
from app.reports.record import ALL, Report
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
