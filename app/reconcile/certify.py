"""What a walk came to, as a certificate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import structlog

from app.core.certificates import Certificate, Discrepancy, DiscrepancyKind
from app.core.states import State
from app.ledger.scans import Scan

log = structlog.get_logger()


def certificate_of(walk: Scan, others: Sequence[Discrepancy], now: datetime) -> Certificate:
    """The walk's sums; moments as the ledger keeps them. `others`: what the cursor does not reach."""
    return Certificate(
        feed=walk.feed,
        at=_in_milliseconds(now),
        position=walk.position,
        source_rows=walk.source_rows,
        states={state: walk.states[state] for state in State},
        missing=walk.missing,
        missing_ids=tuple(walk.missing_ids),
        healed=walk.healed,
        deleted=walk.deleted_states.total(),
        deleted_states=dict(walk.deleted_states),
        purged=walk.purged,
        awaited=walk.awaited,
        superseded=walk.superseded,
        since=walk.since,
        begun_at=_in_milliseconds(walk.begun_at),
        discrepancies=(*_of_rows(walk), *others),
        by_key=walk.by_key,
        acknowledged=walk.acknowledged,
    )


def owed_before(certificate: Certificate) -> bool:
    """Whether it was of a feed that is not configured any more, and owed something."""
    return any(found.kind is DiscrepancyKind.REMOVED for found in certificate.discrepancies)


def say(certificate: Certificate, *, dry_run: bool) -> None:
    """One line in the log."""
    level = log.info if certificate.complete else log.warning
    level(
        "reconciled",
        feed=certificate.feed,
        rows=certificate.source_rows,
        missing=certificate.missing,
        discrepancies={found.kind.value: found.count for found in certificate.discrepancies},
        healed=certificate.healed,
        deleted=certificate.deleted,
        complete=certificate.complete,
        dry_run=dry_run,
    )


def _of_rows(walk: Scan) -> Iterator[Discrepancy]:
    if walk.shared:
        yield Discrepancy(DiscrepancyKind.SHARED_KEY, walk.shared, tuple(walk.shared_ids))
    if walk.changed:
        yield Discrepancy(DiscrepancyKind.CHANGED, walk.changed, tuple(walk.changed_ids))


def _in_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
