"""`/api/v1/events`: the overview whenever it was read anew, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.console.dependencies import By, Given
from app.console.feeds.live import Watch
from app.console.feeds.shown import overview_shown
from app.console.problems import REFUSES
from app.console.services import Services

router = APIRouter(prefix="/events", tags=["feeds"])


async def watching(request: Request, by: By, given: Given) -> AsyncIterator[Watch]:
    """What a program is told, until it is gone. Raises `TooMany`."""
    async with given.feeds.watching(by, still_in(request, given)) as watch:
        yield watch


def still_in(request: Request, given: Services) -> Callable[[], Awaitable[object]]:
    """What asks whether who watches is logged in; that they watch does not count as use."""
    return lambda: given.authentication.principal(request, used=False)


Watching = Annotated[Watch, Depends(watching)]


@router.get("", response_class=EventSourceResponse, responses=REFUSES[429])
async def events(watch: Watching) -> AsyncIterable[ServerSentEvent]:
    """`overview`: as `GET /feeds` answers, every 2 seconds or so; `unavailable`: why there is none now;
    `end`: nothing follows, since the login has ended or the console stops. A comment every 15
    seconds keeps the connection."""
    async for news in watch.news():
        if news.overview is None:
            yield ServerSentEvent(event="unavailable", data={"detail": news.trouble})
            continue
        written = news.as_text(("json",), lambda found: overview_shown(found).model_dump_json())
        yield ServerSentEvent(event="overview", raw_data=written)
    yield ServerSentEvent(event="end", data={})
