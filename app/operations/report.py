"""Keep a report and send it, on somebody's word; workers do both by themselves for each period that
is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from app.core.period import Period
from app.operations.by import By
from app.reports.record import Report
from app.reports.reporting import Compiled, Reporting

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Published:
    """A report, and what came of sending it."""

    compiled: Compiled
    not_sent: Mapping[str, str] = field(default_factory=dict)
    """Way → why it was not taken."""


async def publish_report(
    reporting: Reporting, report: Report, period: Period, by: By, *, send: bool = False
) -> Published:
    """Keep the report of a period that is over in the ledger and among the files, and with `send`
    send it on every way that is configured; one of a period that is still running is sent alone.

    Raises the ledger's errors, and `Unavailable` where the files cannot be written.
    """
    compiled = Compiled(report)
    if not report.running:
        kept = {one.report.feed: one for one in await reporting.save(period)}
        compiled = kept.get(report.feed, compiled)
    came = await reporting.send(compiled) if send else {}
    log.info("report_published", report=report.id, sent=send, by=by.who, why=by.why)
    return Published(compiled, {way: error for way, error in came.items() if error})
