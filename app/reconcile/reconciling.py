"""The use case: a scan, from its beginning to its certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta

from app.broker.queue import Queue
from app.core.certificates import MISSING_NAMED, Certificate, Discrepancy, DiscrepancyKind
from app.core.clock import Clock, utc_now
from app.core.cursors import Origin
from app.core.errors import SourceRefused
from app.feeds.feed import Feed
from app.intake.intake import Intake
from app.ledger import Ledger
from app.ledger.persistence import persistent
from app.ledger.scans import Phase
from app.reconcile import bounds
from app.reconcile.beginning import begun, resumed
from app.reconcile.certify import certificate_of, owed_before, say
from app.reconcile.ledger_scan import scan_ledger, some_have_no_row
from app.reconcile.run import Means, Progress, Run, Since, Sleep
from app.reconcile.scanned_source import ScannedSource
from app.reconcile.source_scan import count_purged, scan_source
from app.reconcile.standing import of_cursor, of_other_source, of_removed
from app.source.catalogue import origin_of


def _untold(doing: str, done: int, of: int | None) -> None:
    """Ignores progress."""


class Reconciling:
    """Reconciles feeds for one process."""

    def __init__(
        self,
        source: ScannedSource,
        ledger: Ledger,
        queue: Queue,
        *,
        message_wait: timedelta,
        heal_at_most: int = bounds.HEALED_AT_MOST,
        now: Clock = utc_now,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`message_wait`: after this long without a claim, the sweep treats a batch's message as
        lost.
        """
        intake = Intake(ledger, queue, message_wait=message_wait, now=now)
        self._means = Means(source, ledger, intake, heal_at_most, now, sleep)
        self._ledger = ledger
        self._now = now

    async def reconcile(
        self,
        feed: Feed,
        *,
        since: Since = None,
        dry_run: bool = False,
        resume: bool = True,
        acknowledge: str = "",
        progress: Progress = _untold,
    ) -> Certificate:
        """Compare the feed's source with the ledger, heal what is missing, and save the
        certificate.

        `dry_run` changes and saves nothing. `acknowledge`: who accepts changed rows as they are
        now. `resume` continues an interrupted scan of the whole feed. Raises the source's and the
        ledger's errors; `SourceRefused` also where neither the ledger nor `since` says from where
        on the feed was read, and for a cursor strategy that is not compared.
        """
        if feed.cursor.unreconciled is not None:
            raise SourceRefused(f"feed {feed.name}: {feed.cursor.unreconciled}")
        with persistent(sleep=self._means.sleep, feed=feed.name):
            cursor = await self._ledger.cursors.get(feed.name)
            if cursor.origin is not None and cursor.origin != origin_of(feed):
                return await self._refused(feed, cursor.origin, dry_run=dry_run)
            scan = (
                None
                if dry_run or since is not None or not resume
                else await resumed(self._means, feed)
            )
            scan = scan or await begun(self._means, feed, since, dry_run=dry_run)
        run = Run(self._means, feed, scan, dry_run, progress, self._now(), acknowledge)
        with persistent(sleep=self._means.sleep, tell=run.tell_wait, feed=feed.name):
            return await self._scanned(run)

    async def _scanned(self, run: Run) -> Certificate:
        """Scan to the end, and certify what was found."""
        scan = run.scan
        if scan.phase is Phase.PURGED:
            await count_purged(run)
        if scan.phase is Phase.SOURCE:
            await scan_source(run)
        if scan.phase is Phase.LEDGER and some_have_no_row(scan):
            await scan_ledger(run)
        certificate = certificate_of(scan, await self._standing_of(run), self._now())
        if not run.dry:
            await self._ledger.certificates.save(certificate)
            await self._ledger.scans.end(scan)
            await self._forget(certificate)
        say(certificate, dry_run=run.dry)
        return certificate

    async def removed(self, feeds: Collection[str], *, dry_run: bool = False) -> list[Certificate]:
        """Certify what is owed of feeds that the ledger knows and `feeds` does not name: those with
        open deliveries, and those that had some at their last certificate. Raises the ledger's
        errors.
        """
        owing = await self._ledger.backlog.open_by_feed()
        known = {*await self._ledger.cursors.feeds(), *owing} - set(feeds)
        made: list[Certificate] = []
        for name in sorted(known):
            owed, _ = owing.get(name, (0, None))
            latest = await self._ledger.certificates.latest(name)
            if owed or (latest and owed_before(latest)):
                ids = await self._ledger.backlog.open_ids(name, MISSING_NAMED)
                made.append(of_removed(name, owed, ids, self._now()))
        for certificate in made if not dry_run else ():
            await self._ledger.certificates.save(certificate)
            say(certificate, dry_run=dry_run)
        return made

    async def _refused(self, feed: Feed, origin: Origin, *, dry_run: bool) -> Certificate:
        """Certify that nothing was compared: against deliveries of another source, every row would
        be missing.
        """
        audit = self._ledger.audit
        total = await audit.total(feed.name, bounds.STRIDE)
        ids = await audit.ids_after(feed.name, "", MISSING_NAMED)
        certificate = of_other_source(feed, origin, total, ids, self._now())
        if not dry_run:
            await self._ledger.certificates.save(certificate)
        say(certificate, dry_run=dry_run)
        return certificate

    async def _standing_of(self, run: Run) -> Sequence[Discrepancy]:
        """Discrepancies beyond the cursor's reach, asked for when the scan is over."""
        cursor = await self._ledger.cursors.get(run.feed.name)
        outside = await run.patient(lambda: run.source.outside(run.feed, cursor))
        in_gaps = run.scan.awaited, run.scan.awaited_ids
        return tuple(of_cursor(run.feed, cursor, outside, in_gaps, self._now()))

    async def _forget(self, certificate: Certificate) -> None:
        """Drop what polls noticed earlier, and this comparison of the whole feed no longer found."""
        if certificate.since is None and certificate.begun_at:
            still = {found.kind for found in certificate.discrepancies}
            over = [kind for kind in DiscrepancyKind if kind not in still]
            await self._ledger.cursors.forget(certificate.feed, over, certificate.begun_at)
