"""The records of a report, and their form in the ledger and in JSON.

Every field comes from the statistics' buckets and the certificates, none from the current time:
equal input gives an equal report, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import orjson
from pydantic import TypeAdapter

from app.core.period import Kind
from app.reports.proof import Proof

ALL = "*"
"""The feed of a report on all feeds together."""

VERSION = 1
"""Raised whenever a record below gains or loses a field, so that a report of an older version is
not taken for one with other figures (see `app/reports/changes.py`). A field that is added has a
default: older reports are still read."""

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened in a period, or a part of it. Attempts count when they end, rows when they are
    logged.
    """

    read: int = 0
    """Rows read from the source, including those already in the ledger."""
    logged: int = 0
    """Rows that were new in the ledger."""
    skipped: int = 0
    """Of the logged: left out by the feed's filter."""
    delivered: int = 0
    attempts: int = 0
    """Delivered, failed to be tried again, of unknown outcome, or final."""
    retry: int = 0
    """Attempts that failed and are tried again."""
    unknown: int = 0
    """Attempts whose answer was lost, in transit or with the worker."""
    dead: int = 0
    """Deliveries that died, by an attempt or because the row cannot be sent, and were not replayed
    since.
    """
    unreadable: int = 0
    """Rows that died when they were logged."""
    unsendable: int = 0
    """Rows that died because no request could be made from them: no attempt."""
    revived: int = 0
    """Dead letters of this time that were replayed within the period: not among the dead, unless
    they died again.
    """
    first_attempts: int = 0
    first_delivered: int = 0
    """First attempts that delivered."""
    retries: int = 0
    """Attempts that were not the first."""

    @property
    def failed(self) -> int:
        """Attempts that did not deliver."""
        return self.attempts - self.delivered

    @property
    def first_success(self) -> float | None:
        """The part of first attempts that delivered; `None`: there were none."""
        return self.first_delivered / self.first_attempts if self.first_attempts else None

    @property
    def failed_part(self) -> float | None:
        """The part of attempts that failed; `None`: there were none."""
        return self.failed / self.attempts if self.attempts else None


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in ms: each the upper bound of its bucket, so at most 12 % too high. `None`: no
    sample.
    """

    count: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A part of the period."""

    start: datetime
    label: str
    """Its start in local time: `14:15`, with the offset where the clocks change that day."""
    counts: Counts
    delivered_ms: Latency
    """From when a row was logged, or last replayed, until it was delivered."""
    attempt_ms: Latency
    open: int | None
    """Open deliveries at the last sample within it."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What was open at the end, as last sampled: once a minute, by the sweep."""

    at: datetime
    open: int
    oldest_open_at: datetime | None
    unsent: int = 0
    """Of these, those of feeds that feeds.toml did not name, which nothing sends."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """The endpoint's circuit breaker."""

    opened: int = 0
    seconds: float = 0.0
    """How long it stopped sending, not counting probes."""


@dataclass(frozen=True, slots=True)
class Reason:
    """How many failures had one reason."""

    text: str
    count: int
    example: str | None
    """The id of a delivery that shows it."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The busiest minute."""

    at: datetime
    label: str
    delivered: int


@dataclass(frozen=True, slots=True)
class FeedLine:
    """One feed in the report on all feeds."""

    feed: str
    counts: Counts
    delivered_ms: Latency
    backlog: Backlog | None
    paused_minutes: int
    breaker: Breaker
    complete: bool | None
    """What its certificate says; `None`: it has none."""


@dataclass(frozen=True, slots=True)
class Report:
    """One period of one feed, or of all."""

    feed: str
    """A feed's name, or `ALL`."""
    kind: Kind
    period: str
    start: datetime
    end: datetime
    """Exclusive."""
    timezone: str
    through: datetime
    """What happened until then is in it: `end`, unless the period is still running."""
    totals: Counts
    per_second: float
    """Deliveries a second, on average from `start` until `through`."""
    peak: Peak | None
    statuses: Mapping[str, int]
    """HTTP status → attempts; `none` for attempts without an answer."""
    delivered_ms: Latency
    attempt_ms: Latency
    backlog: Backlog | None
    """`None`: never sampled in the period."""
    paused_minutes: int
    """Samples that found the feed paused, one a minute; for all feeds, the sum."""
    breaker: Breaker
    minutes: int
    """Whole minutes from `start` until `through`."""
    sampled_minutes: int
    """Of these, the minutes in which a sweep ran. In the others no worker ran, or it took no
    sample.
    """
    dead_reasons: tuple[Reason, ...]
    errors: tuple[Reason, ...]
    """The reasons of attempts that failed, the most frequent first."""
    slowest: tuple[Interval, ...]
    most_failing: tuple[Interval, ...]
    spans: tuple[Interval, ...]
    """Hours of a day, five minutes of an hour."""
    slots: tuple[Interval, ...]
    """Quarters of an hour of a day, minutes of an hour: what the charts draw."""
    certificates: tuple[Proof, ...] = ()
    feeds: tuple[FeedLine, ...] = field(default=())
    version: int = 0
    """Which fields it has, see `VERSION`; 0: it was compiled before versions were kept."""

    @property
    def id(self) -> str:
        """Its id in the ledger."""
        return report_id(self.feed, self.period)

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Feeds whose certificate is not complete."""
        return tuple(proof.feed for proof in self.certificates if not proof.complete)

    @property
    def uncertified(self) -> tuple[str, ...]:
        """Feeds of a day that have no certificate for it. Hours need none."""
        if self.kind is not Kind.DAY:
            return ()
        feeds = [line.feed for line in self.feeds] if self.feed == ALL else [self.feed]
        return tuple(
            feed for feed in feeds if feed not in {proof.feed for proof in self.certificates}
        )

    @property
    def unsent(self) -> tuple[tuple[str, Backlog], ...]:
        """Feeds that feeds.toml did not name at the end, with what they owed."""
        lines = (
            [(line.feed, line.backlog) for line in self.feeds]
            if self.feed == ALL
            else [(self.feed, self.backlog)]
        )
        return tuple((feed, backlog) for feed, backlog in lines if backlog and backlog.unsent)

    @property
    def running(self) -> bool:
        """Whether the period had not ended when it was compiled."""
        return self.through < self.end


_REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def report_id(feed: str, period: str) -> str:
    """The id of a report in the ledger."""
    return f"{feed}|{period}"


def document_of(report: Report) -> Document:
    """The report in types of JSON; moments in ISO 8601, in UTC."""
    document: Document = _REPORT.dump_python(report, mode="json")
    return document


def report_of(document: Mapping[str, Any]) -> Report:
    """The report of such a document. Raises `ValueError` for an invalid one."""
    return _REPORT.validate_python(dict(document))


def canonical(document: Mapping[str, Any]) -> bytes:
    """The document's canonical bytes: equal for equal documents."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
