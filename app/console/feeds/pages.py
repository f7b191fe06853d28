"""The overview, and a page for each feed."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from app.console import charts
from app.console.dependencies import Given
from app.console.errors import ConsoleError, Invalid
from app.console.feedback.schemas import SubjectKind
from app.console.feeds.cells import changed_cells
from app.console.feeds.events import still_in
from app.console.feeds.live import News, Watch
from app.console.feeds.overview import Overview
from app.console.feeds.schemas import AnyPart, AnyRange, Range
from app.console.feeds.service import Detail
from app.console.feeds.shown import GAPS, failing_of, position_shown
from app.console.pages import ReadBy, Reader, fragment, go, render
from app.console.schemas import read_why
from app.console.services import Services
from app.operations.pause import Part, Resumed
from app.reads.history import Step

router = APIRouter(include_in_schema=False)

Name = Annotated[str, Path(min_length=1, max_length=100)]
Key = Annotated[str, Query(min_length=1, max_length=1000)]
ToText = Annotated[str, Form(min_length=1, max_length=200)]
Typed = Annotated[str, Form(max_length=4000)]


@router.get("/")
async def overview(request: Request, who: ReadBy, given: Given) -> Response:
    """How everything is doing."""
    found = await given.feeds.overview(who.by)
    return render(request, who, "feeds/overview.html", _told(found))


async def watching(request: Request, who: ReadBy, given: Given) -> AsyncIterator[Watch]:
    """What a page is told, until it is closed. Raises `NotAuthenticated`, `TooMany`."""
    async with given.feeds.watching(who.by, still_in(request, given)) as watch:
        yield watch


@router.get("/overview/events", response_class=EventSourceResponse)
async def events(
    watch: Annotated[Watch, Depends(watching)], who: ReadBy
) -> AsyncIterable[ServerSentEvent]:
    """The overview's table whenever it was read anew, in the reader's language: `rows`, and then of it
    `cells`, those that changed."""
    before: tuple[str, str] | None = None
    async for news in watch.news():
        if news.overview is None:
            yield ServerSentEvent(
                event="unavailable", raw_data=who.say(news.trouble).replace("\n", " ")
            )
            continue
        rows = _page_rows(who, news)
        cells = _changed(who, news, before) if before else ""
        yield ServerSentEvent(event="cells" if cells else "rows", raw_data=cells or rows)
        before = (news.overview.at.isoformat(), rows)
    yield ServerSentEvent(event="end", raw_data="end")


def _page_rows(who: Reader, news: News) -> str:
    form = ("page", who.by.language, who.by.time_zone)
    return news.as_text(form, lambda found: _rows(who, found))


def _changed(who: Reader, news: News, before: tuple[str, str]) -> str:
    """Which cells differ from those of before (its moment, and its rows), as JSON; empty: more than
    cells does. Made once for all who have the same before."""

    def write(_: Overview) -> str:
        changed = changed_cells(before[1], _page_rows(who, news))
        return "" if changed is None else orjson.dumps(changed).decode()

    return news.as_text(("cells", who.by.language, who.by.time_zone, before[0]), write)


def _rows(who: Reader, found: Overview) -> str:
    return fragment(who, "feeds/live.html", found.at, _told(found))


def _told(found: Overview) -> dict[str, Any]:
    drawn = {
        line.status.feed: charts.small(
            [step.counts.delivered for step in line.hour],
            [step.counts.failed for step in line.hour],
        )
        for line in found.lines
    }
    return {"overview": found, "drawn": drawn, "failing": failing_of(found)}


@router.get("/feeds/{name}")
async def feed(
    request: Request,
    who: ReadBy,
    given: Given,
    name: Name,
    range: Annotated[AnyRange, Query()] = Range.HOUR,  # noqa: A002 - its name in the address
) -> Response:
    """One feed."""
    return await _feed_page(request, who, given, name, range)


async def _feed_page(
    request: Request,
    who: Reader,
    given: Services,
    name: str,
    back: Range = Range.HOUR,
    refused: ConsoleError | None = None,
    typed: dict[str, str] | None = None,
) -> Response:
    """The page of a feed; after a form was refused with what was typed, and why."""
    found = await given.feeds.detail(who.by, name, back)
    told = {
        "subject_kind": SubjectKind.FEED.value,
        "subject_id": name,
        "notes": await given.feedback.of_subject(who.by, SubjectKind.FEED, name),
        "feed": found,
        "line": found.overview.line(name),
        "position": position_shown(found.cursor),
        "gaps": found.cursor.gaps[:GAPS],
        "charts": _charts(found),
        "ranges": [*Range],
        "parts": [*Part],
        "problem": str(refused) if refused else None,
        "typed": typed or {},
    }
    return render(request, who, "feeds/feed.html", told, refused.status if refused else 200)


def _charts(found: Detail) -> dict[str, charts.Chart]:
    steps = found.history
    moments = [step.at for step in steps]

    def of(name: str, style: str, *path: str) -> charts.Series:
        return charts.Series(name, style, [_value(step, path) for step in steps])

    def latency(of_what: str) -> charts.Chart:
        series = [
            of(part, style, of_what, f"{part}_ms")
            for part, style in (("p50", "low"), ("p95", "middle"), ("p99", "high"))
        ]
        return charts.logarithmic(of_what, moments, series)

    flow = [
        of("logged", "plain", "counts", "logged"),
        of("delivered", "good", "counts", "delivered"),
    ]
    outcomes = [
        of(name, style, "counts", name)
        for name, style in (
            ("delivered", "good"),
            ("retry", "warn"),
            ("unknown", "odd"),
            ("dead", "bad"),
        )
    ]
    return {
        "throughput": charts.lines("throughput", moments, flow),
        "delivered_ms": latency("delivered_ms"),
        "attempt_ms": latency("attempt_ms"),
        "outcomes": charts.stacked("outcomes", moments, outcomes),
    }


def _value(step: Step, path: tuple[str, ...]) -> float | None:
    found: Any = step
    for name in path:
        found = getattr(found, name)
    return None if found is None else float(found)


@router.post("/feeds/{name}/pause")
async def pause(
    request: Request,
    who: ReadBy,
    given: Given,
    name: Name,
    part: Annotated[AnyPart, Form()],
    why: Typed = "",
) -> Response:
    """Pause it, or a part of it."""
    do = partial(given.feeds.pause, who.by, name, part)
    return await _controlled(request, who, given, name, why, do)


@router.post("/feeds/{name}/resume")
async def resume(
    request: Request,
    who: ReadBy,
    given: Given,
    name: Name,
    part: Annotated[AnyPart, Form()],
    why: Typed = "",
) -> Response:
    """Go on with it, or with a part of it."""
    do = partial(given.feeds.resume, who.by, name, part)
    said = who.gettext("resumed"), who.gettext("it was not paused")
    return await _controlled(request, who, given, name, why, do, said)


async def _controlled(
    request: Request,
    who: Reader,
    given: Services,
    name: str,
    why: str,
    do: Callable[[str], Awaitable[Resumed]],
    said: tuple[str, str] = ("", ""),
) -> Response:
    """Do it for that reason, and back to the page, which says what is paused then. `said`: in front of
    that, where something changed, and where nothing did."""
    try:
        done = await do(read_why(why))
    except ConsoleError as error:
        return await _feed_page(request, who, given, name, refused=error, typed={"why": why})
    told = (said[0 if done.changed else 1], who.say(done.cursor.stopped))
    return go(_address(name), "; ".join(filter(None, told)))


@router.get("/feeds/{name}/preview")
async def preview(request: Request, who: ReadBy, given: Given, name: Name, key: Key) -> Response:
    """The request that would be sent for a row, without the row's values."""
    found = await given.feeds.preview(who.by, name, key)
    return render(request, who, "feeds/preview.html", _previewed(name, key, found))


