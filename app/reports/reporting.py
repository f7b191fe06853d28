"""Compiles reports from the statistics, stores them in the ledger, writes them as files, and sends
them.

A compilation may die between any two of its steps, or run twice at the same time:

1. before the report is in the ledger: nothing happened;
2. after that, before its files: compiling again finds the same report, and writes the files;
3. after the files, before it is sent: the write that stored the report also owes its sending; the
   next compilation, of any period, sends it.

An equal report changes nothing in the ledger. One with other figures replaces it as a revision,
which names the changes, and is sent again. A report that cannot be sent is retried by later
compilations, `MAX_TRIES` times, and kept either way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from app.core.certificates import Certificate
from app.core.clock import Clock, utc_now
from app.core.errors import Unavailable
from app.core.period import Kind, Period
from app.ledger import Ledger
from app.ledger.reports import ReportKey, Revised
from app.reports.changes import Difference, changes, compare
from app.reports.compile import compile_reports
from app.reports.files import Format, path_of, prune, write
from app.reports.outgoing import OutgoingReport
from app.reports.record import ALL, Document, Report, document_of, report_of
from app.sending.outbox import Outbox, RetrySchedule
from app.sending.outgoing import Sender

log = structlog.get_logger()

CERTIFICATE_WITHIN = timedelta(days=1)
"""A day's certificate is the last one made within this time after its end, of those begun after its
end; where there is none, the first one after that."""
MAX_TRIES = 10
"""Tries to send a report one way before that is given up."""
PATIENCE = RetrySchedule(
    first_wait=timedelta(minutes=5), longest_wait=timedelta(hours=6), tries=MAX_TRIES
)


class Ground(Enum):
    """What a report of a period is based on."""

    WHOLE = "whole"
    """All statistics of the period."""
    NOTHING = "nothing"
    """No statistics, as far as is known: no worker ran, or the feed is new."""
    GONE = "gone"
    """Retention has deleted some of the statistics, or all; for all feeds together, some of any
    feed's.
    """


@dataclass(frozen=True, slots=True)
class Compiled:
    """A report, and its revision."""

    report: Report
    revised: Document | None = None
    """`{count, at, changes}`, where it was compiled again with other figures."""


class Reporting:
    """Compiles reports for one process."""

    def __init__(
        self,
        ledger: Ledger,
        feeds: Collection[str],
        *,
        zone: ZoneInfo,
        folder: Path,
        senders: Sequence[Sender] = (),
        sent: Collection[Kind] = (Kind.DAY,),
        now: Clock = utc_now,
    ) -> None:
        """`folder`: for the files. `sent`: the kinds of periods whose report on all feeds is sent
        automatically.
        """
        self._ledger = ledger
        self._feeds = feeds
        self._zone = zone
        self._folder = folder
        self._outbox = Outbox(ledger.reports, senders, PATIENCE, _outgoing, now=now, what="report")
        self._sent = sent
        self._now = now

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways that reports are sent."""
        return self._outbox.ways

    async def compile(self, period: Period) -> list[Report]:
        """Compile, store, write and send the reports of a period that is over: on all feeds, then
        on each.

        Raises `ValueError` for a period that is not over, the ledger's errors, and `Unavailable`
        where the files cannot be written; the reports are in the ledger by then.
        """
        try:
            saved = await self.save(period)
        finally:
            await self.send_due()
        return [compiled.report for compiled in saved]

    async def save(self, period: Period) -> list[Compiled]:
        """As `compile`, without sending."""
        if period.end > self._now():
            raise ValueError(f"{period.name}: still running; its report is kept when it is over")
        reports, grounds = await self._compiled(period)
        kept = [await self._keep(report, grounds[report.feed]) for report in reports]
        there = [compiled for compiled in kept if compiled]
        await self._write(there)
        return there

    async def preview(self, period: Period) -> list[Report]:
        """Compile the reports of a period, even a running one, and change nothing.

        Where the period's statistics are gone, return the stored reports; feeds without one are
        left out. Raises `ValueError` for a period that has not begun.
        """
        reports, grounds = await self._compiled(period)
        found: list[Report] = []
        for report in reports:
            ground, stored = grounds[report.feed], None
            if ground is not Ground.WHOLE and not report.running:
                stored = await self._ledger.reports.get(report.feed, report.period)
            if stored:
                found.append(report_of(stored["report"]))
            elif ground is not Ground.GONE:
                found.append(report)
        return found

    async def snapshot(self, period: Period) -> tuple[list[Report], Path]:
        """As `preview`, and write the files. Returns the reports and the path of the page on all
        feeds.
        """
        reports = await self.preview(period)
        await self._write([Compiled(report) for report in reports])
        return reports, path_of(self._folder, ALL, period.name, Format.HTML)

    async def send(self, compiled: Compiled) -> dict[str, str | None]:
        """Send a report now, every way, whether or not it was sent before. Returns way → why it
        failed, or `None`.
        """
        if compiled.report.running:
            outgoing = OutgoingReport(compiled.report, compiled.revised)
            return {way: await self._outbox.tried(way, outgoing) for way in self.ways}
        await self._ledger.reports.owe(compiled.report.id, self.ways, self._now())
        stored = await self._ledger.reports.get(compiled.report.feed, compiled.report.period)
        return await self._outbox.send(stored) if stored and self.ways else {}

    async def send_due(self) -> int:
        """Send the reports that are owed, `SENT_AT_ONCE` at most. Returns how many were tried."""
        return await self._outbox.send_due()

    async def prune(self, feed: str, before: datetime) -> int:
        """Remove the files of a feed's reports (`ALL`: of all feeds) on days that were over by
        then.

        Returns how many. Raises `Unavailable` where they cannot be removed.
        """
        try:
            return await asyncio.to_thread(
                prune, self._folder, feed, before.astimezone(self._zone).date()
            )
        except OSError as error:
            raise Unavailable(f"REPORTS_DIR {self._folder}: {error.strerror or error}") from error

    # --- compiling

    async def _compiled(self, period: Period) -> tuple[list[Report], dict[str, Ground]]:
        """The reports, and what each is based on."""
        now = self._now()
        if period.start >= now:
            raise ValueError(f"{period.name}: has not begun")
        known = await self._ledger.stats.feeds()
        found = {
            feed: await self._ledger.stats.between(feed, period.start, period.end)
            for feed in sorted({*self._feeds, *known, *await self._ledger.cursors.feeds()})
        }
        certificates = {feed: await self._certificate(feed, period) for feed in found}
        buckets = {
            feed: documents
            for feed, documents in found.items()
            if documents or feed in self._feeds or _in_doubt(certificates[feed])
        }
        through = min(period.end, now.replace(microsecond=0))
        reports = await asyncio.to_thread(
            compile_reports, period, self._zone, buckets, certificates, through
        )
        return reports, await self._grounds(period, buckets)

    async def _grounds(
        self, period: Period, buckets: Mapping[str, Sequence[Document]]
    ) -> dict[str, Ground]:
        """What each report is based on. Asked after the buckets are read: purge notes what it will
        delete before it does.
        """
        grounds = {
            feed: Ground.WHOLE if documents else Ground.NOTHING
            for feed, documents in buckets.items()
        }
        for feed in buckets:
            deleted_before = await self._ledger.purges.stats_deleted_before(feed)
            if deleted_before and period.start < deleted_before:
                grounds[feed] = Ground.GONE
        of_all = Ground.WHOLE if Ground.WHOLE in grounds.values() else Ground.NOTHING
        return grounds | {ALL: Ground.GONE if Ground.GONE in grounds.values() else of_all}

    async def _certificate(self, feed: str, period: Period) -> Certificate | None:
        """The feed's certificate for a day that is over, see `CERTIFICATE_WITHIN`: one begun before
        the day's end does not cover its last rows. For a running day, and for an hour, one made
        within it.
        """
        certificates = self._ledger.certificates
        if period.kind is Kind.HOUR or period.end > self._now():
            found = await certificates.at_or_before(feed, period.end)
            return found if found and found.at >= period.start else None
        found = await certificates.at_or_before(feed, period.end + CERTIFICATE_WITHIN)
        if found and found.begun_at and found.begun_at >= period.end:
            return found
        return await certificates.first_begun_since(feed, period.end)

    # --- keeping

    async def _keep(self, report: Report, ground: Ground) -> Compiled | None:
        """Store the report, unless an equal one is stored, or one that was based on more statistics
        than are left.

        `None`: none is stored, and the statistics for it are gone.
        """
        document = document_of(report)
        while True:
            stored = await self._ledger.reports.get(report.feed, report.period)
            if stored:
                if kept := await self._replace(stored, report, document, ground):
                    return kept
            elif ground is Ground.GONE:
                log.warning(
                    "report_not_made",
                    report=report.id,
                    reason="statistics of the period are deleted",
                )
                return None
            elif await self._ledger.reports.insert(
                _key_of(report), document, self._owed(report), self._now()
            ):
                return Compiled(report)

    async def _replace(
        self, stored: Document, report: Report, document: Document, ground: Ground
    ) -> Compiled | None:
        """Replace the stored report, where the new one has more to say. `None`: read the stored one
        again.
        """
        revised, kept = stored.get("revised"), stored["report"]
        difference = compare(kept, document)
        if difference is Difference.NONE:
            return Compiled(report, revised)
        if ground is not Ground.WHOLE:
            log.warning(
                "report_kept_as_it_was",
                report=report.id,
                reason="statistics of the period are gone",
            )
            return Compiled(report_of(kept), revised)
        if difference is Difference.FIGURES:
            await self._revise(stored, report, document)
            return None
        if report.version < kept.get("version", 0):
            return Compiled(report_of(kept), revised)
        return (
            Compiled(report, revised)
            if await self._ledger.reports.upgrade(stored, document)
            else None
        )

    async def _revise(self, stored: Document, report: Report, document: Document) -> None:
        """Store a revision, unless another process was faster."""
        found = changes(stored["report"], document)
        count = (stored["revised"]["count"] if stored.get("revised") else 0) + 1
        revised = Revised(count, self._now(), found)
        if await self._ledger.reports.revise(stored, document, revised, self._owed(report)):
            log.info(
                "report_revised",
                report=report.id,
                count=count,
                fields=[change["field"] for change in found],
            )

    def _owed(self, report: Report) -> Sequence[str]:
        """The ways that it is to be sent once it is stored."""
        return self.ways if report.feed == ALL and report.kind in self._sent else ()

    async def _write(self, reports: Sequence[Compiled]) -> None:
        try:
            for compiled in reports:
                await asyncio.to_thread(write, self._folder, compiled.report, compiled.revised)
        except OSError as error:
            raise Unavailable(f"REPORTS_DIR {self._folder}: {error.strerror or error}") from error


def _key_of(report: Report) -> ReportKey:
    return ReportKey(report.feed, report.kind.value, report.period, report.start, report.end)


def _in_doubt(certificate: Certificate | None) -> bool:
    """Whether a feed that is no longer configured, and has no statistics, must still be reported."""
    return certificate is not None and bool(certificate.discrepancies)


def _outgoing(stored: Document) -> OutgoingReport:
    return OutgoingReport(report_of(stored["report"]), stored.get("revised"))
