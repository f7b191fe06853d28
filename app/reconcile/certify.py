"""Turns a finished scan into a certificate; its wording is in `app/core/certificates.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import structlog

from app.core.certificates import Certificate, Discrepancy, DiscrepancyKind
from app.core.states import State
from app.ledger.scans import Scan

log = structlog.get_logger()


def certificate_of(scan: Scan, others: Sequence[Discrepancy], now: datetime) -> Certificate:
    """The scan's sums as a certificate; moments to the millisecond, as the ledger stores them.
    `others`: discrepancies beyond the cursor's reach.
    """
    return Certificate(
        feed=scan.feed,
        at=_in_milliseconds(now),
        position=scan.position,
        source_rows=scan.source_rows,
        states={state: scan.states[state] for state in State},
        missing=scan.missing,
        missing_ids=tuple(scan.missing_ids),
        healed=scan.healed,
        deleted=scan.deleted_states.total(),
        deleted_states=dict(scan.deleted_states),
        purged=scan.purged,
        awaited=scan.awaited,
        superseded=scan.superseded,
        since=scan.since,
        begun_at=_in_milliseconds(scan.begun_at),
        discrepancies=(*_of_rows(scan), *others),
        by_key=scan.by_key,
        acknowledged=scan.acknowledged,
    )


def owed_before(certificate: Certificate) -> bool:
    """Whether it is of a feed that is no longer configured, with deliveries still owed."""
    return any(found.kind is DiscrepancyKind.REMOVED for found in certificate.discrepancies)


def say(certificate: Certificate, *, dry_run: bool) -> None:
    """Log it."""
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


def _of_rows(scan: Scan) -> Iterator[Discrepancy]:
    if scan.shared:
        yield Discrepancy(DiscrepancyKind.SHARED_KEY, scan.shared, tuple(scan.shared_ids))
    if scan.changed:
        yield Discrepancy(DiscrepancyKind.CHANGED, scan.changed, tuple(scan.changed_ids))


def _in_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