@router.post("/feeds/{name}/preview")
async def reveal(
    request: Request,
    who: ReadBy,
    given: Given,
    name: Name,
    key: Annotated[str, Form(min_length=1, max_length=1000)],
    why: Typed = "",
) -> Response:
    """The same with the row's values, on record."""
    try:
        found = await given.feeds.preview(who.by, name, key, read_why(why))
    except Invalid as error:
        found = await given.feeds.preview(who.by, name, key)
        told = _previewed(name, key, found, str(error), why)
        return render(request, who, "feeds/preview.html", told, error.status)
    return render(request, who, "feeds/preview.html", _previewed(name, key, found))


def _previewed(
    name: str, key: str, found: object, problem: str | None = None, why: str = ""
) -> dict[str, Any]:
    return {"name": name, "key": key, "preview": found, "problem": problem, "why": why}


@router.get("/feeds/{name}/rewind")
async def count_rewind(
    request: Request,
    who: ReadBy,
    given: Given,
    name: Name,
    to: Annotated[str, Query(min_length=1, max_length=200)],
) -> Response:
    """What a rewind would do, and the form that does it."""
    try:
        counted = await given.feeds.count_rewind(who.by, name, to)
    except ConsoleError as error:
        return await _feed_page(request, who, given, name, refused=error, typed={"to": to})
    told = {"name": name, "to": to, "counted": counted, "problem": None, "why": ""}
    return render(request, who, "feeds/rewind.html", told)


@router.post("/feeds/{name}/rewind")
async def rewind(
    request: Request,
    who: ReadBy,
    given: Given,
    name: Name,
    to: ToText,
    token: Typed,
    why: Typed = "",
    deliver_again: Annotated[bool, Form()] = False,
) -> Response:
    """Move the cursor, after it was counted what that does."""
    try:
        done = await given.feeds.rewind(
            who.by, name, to, token, read_why(why), deliver_again=deliver_again
        )
    except ConsoleError as error:
        counted = await given.feeds.count_rewind(who.by, name, to)
        told = {"name": name, "to": to, "counted": counted, "problem": str(error), "why": why}
        return render(request, who, "feeds/rewind.html", told, error.status)
    return go(_address(name), f"{who.say(done.stood_said)} → {who.say(done.stands_said)}")


def _address(name: str) -> str:
    return f"/feeds/{quote(name, safe='')}"
