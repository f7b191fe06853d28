"""Certificates: each feed's last, and one feed's with its history, read ranges and gaps."""

from __future__ import annotations

from app.console.certificates.schemas import (
    CertificateShown,
    FeedCertificate,
    FeedProof,
    RangeShown,
)
from app.console.feeds.schemas import GapShown
from app.console.schemas import Page, cut, moment_cursor, read_moment_cursor
from app.console.security.roles import Permission, Principal
from app.reads.certificates import read_certificates, read_proof
from app.reads.lookup import require_feeds
from app.runtime.operator import Operator


class Certificates:
    """Reads certificates."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def all(self, actor: Principal) -> list[FeedCertificate]:
        """Each feed's last, and those that feeds which left feeds.toml still owe by. Raises
        `Forbidden` and the ledger's errors."""
        actor.require(Permission.LOOK)
        operator = self._operator
        found = await read_certificates(operator.ledger, [*operator.feeds], removed=True)
        return [
            FeedCertificate(
                feed=one.feed,
                configured=one.configured,
                certificate=CertificateShown.of(one.certificate) if one.certificate else None,
            )
            for one in found
        ]

    async def of_feed(self, actor: Principal, feed: str) -> FeedProof:
        """One feed's last over all of it, and what it stands on. Raises `Forbidden`, `UnknownFeed`,
        and the ledger's errors."""
        actor.require(Permission.LOOK)
        await require_feeds(self._operator.ledger, self._operator.feeds, [feed])
        proof = await read_proof(self._operator.ledger, feed)
        return FeedProof(
            feed=feed,
            configured=feed in self._operator.feeds,
            certificate=CertificateShown.of(proof.certificate) if proof.certificate else None,
            ranges=[RangeShown.of(one) for one in proof.ranges],
            gaps=[GapShown.model_validate(one) for one in proof.gaps],
        )

    async def history(
        self, actor: Principal, feed: str, after: str | None, limit: int
    ) -> Page[CertificateShown]:
        """All of a feed, those of a part of it too, the latest first. Raises `Forbidden`, `Invalid`
        for a cursor of another list, `UnknownFeed`, and the ledger's errors."""
        actor.require(Permission.LOOK)
        place = read_moment_cursor(after)
        await require_feeds(self._operator.ledger, self._operator.feeds, [feed])
        found = await self._operator.ledger.certificates.page(
            feed, place[0] if place else None, limit + 1
        )
        page, following = cut(found, limit, lambda last: (last.at, feed))
        shown = [CertificateShown.of(one) for one in page]
        return Page(items=shown, next=moment_cursor(following))
