"""Reports that are kept, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from app.console.deliveries.schemas import FeedName
from app.console.schemas import PAGE, Cursor, Limit, Line, Schema, any_spelling
from app.core.period import Kind
from app.reports.record import ALL

AnyKind = Annotated[Kind, any_spelling(Kind)]
PeriodName = Annotated[
    str,
    Field(
        max_length=30,
        pattern=r"^\d{4}-\d{2}-\d{2}(T\d{2}[+-]\d{2}:\d{2})?$",
        examples=["2026-11-21", "2026-11-21T14+01:00"],
    ),
]


class ReportsAsked(Schema):
    """Which reports are listed."""

    feed: FeedName = Field(default=ALL, description="Of this feed; `*`: on all of them together.")
    kind: AnyKind | None = Field(default=None, description="Of days, or of hours.")
    period: Annotated[Line, Field(max_length=30)] = Field(
        default="", description="What the period begins with: 2026, 2026-11, 2026-11-21."
    )
    limit: Limit = PAGE
    after: Cursor = None


class ReportLine(Schema):
    """A report in a list."""

    feed: str
    kind: Kind
    period: str
    start: datetime
    end: datetime
    delivered: int
    dead: int
    revisions: int = Field(description="How often it was compiled again with other figures.")


class Figure(Schema):
    """A headline figure, in words."""

    name: str
    value: str


class ReportShown(Schema):
    """A report."""

    feed: str
    kind: Kind
    period: str
    start: datetime
    end: datetime
    revisions: int
    figures: list[Figure]
    certificates: list[str] = Field(description="What each feed's certificate says, in a sentence.")
    document: dict[str, Any] = Field(description="The report as it is kept.")


class CompareAsked(Schema):
    """Two reports of one feed."""

    feed: FeedName = ALL
    left: PeriodName
    right: PeriodName


class Compared(Schema):
    """A figure of both."""

    name: str
    left: str
    right: str


class Counted(Schema):
    """A count of both, and how they differ."""

    name: str
    left: int
    right: int
    difference: int = Field(description="right - left")


class Comparison(Schema):
    """Two reports side by side."""

    feed: str
    left: str
    right: str
    figures: list[Compared]
    counts: list[Counted]
