"""`/admin/feedback`: all notes; and the forms that leave and resolve one, from any page."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from pydantic import ValidationError
from starlette.responses import Response

from app.console.deliveries.ref import ref_of
from app.console.dependencies import Given
from app.console.errors import Invalid
from app.console.feedback.routes import read_place
from app.console.feedback.schemas import LONGEST, NewFeedback
from app.console.feedback.service import may_resolve
from app.console.forms import what_is_right
from app.console.pages import ReadBy, go, render, safe_path
from app.console.schemas import PAGE, moment_cursor

router = APIRouter(prefix="/admin/feedback", include_in_schema=False)

Typed = Annotated[str, Form(max_length=10_000)]
HERE = "/admin/feedback"


@router.get("")
async def feedback_page(request: Request, who: ReadBy, given: Given) -> Response:
    """Notes that are open; all of them with `?all=on`."""
    by, every = who.by, request.query_params.get("all") == "on"
    try:
        place = read_place(request.query_params.get("after"))
    except Invalid:
        place = None
    notes, following = await given.feedback.list(by, place, PAGE, open_only=not every)
    cursor = moment_cursor(following)
    kept = {"all": "on"} if every else {}
    told = {
        "notes": notes,
        "every": every,
        "ref_of": ref_of,
        "next_url": f"{HERE}?{urlencode(kept | {'after': cursor})}" if cursor else None,
        "may_resolve": lambda note: may_resolve(by, note),
    }
    return render(request, who, "feedback/list.html", told)


@router.post("")
async def leave(
    request: Request,
    who: ReadBy,
    given: Given,
    subject_kind: Typed,
    subject_id: Typed,
    text: Typed = "",
    next: Typed = HERE,  # noqa: A002 - the form says it
) -> Response:
    """Leave a note, and go back to the page it was left on."""
    by = who.by
    typed = {"subject_kind": subject_kind, "subject_id": subject_id, "text": text}
    try:
        new = NewFeedback.model_validate(typed)
    except ValidationError as error:
        said = what_is_right(error.errors()[0])
        told = typed | {"next": safe_path(next, HERE), "problem": said, "longest": LONGEST}
        return render(request, who, "feedback/new.html", told, 422)
    await given.feedback.leave(by, new)
    return go(safe_path(next, HERE), who.gettext("The note was left."))


@router.post("/{note_id}/resolve")
async def resolve(who: ReadBy, given: Given, note_id: str, next: Typed = HERE) -> Response:  # noqa: A002 - as above
    """Mark a note as dealt with, and go back."""
    await given.feedback.resolve(who.by, note_id[:32])
    return go(safe_path(next, HERE), who.gettext("The note is dealt with."))
