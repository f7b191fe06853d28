"""A duration as an operator writes it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from app.core.wrong_values import DURATION

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)


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


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0), le=timedelta(days=3650))
]
