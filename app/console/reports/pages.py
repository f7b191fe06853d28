"""`/reports`: listed, read, and two compared."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.errors import ConsoleError
from app.console.pages import ReadBy, render
from app.console.reports.schemas import CompareAsked, ReportsAsked
from app.core.shown import plain
from app.reports.record import ALL
from app.reports.table import figures, lacking, sentence

router = APIRouter(prefix="/reports", include_in_schema=False)


@router.get("")
async def reports_page(request: Request, who: ReadBy, given: Given) -> Response:
    """The kept reports, the latest first."""
    by, problem, found, asked = who.by, None, None, ReportsAsked()
    typed = {name: text for name, text in request.query_params.items() if text}
    try:
        known = {name: text for name, text in typed.items() if name in ReportsAsked.model_fields}
        asked = ReportsAsked.model_validate(known)
        found = await given.reports.list(by, asked)
    except ValidationError:
        problem = who.gettext("The address asks for something that cannot be read: choose below.")
    except ConsoleError as error:
        problem = str(error)
    told = {
        "found": found,
        "asked": asked,
        "problem": problem,
        "feeds": _feeds(given.operator.feeds, asked.feed),
        "plain": plain,
    }
    return render(request, who, "reports/list.html", told, 422 if problem else 200)


@router.get("/compare")
async def compare_page(request: Request, who: ReadBy, given: Given) -> Response:
    """Two reports of a feed side by side."""
    by, compared, problem = who.by, None, None
    try:
        asked = CompareAsked.model_validate(dict(request.query_params))
        compared = await given.reports.compare(by, asked)
    except ValidationError:
        problem = who.gettext("Choose two periods, such as 2026-11-20 and 2026-11-21.")
    except ConsoleError as error:
        problem = str(error)
    told = {
        "compared": compared,
        "problem": problem,
        "typed": request.query_params,
        "feeds": _feeds(given.operator.feeds, request.query_params.get("feed", ALL)),
        "plain": plain,
    }
    return render(request, who, "reports/compare.html", told, 422 if problem else 200)


@router.get("/{feed}/{period}")
async def report_page(
    request: Request, who: ReadBy, given: Given, feed: str, period: str
) -> Response:
    """One report."""
    report = await given.reports.record(who.by, feed, period)
    told = {
        "report": report,
        "figures": figures(report),
        "certificates": [*map(sentence, report.certificates), *map(lacking, report.uncertified)],
        "plain": plain,
    }
    return render(request, who, "reports/report.html", told)


def _feeds(configured: Iterable[str], chosen: str) -> list[str]:
    names = sorted({*configured, chosen} - {ALL})
    return [ALL, *names]
