"""`/api/v1/sessions`: browsers that are logged in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.console.dependencies import By, Given
from app.console.schemas import (
    PAGE,
    Cursor,
    Id,
    Limit,
    Page,
    moment_cursor,
    read_moment_cursor,
)
from app.console.sessions.schemas import SessionShown
from app.console.store.tables import Session

router = APIRouter(prefix="/sessions", tags=["sessions"])


@router.get("")
async def list_sessions(
    by: By,
    given: Given,
    all: Annotated[bool, Query(description="Everybody's: for admins.")] = False,  # noqa: A002 - the address says it
    user: Annotated[Id | None, Query(description="Those of this user: for admins.")] = None,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[SessionShown]:
    """Browsers that are logged in, the newest first: one's own, unless asked for others'."""
    before = read_moment_cursor(after)
    found, following = await given.sessions.page(by, before, limit, of_all=all, user_id=user)
    return Page(
        items=[_shown(one, by.means_id) for one in found],
        next=moment_cursor(following),
    )


@router.delete("/{session_id}", status_code=204)
async def end_session(session_id: Id, by: By, given: Given) -> None:
    """Log a browser out: one's own, or as an admin anybody's."""
    await given.sessions.end(by, session_id)


def _shown(session: Session, own: str) -> SessionShown:
    names = ("id", "user_id", "created_at", "last_seen_at", "expires_at", "address", "user_agent")
    fields = {name: getattr(session, name) for name in names}
    return SessionShown.model_validate(
        fields | {"user": session.user.name, "current": session.id == own}
    )
