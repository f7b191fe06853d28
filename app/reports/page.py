"""A report as one self-contained HTML page: it needs no network, no scripts and no fonts.

Reasons and ids come from partners and rows. Everything is escaped, except for the drawings, whose
texts are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from app.core.figures import clock, duration, look_at, number, percent
from app.core.period import Kind
from app.ledger.unconfigured import way_out
from app.reports.charts import charts
from app.reports.record import ALL, Backlog, Report

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Card:
    """One headline figure."""

    label: str
    value: str
    note: str
    level: str = ""
    """`good`, `warn`, `bad` or nothing: its colour."""


def page(report: Report, revised: Mapping[str, Any] | None = None) -> str:
    """The page. `revised`: `{count, at, changes}`, where the report was compiled again with other
    figures.
    """
    zone = ZoneInfo(report.timezone)
    template, style = _template()
    return template.render(
        report=report,
        revised=revised,
        name=title(report),
        when=when(report, zone),
        cards=cards(report, zone),
        unsent=[nobody_sends(feed, backlog, zone) for feed, backlog in report.unsent],
        charts=charts(report),
        style=style,
        zone=zone,
    )


def title(report: Report) -> str:
    """What the report is about."""
    return "All feeds" if report.feed == ALL else report.feed


def when(report: Report, zone: ZoneInfo) -> str:
    """The period: `Saturday, 21 November 2026`, with the times where it is an hour."""
    start, end = report.start.astimezone(zone), report.end.astimezone(zone)
    day = f"{start:%A}, {start.day} {start:%B %Y}"
    return day if report.kind is Kind.DAY else f"{day}, {start:%H:%M} to {end:%H:%M}"


def cards(report: Report, zone: ZoneInfo) -> list[Card]:
    """The headline figures."""
    totals, until, once = report.totals, report.delivered_ms, report.attempt_ms
    peak = (
        f"; most in a minute: {number(report.peak.delivered)}, at {report.peak.label}"
        if report.peak
        else ""
    )
    first = totals.first_success
    spent = duration(report.breaker.seconds * 1000)
    return [
        Card("Delivered", number(totals.delivered), f"{number(report.per_second)} a second{peak}"),
        Card(
            "First-attempt success",
            percent(first),
            f"{number(totals.first_delivered)} of {number(totals.first_attempts)} first attempts",
            _level(first is not None and first < 0.9, first is not None and first < 0.5),
        ),
        Card("Retries", number(totals.retries), f"of {number(totals.attempts)} attempts in all"),
        Card(
            "Dead",
            number(totals.dead),
            f"not tried again until replayed; {number(totals.unreadable + totals.unsendable)} could not be sent at all"
            + (f"; {number(totals.revived)} more were replayed" if totals.revived else ""),
            "bad" if totals.dead else "",
        ),
        Card("Until delivered, p95", duration(until.p95_ms), _others(until.p50_ms, until.p99_ms)),
        Card("One attempt, p95", duration(once.p95_ms), _others(once.p50_ms, once.p99_ms)),
        _backlog(report, zone),
        Card(
            "Rows read",
            number(totals.read),
            f"{number(totals.logged)} new, {number(totals.skipped)} skipped",
        ),
        Card(
            "Breaker open",
            spent if report.breaker.opened else "never",
            f"opened {number(report.breaker.opened)} times"
            if report.breaker.opened
            else "no endpoint was left alone",
            _level(report.breaker.opened),
        ),
        Card(
            "Paused",
            f"{number(report.paused_minutes)} min",
            "feeds together" if report.feed == ALL else "neither polled nor sent meanwhile",
            _level(report.paused_minutes),
        ),
    ]


def _backlog(report: Report, zone: ZoneInfo) -> Card:
    label = "Open now" if report.running else "Open at the end"
    if report.backlog is None:
        return Card(label, "–", "never sampled: no sweep ran", "warn")
    oldest = report.backlog.oldest_open_at
    since = f"oldest since {clock(oldest, zone)}" if oldest else "nothing is owed"
    return Card(
        label, number(report.backlog.open), f"{since}; sampled {clock(report.backlog.at, zone)}"
    )


def nobody_sends(feed: str, backlog: Backlog, zone: ZoneInfo) -> str:
    """One line on the deliveries owed of a feed that is not configured."""
    since = (
        f" (the oldest since {clock(backlog.oldest_open_at, zone)})"
        if backlog.oldest_open_at
        else ""
    )
    return (
        f"{feed}: NOT CONFIGURED: {number(backlog.unsent)} open deliveries{since} that nobody sends, since feeds.toml "
        f"does not name the feed: put it back, or give them up: {way_out(feed)}"
    )


def _others(p50_ms: float | None, p99_ms: float | None) -> str:
    return f"p50 {duration(p50_ms)}, p99 {duration(p99_ms)}"


def _level(warn: object, bad: object = False) -> str:
    return "bad" if bad else "warn" if warn else ""


@cache
def _template() -> tuple[Template, Markup]:
    """The template, and its style sheet, which is ours and not escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "number": number,
        "duration": duration,
        "percent": percent,
        "look_at": look_at,
    }
    environment.filters["clock"] = _on_clock
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html"), Markup(style)  # noqa: S704 - a file of ours


@pass_context
def _on_clock(context: Context, moment: datetime | None) -> str:
    """A moment in the report's time zone."""
    return clock(moment, context["zone"])
