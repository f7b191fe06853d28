"""The last certificate of each feed, over all of it; and one feed's, with what it was given to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.certificates import Certificate
from app.core.position import Gap, ReadRange
from app.ledger import Ledger


@dataclass(frozen=True, slots=True)
class FeedCertificate:
    """What is known of one feed."""

    feed: str
    certificate: Certificate | None
    """`None`: it was never reconciled."""
    configured: bool = True
    """Else it left feeds.toml, and its certificate says what it owes."""

    @property
    def complete(self) -> bool:
        """Whether there is a certificate, and it is complete."""
        return self.certificate is not None and self.certificate.complete


async def read_certificates(
    ledger: Ledger, feeds: Sequence[str], *, removed: bool = False
) -> list[FeedCertificate]:
    """The last certificate of each of these feeds. With `removed` also those with discrepancies of
    feeds that the ledger knows and `feeds` does not name. Raises the ledger's errors.
    """
    found = [FeedCertificate(feed, await ledger.certificates.latest(feed)) for feed in feeds]
    left = sorted({*await ledger.cursors.feeds()} - {*feeds}) if removed else []
    for feed in left:
        certificate = await ledger.certificates.latest(feed)
        if certificate and certificate.discrepancies:
            found.append(FeedCertificate(feed, certificate, configured=False))
    return found


@dataclass(frozen=True, slots=True)
class FeedProof:
    """What one feed's certificate stands on."""

    certificate: Certificate | None
    """The last over all of it; `None`: it was never reconciled."""
    ranges: Sequence[ReadRange]
    """What the cursor was given to read; what lies in none, an operator passed over."""
    gaps: Sequence[Gap]
    """Ids that are missing, and still asked for."""


async def read_proof(ledger: Ledger, feed: str) -> FeedProof:
    """The feed's last certificate, its read ranges and its gaps. Raises the ledger's errors."""
    cursor = await ledger.cursors.get(feed)
    return FeedProof(await ledger.certificates.latest(feed), cursor.spans, cursor.gaps)
