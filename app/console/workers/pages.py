"""`/workers`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.pages import ReadBy, render

router = APIRouter(prefix="/workers", include_in_schema=False)


@router.get("")
async def workers(request: Request, who: ReadBy, given: Given) -> Response:
    """Workers and beat."""
    found = await given.workers.heard(who.by)
    return render(request, who, "workers/list.html", {"heard": found})
