"""Feeds, as the API takes and gives them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from app.console.schemas import Schema, Why, any_spelling
from app.operations.pause import Part
from app.reads.feed_state import Stand


class Range(StrEnum):
    """How far back a history goes."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


AnyRange = Annotated[Range, any_spelling(Range)]
AnyPart = Annotated[Part, any_spelling(Part)]
Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1000,
        description="The row's key, as in the source, or its delivery's id.",
    ),
]
To = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="`beginning`, `now`, or a position of the feed's strategy.",
    ),
]


class FlowShown(Schema):
    """What came and went in a stretch of time."""

    at: datetime = Field(description="Its beginning.")
    logged: int
    delivered: int
    failed: int = Field(description="Attempts that did not deliver.")
    dead: int


class FeedLine(Schema):
    """How one feed is doing."""

    name: str
    configured: bool = Field(description="Whether feeds.toml names it.")
    state: Stand
    until: datetime | None = Field(description="When that ends by itself, where it does.")
    paused: str | None = Field(description="What of it is paused, and why.")
    open: int = Field(description="Queued or retrying.")
    sending: int = Field(description="Of these, in the hands of workers now.")
    oldest_open_at: datetime | None
    dead: int
    lag_rows: int | None = Field(
        description="Rows in the source past the cursor, up to 100000; null: not known."
    )
    gaps: int
    last_poll_at: datetime | None
    last_error: str | None
    delivered_a_second: float = Field(description="Over the last minute.")
    done_in_seconds: float | None = Field(
        description="Until nothing is open nor waits, at the present pace; null: never."
    )
    delivered_last_hour: int
    failed_last_hour: int
    hour: Sequence[FlowShown] = Field(description="The last hour, by 5 minutes.")


class ProcessShown(Schema):
    """A worker, beat, or a watchdog whose check fails."""

    name: str
    role: str
    live: bool
    ready: bool
    problems: Sequence[str] = Field(description="Why it is not live.")
    waits_for: Sequence[str] = Field(description="Why it is not ready, though live.")
    heard_at: datetime


class FailingShown(Schema):
    """What fails besides a feed's polls."""

    where: str
    said: str


class OverviewShown(Schema):
    """How everything is doing."""

    at: datetime
    feeds: Sequence[FeedLine]
    processes: Sequence[ProcessShown]
    failing: Sequence[FailingShown]
    untold: str | None = Field(description="Why nothing is known of breakers and cooldowns.")


class LatencyShown(Schema):
    """Percentiles in milliseconds, at most 12 % too high; null: no sample."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class StepShown(Schema):
    """A stretch of a feed's history."""

    at: datetime
    logged: int
    delivered: int
    retry: int = Field(description="Attempts that failed and are tried again.")
    unknown: int = Field(description="Attempts whose answer was lost.")
    dead: int
    delivered_ms: LatencyShown = Field(description="From logged until delivered.")
    attempt_ms: LatencyShown


class SettingShown(Schema):
    """A field of the feed in feeds.toml."""

    name: str
    value: str = Field(description="Secrets are masked.")
    given: bool = Field(description="It is written there; else it has its default.")


class GapShown(Schema):
    """Identity values that were missing when their range was read, and are still asked for."""

    low: int | None = Field(description="null: everything up to `high`.")
    high: int
    since: datetime


class CertificateShown(Schema):
    """The last certificate, in short."""

    at: datetime
    complete: bool
    account: str
    remarks: Sequence[str]


class FeedDetail(Schema):
    """One feed."""

    feed: FeedLine
    polled: bool
    sent: bool
    position: str = Field(description="Where its cursor stands.")
    noted: str | None
    notices: Sequence[str]
    gaps: Sequence[GapShown] = Field(description="At most 100.")
    certificate: CertificateShown | None
    configuration: Sequence[SettingShown] = Field(description="Empty: feeds.toml does not name it.")
    range: Range
    history: Sequence[StepShown]


class PreviewShown(Schema):
    """The request that would be sent for a row. Nothing is sent."""

    row_from: str = Field(description="`ledger` or `source`.")
    delivery: str = Field(description="The id of its delivery.")
    sent: bool
    reason: str | None = Field(description="Why it would not be sent.")
    method: str
    url: str
    headers: dict[str, str]
    body: str
    masked: bool = Field(description="What comes from the row is masked.")


class PreviewAsked(Schema):
    """To see the row's content in the request."""

    key: Key
    why: Why


class PauseAsked(Schema):
    """To pause or resume."""

    part: AnyPart = Part.BOTH
    why: Why


class PauseShown(Schema):
    """How the feed then is."""

    name: str
    changed: bool
    polled: bool
    sent: bool
    paused: str | None


class RewindAsked(Schema):
    """To move a feed's cursor: first without a token, which counts; then with the token of that."""

    to: To
    why: Why | None = None
    token: Annotated[str, Field(max_length=4000)] | None = Field(
        default=None, description="What the count gave. Without it nothing is moved."
    )
    deliver_again: bool = Field(
        default=False,
        description="That rows whose records are purged may be delivered again, where the count says so.",
    )


class RewindShown(Schema):
    """What a rewind would do, or has done."""

    name: str
    done: bool
    stood: str
    stands: str
    rows: int | None = Field(description="Rows that are read again; of a count alone.")
    known: int | None = Field(description="Of these, in the ledger: not delivered again.")
    complete: bool | None = Field(description="All rows were counted; else there are more.")
    delivered_again: str | None = Field(
        description="Up to where records may be purged, so that rows are delivered again."
    )
    token: str | None
    until: datetime | None = Field(description="Until when the token holds.")
