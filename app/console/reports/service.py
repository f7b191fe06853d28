"""Reports that are kept: listed, read, downloaded, and two compared."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from app.console.errors import Conflict, NotFound
from app.console.reports.schemas import (
    CompareAsked,
    Compared,
    Comparison,
    Counted,
    Figure,
    ReportLine,
    ReportsAsked,
    ReportShown,
)
from app.console.schemas import Page, cursor_of, cut, read_cursor
from app.console.security.roles import Permission, Principal
from app.reads.reports import Kept, kept_report, list_reports
from app.reports.files import Format, rendered
from app.reports.record import ALL, Report, document_of
from app.reports.table import figures, lacking, sentence
from app.runtime.operator import Operator

MEDIA_TYPES = {
    Format.HTML: "text/html; charset=utf-8",
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSON: "application/json",
}


@dataclass(frozen=True, slots=True)
class Download:
    """A report as a file."""

    name: str
    media_type: str
    content: bytes


class Reports:
    """What the console does with reports."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def list(self, actor: Principal, asked: ReportsAsked) -> Page[ReportLine]:
        """Reports, the latest first. Raises `Forbidden`, `Invalid` for a cursor of another list, and
        the ledger's errors."""
        actor.require(Permission.LOOK)
        cursor = read_cursor(asked.after, str)
        found = await list_reports(
            self._operator.ledger,
            asked.feed,
            asked.kind,
            asked.period,
            before=cursor[0] if cursor else None,
            size=asked.limit + 1,
        )
        page, following = cut(found, asked.limit, lambda last: cursor_of(last.period))
        return Page(items=[ReportLine(**asdict(line)) for line in page], next=following)

    async def read(self, actor: Principal, feed: str, period: str) -> ReportShown:
        """One report. Raises `Forbidden`, `NotFound`, `Conflict` for one of a version that cannot be
        read, and the ledger's errors."""
        kept = await self._kept(actor, feed, period)
        report = kept.report
        certificates = [sentence(proof) for proof in report.certificates]
        return ReportShown(
            feed=report.feed,
            kind=report.kind,
            period=report.period,
            start=report.start,
            end=report.end,
            revisions=kept.revised["count"] if kept.revised else 0,
            figures=[Figure(name=name, value=value) for name, value in figures(report)],
            certificates=[*certificates, *map(lacking, report.uncertified)],
            document=document_of(report),
        )

    async def record(self, actor: Principal, feed: str, period: str) -> Report:
        """One report as a record, for its page. Raises as `read`."""
        return (await self._kept(actor, feed, period)).report

    async def download(self, actor: Principal, feed: str, period: str, form: Format) -> Download:
        """The report as a file. Raises as `read`."""
        kept = await self._kept(actor, feed, period)
        folder = "all" if feed == ALL else re.sub(r"[^A-Za-z0-9_-]+", "_", feed)[:100]
        name = f"{folder}-{re.sub(r'[^0-9T-]+', '', period)}.{form.value}"
        return Download(name, MEDIA_TYPES[form], rendered(kept.report, form, kept.revised))

    async def compare(self, actor: Principal, asked: CompareAsked) -> Comparison:
        """Two reports side by side. Raises as `read`."""
        left = (await self._kept(actor, asked.feed, asked.left)).report
        right = (await self._kept(actor, asked.feed, asked.right)).report
        said = dict(figures(right))
        return Comparison(
            feed=asked.feed,
            left=asked.left,
            right=asked.right,
            figures=[
                Compared(name=name, left=value, right=said.get(name, "–"))
                for name, value in figures(left)
            ],
            counts=_counts(left, right),
        )

    async def _kept(self, actor: Principal, feed: str, period: str) -> Kept:
        actor.require(Permission.LOOK)
        try:
            kept = await kept_report(self._operator.ledger, feed, period)
        except ValueError as error:
            raise Conflict(f"the report of {period} was written by another version") from error
        if kept is None:
            raise NotFound(f"no report of {period} is kept: look through the list of reports")
        return kept


def _counts(left: Report, right: Report) -> list[Counted]:
    was, now = asdict(left.totals), asdict(right.totals)
    return [
        Counted(name=name, left=was[name], right=now[name], difference=now[name] - was[name])
        for name in was
    ]
