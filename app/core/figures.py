"""Formats numbers, durations, percentages and moments for people."""

from __future__ import annotations

import shlex
from datetime import datetime
from zoneinfo import ZoneInfo

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def number(value: float | None) -> str:
    """`1,440`, `0.25`; `–` for `None`."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"


def duration(ms: float | None) -> str:
    """A duration in ms, to three figures and in one unit: `12 ms`, `1.41 s`, `2.5 h`; `–` for
    `None`.
    """
    if ms is None:
        return "–"
    for size, unit in _UNITS:
        if ms >= size:
            return f"{ms / size:.3g} {unit}"
    return f"{ms:.3g} ms"


def percent(part: float | None) -> str:
    """A part of 1. Only all is `100 %`, and only none is `0 %`: anything else is between `0.1 %`
    and `99.9 %`.
    """
    if part is None:
        return "–"
    if part in (0, 1):
        return f"{part:.0%}".replace("%", " %")
    return f"{min(max(part * 100, 0.1), 99.9):.1f} %"


def clock(moment: datetime | None, zone: ZoneInfo) -> str:
    """A moment in the operator's time zone, to the minute: `2026-11-21 14:05`; `–` for `None`."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}" if moment else "–"


def look_at(delivery_id: str) -> str:
    """The command that shows a delivery."""
    return f"python -m app deliveries show {shlex.quote(delivery_id)}"
