"""`/dead-letters`: in groups, to be looked at or acted on together."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from app.console.dead_letters.schemas import GroupsAsked
from app.console.deliveries.schemas import DeliveryFilter
from app.console.dependencies import Given
from app.console.pages import ReadBy, render
from app.core.errors import UnknownFeed
from app.core.shown import plain

router = APIRouter(prefix="/dead-letters", include_in_schema=False)


@router.get("")
async def dead_letters_page(request: Request, who: ReadBy, given: Given) -> Response:
    """The groups, the largest first."""
    by, problem, found = who.by, None, None
    asked = GroupsAsked()
    try:
        read = DeliveryFilter.read(request.query_params.multi_items())
        asked = GroupsAsked(feed=read.feed, since=read.since, until=read.until)
        found = await given.dead_letters.groups(by, asked)
    except ValidationError:
        problem = who.gettext("The address holds a feed or a moment that cannot be read.")
    except UnknownFeed as error:
        problem = str(error)
    told = {
        "found": found,
        "asked": asked,
        "problem": problem,
        "feeds": sorted({*given.operator.feeds, *asked.feed}),
        "plain": plain,
        "pairs": _pairs,
    }
    return render(request, who, "dead_letters/list.html", told, 422 if problem else 200)


def _pairs(query: str) -> list[tuple[str, str]]:
    """A filter's query as the fields of a form."""
    return DeliveryFilter.of_query(query).pairs()
