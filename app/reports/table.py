"""A report as CSV, and as plain text for a message."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from app.core.figures import clock, duration, number, percent
from app.core.period import Kind
from app.reports.page import nobody_sends, title, when
from app.reports.proof import Proof
from app.reports.record import ALL, Counts, Interval, Latency, Report

_COUNTS = (
    "read", "logged", "skipped", "delivered", "attempts", "first_attempts", "first_delivered", "retries", "retry",
    "unknown", "dead",
)  # fmt: skip
"""Fields of `Counts`, each a column of its name."""
_PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")
"""Fields of `Latency`, each a column for deliveries and one for attempts."""
_LATENCIES = tuple(f"{of}_{part}" for of in ("delivered", "attempt") for part in _PERCENTILES)
COLUMNS = ("feed", "span", "from", "to", *_COUNTS, *_LATENCIES, "open")
"""`span` says what a line is about: `period`, then `hour` or `5 minutes`, then `15 minutes` or
`minute`.
"""

_SPANS = {Kind.DAY: ("hour", "15 minutes"), Kind.HOUR: ("5 minutes", "minute")}


def to_csv(report: Report) -> str:
    """The period and its parts, a line each; times in UTC."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_lines(report))
    return text.getvalue()


def _lines(report: Report) -> Iterator[list[object]]:
    still_open = report.backlog.open if report.backlog else None
    whole = _figures(report.totals, report.delivered_ms, report.attempt_ms)
    yield [report.feed, "period", _utc(report.start), _utc(report.through), *whole, still_open]
    for name, spans in zip(_SPANS[report.kind], (report.spans, report.slots), strict=True):
        ends = [*(span.start for span in spans[1:]), report.through]
        for span, end in zip(spans, ends, strict=True):
            yield [report.feed, name, _utc(span.start), _utc(end), *_of(span), span.open]


def _of(span: Interval) -> list[object]:
    return _figures(span.counts, span.delivered_ms, span.attempt_ms)


def _figures(counts: Counts, delivered: Latency, attempt: Latency) -> list[object]:
    percentiles = [
        getattr(latency, part) for latency in (delivered, attempt) for part in _PERCENTILES
    ]
    return [*(getattr(counts, name) for name in _COUNTS), *percentiles]


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def summary(report: Report) -> str:
    """The report in a dozen lines of plain text."""
    zone = ZoneInfo(report.timezone)
    lines = [f"{title(report)}: {when(report, zone)} ({report.timezone})", ""]
    lines += [f"{name:<24}{value}" for name, value in figures(report)]
    if proofs := [*map(sentence, report.certificates), *map(lacking, report.uncertified)]:
        lines += ["", *proofs]
    if unsent := [nobody_sends(feed, backlog, zone) for feed, backlog in report.unsent]:
        lines += ["", *unsent]
    if report.dead_reasons:
        lines += [
            "",
            "Dead:",
            *(f"  {number(reason.count):>8}  {reason.text}" for reason in report.dead_reasons),
        ]
    if report.errors:
        lines += [
            "",
            "Errors:",
            *(f"  {number(reason.count):>8}  {reason.text}" for reason in report.errors[:5]),
        ]
    if report.feed == ALL:
        lines += ["", "Feeds:", *(_feed(line.feed, line.counts) for line in report.feeds)]
    return "\n".join(lines) + "\n"


def figures(report: Report) -> list[tuple[str, str]]:
    """The headline figures, as (name, value)."""
    zone, totals = ZoneInfo(report.timezone), report.totals
    found = [
        (
            "rows read",
            f"{number(totals.read)} ({number(totals.logged)} new, {number(totals.skipped)} skipped)",
        ),
        ("delivered", f"{number(totals.delivered)} ({number(report.per_second)} a second)"),
        ("first-attempt success", percent(totals.first_success)),
        ("retries", number(totals.retries)),
        (
            "dead",
            number(totals.dead)
            + (f" ({number(totals.revived)} more replayed)" if totals.revived else ""),
        ),
        ("outcome unknown", number(totals.unknown)),
        (
            "statuses",
            ", ".join(f"{status}: {number(count)}" for status, count in report.statuses.items())
            or "none",
        ),
        ("until delivered", _percentiles(report.delivered_ms)),
        ("one attempt", _percentiles(report.attempt_ms)),
        ("open", _open(report, zone)),
        (
            "breaker open",
            f"{duration(report.breaker.seconds * 1000)}, opened {number(report.breaker.opened)} times",
        ),
        ("paused", f"{number(report.paused_minutes)} min"),
    ]
    return [*found, ("through", clock(report.through, zone))] if report.running else found


def sentence(proof: Proof) -> str:
    """A certificate on one line, with its sum written out."""
    parts = [f"{number(count)} {state}" for state, count in proof.states.items()]
    parts += [f"{number(count)} {name}" for name, count in proof.lost.items()]
    verdict = "complete" if proof.complete else "NOT COMPLETE"
    said = "".join(f"; {doubt.said}" for doubt in proof.discrepancies)
    return (
        f"{proof.feed}: {verdict}: {number(proof.source_rows)} source rows = {' + '.join(parts)}, "
        f"up to position {proof.position}, at {proof.at:%Y-%m-%d %H:%M} UTC{said}"
    )


def lacking(feed: str) -> str:
    """One line on a feed without a certificate for the day."""
    return f"{feed}: NOT CERTIFIED for this day: python -m app reconcile compares the source with the ledger"


def _percentiles(latency: Latency) -> str:
    return f"p50 {duration(latency.p50_ms)}, p95 {duration(latency.p95_ms)}, p99 {duration(latency.p99_ms)}"


def _open(report: Report, zone: ZoneInfo) -> str:
    if report.backlog is None:
        return "never sampled"
    oldest = report.backlog.oldest_open_at
    since = f", oldest since {clock(oldest, zone)}" if oldest else ""
    return f"{number(report.backlog.open)}{since} (sampled {clock(report.backlog.at, zone)})"


def _feed(name: str, counts: Counts) -> str:
    delivered, dead = number(counts.delivered), number(counts.dead)
    return f"  {name}: {delivered} delivered, {percent(counts.first_success)} at the first attempt, {dead} dead"
