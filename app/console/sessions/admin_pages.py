"""`/admin/sessions`: browsers that are logged in."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.errors import Invalid
from app.console.pages import ReadBy, go, render
from app.console.schemas import PAGE, Id, moment_cursor, read_moment_cursor

router = APIRouter(prefix="/admin/sessions", include_in_schema=False)

HERE = "/admin/sessions"


@router.get("")
async def sessions_page(request: Request, who: ReadBy, given: Given) -> Response:
    """All sessions, or those of the user whose id is in the address."""
    by, user = who.by, request.query_params.get("user", "")[:32] or None
    try:
        before = read_moment_cursor(request.query_params.get("after"))
    except Invalid:
        before = None
    found, following = await given.sessions.page(by, before, PAGE, of_all=True, user_id=user)
    cursor = moment_cursor(following)
    kept = {"user": user} if user else {}
    told = {
        "sessions": found,
        "of_user": user,
        "next_url": f"{HERE}?{urlencode(kept | {'after': cursor})}" if cursor else None,
    }
    return render(request, who, "sessions/list.html", told)


@router.post("/{session_id}/end")
async def end_session(who: ReadBy, given: Given, session_id: Id) -> Response:
    """Log a browser out."""
    await given.sessions.end(who.by, session_id)
    return go(HERE, who.gettext("The login has ended."))
