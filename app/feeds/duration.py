"""A duration as an operator writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from app.core.wrong_values import DURATION

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def parse_duration(value: object) -> object:
    """Turn `"200ms"`, `"5s"`, `"10m"`, `"2h"`, `"3d"` into a timedelta, and a number, or the text
    of one, into seconds.

    So a duration is written in one way wherever it stands: `feeds.toml`, `.env`, an option of a
    command. Raises `ValueError` for another form, and for one that no clock measures.
    """
    if isinstance(value, timedelta):
        return value
    text = (
        str(value).strip()
        if isinstance(value, (int, float, str)) and not isinstance(value, bool)
        else ""
    )
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(DURATION)
    try:
        return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2] or "s"])
    except OverflowError:
        raise ValueError("a duration of 3650d or less") from None


def moment_of_text(text: str, now: datetime) -> datetime:
    """A moment in UTC: ISO 8601, of UTC where it names no zone, or a duration before `now`, such as
    `2h`. What lies beyond the calendar becomes its first or last moment. Raises `ValueError`."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return _before(now, text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # a zone's offset leads out of the years 1 to 9999
        return _FIRST if moment.year == 1 else _LAST


def _before(now: datetime, text: str) -> datetime:
    try:
        length = parse_duration(text)
    except ValueError as error:
        raise ValueError(
            f'{text!r}: neither a moment such as "2026-01-31T10:00Z" nor {error}'
        ) from error
    assert isinstance(length, timedelta)  # noqa: S101 - what it makes of text
    try:
        return now - length
    except OverflowError:
        return _FIRST


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0), le=timedelta(days=3650))
]
