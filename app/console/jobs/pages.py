"""`/jobs`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.errors import Conflict, Invalid
from app.console.pages import ReadBy, Reader, go, render
from app.console.schemas import read_why
from app.console.services import Services

router = APIRouter(prefix="/jobs", include_in_schema=False)


@router.get("")
async def jobs(request: Request, who: ReadBy, given: Given) -> Response:
    """How each is doing."""
    return await _page(request, who, given)


@router.post("/{name}/run")
async def run(
    request: Request,
    who: ReadBy,
    given: Given,
    name: Annotated[str, Path(min_length=1, max_length=60)],
    why: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Run one now."""
    try:
        asked = await given.jobs.run(who.by, name, read_why(why))
    except (Conflict, Invalid) as error:
        return await _page(request, who, given, str(error), error.status, why)
    said = who.gettext("A worker runs %(job)s for %(period)s.", job=name, period=asked.period)
    return go("/jobs", said)


async def _page(
    request: Request,
    who: Reader,
    given: Services,
    problem: str | None = None,
    status: int = 200,
    why: str = "",
) -> Response:
    told = {
        "jobs": await given.jobs.list(who.by),
        "timezone": given.jobs.timezone,
        "problem": problem,
        "why": why,
    }
    return render(request, who, "jobs/list.html", told, status)
