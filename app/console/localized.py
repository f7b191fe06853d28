"""Dates, numbers and durations as a reader of a language and time zone writes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_datetime, format_time, format_timedelta
from babel.numbers import format_decimal, format_percent

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))


class Localized:
    """Formats for one reader."""

    def __init__(self, language: str, time_zone: str) -> None:
        self._locale = Locale.parse(language)
        self._zone = ZoneInfo(time_zone)

    def moment(self, at: datetime | None) -> str:
        """Date and time to the second; a dash for none."""
        if at is None:
            return "–"
        return format_datetime(at, "medium", tzinfo=self._zone, locale=self._locale)

    def clock(self, at: datetime) -> str:
        """The time of day, to the minute."""
        return format_time(at, "short", tzinfo=self._zone, locale=self._locale)

    def hour(self, at: datetime) -> str:
        """The day of the week, and the time of day."""
        local = format_datetime(at, "EEE ", tzinfo=self._zone, locale=self._locale)
        return local + self.clock(at)

    def latency(self, ms: float) -> str:
        """A number of milliseconds in the unit in which it is short: `850 ms`, `12 s`, `3 min`."""
        unit, length = next(one for one in _UNITS if ms >= one[1] or one[1] == 1)
        return f"{format_decimal(ms / length, '#,##0.#', locale=self._locale)} {unit}"

    def number(self, value: float | None) -> str:
        """With the separators of the language; a dash for none."""
        return "–" if value is None else format_decimal(value, locale=self._locale)

    def percent(self, part: float) -> str:
        """A part of 1."""
        return format_percent(part, "#,##0.#%", locale=self._locale)

    def duration(self, length: timedelta | float | None) -> str:
        """As a person says it: `3 minutes`. Seconds where it is a number; a dash for none."""
        if length is None:
            return "–"
        whole = length if isinstance(length, timedelta) else timedelta(seconds=length)
        return format_timedelta(whole, threshold=1.5, locale=self._locale)

    def ago(self, at: datetime | None, now: datetime) -> str:
        """How long ago, or in how long: `3 minutes ago`."""
        if at is None:
            return "–"
        return format_timedelta(at - now, add_direction=True, threshold=1.5, locale=self._locale)
