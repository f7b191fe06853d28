"""`/api/v1/audit`: the log of who did what, its verifier, and all of it as a file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from app.console.audit.schemas import AuditShown, VerifiedShown
from app.console.audit.service import Asked
from app.console.dependencies import By, Given
from app.console.schemas import (
    PAGE,
    Cursor,
    Instant,
    Limit,
    Line,
    Page,
    cursor_of,
    read_number_cursor,
)

router = APIRouter(prefix="/audit", tags=["audit"])

NDJSON = "application/x-ndjson"

Who = Annotated[Line | None, Query(max_length=100, description="A user's name, as it is.")]
Action = Annotated[
    Line | None,
    Query(max_length=60, description="An action, as `user.changed`; or all of a kind, as `user`."),
]
Subject = Annotated[Line | None, Query(max_length=600, description="A part of the subject.")]
Since = Annotated[Instant | None, Query(description="From that moment on.")]
Until = Annotated[Instant | None, Query(description="Before that moment.")]


@router.get("")
async def list_entries(
    by: By,
    given: Given,
    who: Who = None,
    action: Action = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[AuditShown]:
    """What was done, the latest first."""
    asked = Asked(who, action, subject, since, until)
    entries, following = await given.audit.list(by, asked, read_number_cursor(after), limit)
    shown = [AuditShown.of(entry) for entry in entries]
    return Page(items=shown, next=cursor_of(following) if following else None)


@router.get("/verify")
async def verify(by: By, given: Given) -> VerifiedShown:
    """Go through the whole chain: which entry is the first that is not what was written?"""
    return VerifiedShown.model_validate(await given.audit.verified(by))


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
)
async def export(by: By, given: Given) -> StreamingResponse:
    """The whole log in order, an entry a line (NDJSON), with the hashes: enough to verify it elsewhere.

    `hash` is SHA-256 over the JSON array, without blanks, of all other fields in their order.
    """
    headers = {"Content-Disposition": 'attachment; filename="audit.ndjson"'}
    return StreamingResponse(given.audit.export(by), media_type=NDJSON, headers=headers)
