"""`/api/v1/reports`: listed, read, downloaded, compared."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from app.console.deliveries.schemas import FeedName
from app.console.dependencies import By, Given
from app.console.problems import REFUSES
from app.console.reports.schemas import (
    CompareAsked,
    Comparison,
    PeriodName,
    ReportLine,
    ReportsAsked,
    ReportShown,
)
from app.console.reports.service import MEDIA_TYPES, Download
from app.console.schemas import Page
from app.reports.files import Format

router = APIRouter(prefix="/reports", tags=["reports"])

AFeed = Annotated[FeedName, Path(description="A feed; `*`: all of them together.")]
APeriod = Annotated[PeriodName, Path(description="A day or an hour, by name.")]
FILE: dict[int | str, dict[str, Any]] = REFUSES[409] | {
    200: {"content": {kind: {"schema": {"type": "string"}} for kind in MEDIA_TYPES.values()}}
}


@router.get("", responses=REFUSES[404])
async def list_reports(
    asked: Annotated[ReportsAsked, Query()], by: By, given: Given
) -> Page[ReportLine]:
    """Kept reports of a feed, or of all together, the latest first."""
    return await given.reports.list(by, asked)


@router.get("/compare", responses=REFUSES[404] | REFUSES[409])
async def compare_reports(
    asked: Annotated[CompareAsked, Query()], by: By, given: Given
) -> Comparison:
    """Two reports of a feed side by side."""
    return await given.reports.compare(by, asked)


@router.get("/{feed}/{period}", responses=REFUSES[409])
async def read_report(feed: AFeed, period: APeriod, by: By, given: Given) -> ReportShown:
    """One report."""
    return await given.reports.read(by, feed, period)


@router.get("/{feed}/{period}/{form}", response_class=Response, responses=FILE)
async def download_report(
    feed: AFeed, period: APeriod, form: Format, by: By, given: Given
) -> Response:
    """One report as a file."""
    return file_of(await given.reports.download(by, feed, period, form))


def file_of(download: Download) -> Response:
    """The response that sends the file. Opened in a browser it may do nothing."""
    headers = {
        "Content-Disposition": f'attachment; filename="{download.name}"',
        "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    }
    return Response(download.content, media_type=download.media_type, headers=headers)
