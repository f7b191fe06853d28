"""Periods: the hours and days of reports and periodic jobs, in the operator's time zone.

A day lasts from one local midnight to the next: 23 or 25 hours when the clocks change. An hour is
all moments that share a local hour and an offset from UTC, so the two hours of an autumn night have
different names, and a zone that moves by half an hour (Lord Howe) has two short hours that night.
Periods leave no gaps and never overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from app.core.clock import utc_now

ALLOWED = 'a day "2026-11-21", an hour "2026-11-21T14" or "2026-11-21T14+01:00", "today", "yesterday" or "last-hour"'

_INSTANT = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


class Kind(StrEnum):
    """The length of a period, in local time."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Period:
    """An hour or a day."""

    kind: Kind
    start: datetime
    """UTC, inclusive."""
    end: datetime
    """UTC, exclusive."""
    name: str
    """`2026-11-21`, `2026-11-21T14+01:00`: local, and with its offset where it is an hour. Names
    sort as periods do, but for the hours of a night in which the clocks go back."""


def period_of(moment: datetime, kind: Kind, zone: ZoneInfo) -> Period:
    """The period that a moment (in any zone) lies in."""
    moment = moment.astimezone(UTC)
    return _day_of(moment, zone) if kind is Kind.DAY else _hour_of(moment, zone)


def previous(period: Period, zone: ZoneInfo) -> Period:
    """The period that ends where this one starts."""
    return period_of(period.start - _INSTANT, period.kind, zone)


def following(period: Period, zone: ZoneInfo) -> Period:
    """The period that starts where this one ends."""
    return period_of(period.end, period.kind, zone)


def periods(start: datetime, end: datetime, kind: Kind, zone: ZoneInfo) -> Iterator[Period]:
    """The periods that end after `start` and at or before `end`, oldest first."""
    period = period_of(start, kind, zone)
    while period.end <= end:
        yield period
        period = following(period, zone)


def parse_period(text: str, zone: ZoneInfo, now: datetime | None = None) -> Period:
    """The period of that name. Raises `ValueError`, which says what is allowed.

    An hour's offset may be left out where the day has one such hour. `today` is still running.
    """
    now = now or utc_now()
    relative = {
        "today": lambda: period_of(now, Kind.DAY, zone),
        "yesterday": lambda: previous(period_of(now, Kind.DAY, zone), zone),
        "last-hour": lambda: previous(period_of(now, Kind.HOUR, zone), zone),
    }
    if text in relative:
        return relative[text]()
    day_text, separator, _ = text.partition("T")
    day = _parse_day(day_text, zone)
    return _hour_named(text, day, zone) if separator else day


def _parse_day(text: str, zone: ZoneInfo) -> Period:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a date on the wall: its zone is the operator's
        found = period_of(_midnight(day, zone), Kind.DAY, zone)
    except (ValueError, OverflowError):
        raise ValueError(ALLOWED) from None
    if found.name != text:
        raise ValueError(f"no such day in {zone.key}; {ALLOWED}")
    return found


def _hour_named(text: str, day: Period, zone: ZoneInfo) -> Period:
    hours = list(periods(day.start, day.end, Kind.HOUR, zone))
    found = [hour for hour in hours if text in (hour.name, hour.name[: len("2026-11-21T14")])]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"the clocks go back in that hour: {' or '.join(hour.name for hour in found)}"
        )
    raise ValueError(
        f"no such hour in {zone.key}, from {hours[0].name} to {hours[-1].name}; {ALLOWED}"
    )


def _day_of(moment: datetime, zone: ZoneInfo) -> Period:
    """Usually the local date; next to it where the clocks change across midnight."""
    today = moment.astimezone(zone).date()
    for day in (today, today - _DAY, today + _DAY):
        start, end = _midnight(day, zone), _midnight(day + _DAY, zone)
        if start <= moment < end:
            return Period(Kind.DAY, start, end, day.isoformat())
    raise AssertionError(f"{moment}: in no day of {zone.key}")


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day starts: at the first of two midnights; where the clocks skip midnight, at that
    moment.
    """
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _hour_of(moment: datetime, zone: ZoneInfo) -> Period:
    local = moment.astimezone(zone)
    start = (local.replace(minute=0, second=0, microsecond=0, tzinfo=UTC)) - _offset(moment, zone)
    last = start + _HOUR - _SECOND
    inside = moment.replace(microsecond=0)
    return Period(
        Kind.HOUR,
        _change(start, inside, zone) if _offset(start, zone) != _offset(inside, zone) else start,
        _change(inside, last, zone)
        if _offset(last, zone) != _offset(inside, zone)
        else last + _SECOND,
        local.isoformat(timespec="hours"),
    )


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first second after `low` that has the offset of `high`. Zones change at whole seconds."""
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        if _offset(middle, zone) == _offset(high, zone):
            high = middle
        else:
            low = middle
    return high


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
