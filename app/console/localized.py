"""Dates, numbers and durations as a reader of a language and time zone writes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_datetime, format_timedelta
from babel.numbers import format_decimal, format_percent


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
