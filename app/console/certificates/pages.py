"""`/certificates/{feed}`: what the last reconciliation vouches for, and what not."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.deliveries.ref import ref_of
from app.console.dependencies import Given
from app.console.pages import ReadBy, render
from app.core.shown import plain

router = APIRouter(prefix="/certificates", include_in_schema=False)

SHOWN = 20
"""Certificates of a page."""


@router.get("/{feed}")
async def certificate_page(request: Request, who: ReadBy, given: Given, feed: str) -> Response:
    """The certificate over all of the feed, its read ranges and gaps, and those before it."""
    proof = await given.certificates.of_feed(who.by, feed)
    after = request.query_params.get("after")
    history = await given.certificates.history(who.by, feed, after, SHOWN)
    told = {"proof": proof, "history": history, "plain": plain, "ref_of": ref_of}
    return render(request, who, "certificates/feed.html", told)
