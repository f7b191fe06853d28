"""`/api/v1/certificates`: what reconciliations found."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.console.certificates.schemas import CertificateShown, FeedCertificate, FeedProof
from app.console.deliveries.schemas import FeedName
from app.console.dependencies import By, Given
from app.console.schemas import PAGE, Cursor, Limit, Page

router = APIRouter(prefix="/certificates", tags=["certificates"])

AFeed = Annotated[FeedName, Path(description="A feed.")]


@router.get("")
async def last_certificates(by: By, given: Given) -> list[FeedCertificate]:
    """Each feed's last certificate over all of it."""
    return await given.certificates.all(by)


@router.get("/{feed}")
async def certificate_of_feed(feed: AFeed, by: By, given: Given) -> FeedProof:
    """A feed's last certificate, what it was given to read, and its gaps."""
    return await given.certificates.of_feed(by, feed)


@router.get("/{feed}/history")
async def certificates_of_feed(
    feed: AFeed,
    by: By,
    given: Given,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[CertificateShown]:
    """A feed's certificates, the latest first."""
    return await given.certificates.history(by, feed, after, limit)
