"""What each periodic job does for a period: a step for each feed, or one for all.
`app/jobs/schedule.py` says when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from app.core.period import Period
from app.feeds.feed import Feed
from app.jobs.periodic import Result, Step, Works
from app.jobs.schedule import PURGE, RECONCILE, REPORT_DAY, REPORT_HOUR
from app.reconcile import Reconciling
from app.reports.reporting import Reporting
from app.retention.purge import Purging

REPORTS = "all reports"
"""The name of a step for all feeds: a feed's name has no blank."""
REMOVED = "removed feeds"
"""The name of the step for feeds that `feeds.toml` no longer names."""
PATIENCE = timedelta(minutes=2)
"""How long a purge waits for another to finish: an operator's, or one whose worker was killed."""


def works(
    feeds: Iterable[Feed], reporting: Reporting, reconciling: Reconciling, purging: Purging
) -> Works:
    """Job → its steps."""
    feeds = tuple(feeds)
    compiling = _compiling(reporting)
    return {
        REPORT_HOUR.name: [compiling],
        REPORT_DAY.name: [compiling],
        RECONCILE.name: [
            *(_reconciling(reconciling, feed) for feed in feeds),
            _reconciling_removed(reconciling, [feed.name for feed in feeds]),
        ],
        PURGE.name: [*(_purging(purging, feed) for feed in feeds), _purging_reports(purging)],
    }


def _compiling(reporting: Reporting) -> Step:
    async def work(period: Period) -> Result:
        return {"reports": len(await reporting.compile(period))}

    return Step(REPORTS, work)


def _reconciling(reconciling: Reconciling, feed: Feed) -> Step:
    async def work(_: Period) -> Result:
        certificate = await reconciling.reconcile(feed)
        found = {found.kind.value: found.count for found in certificate.discrepancies}
        return {"complete": certificate.complete, **_plain(certificate), **found}

    return Step(feed.name, work)


def _reconciling_removed(reconciling: Reconciling, feeds: Collection[str]) -> Step:
    async def work(_: Period) -> Result:
        made = await reconciling.removed(feeds)
        owed = sum(found.count for certificate in made for found in certificate.discrepancies)
        incomplete = [certificate.feed for certificate in made if not certificate.complete]
        return {"complete": not incomplete, "owed": owed, "feeds": incomplete}

    return Step(REMOVED, work)


def _purging(purging: Purging, feed: Feed) -> Step:
    async def work(_: Period) -> Result:
        purged = await purging.purge(feed, patience=PATIENCE)
        await purging.remember_counts(feed)
        return {"stopped": purged.stopped, **_plain(purged)}

    return Step(feed.name, work)


def _purging_reports(purging: Purging) -> Step:
    async def work(_: Period) -> Result:
        return (await purging.purge_reports())._asdict()

    return Step(REPORTS, work)


def _plain(record: Any) -> dict[str, object]:
    """A record's counts, without its lists."""
    return {name: value for name, value in asdict(record).items() if isinstance(value, bool | int)}
