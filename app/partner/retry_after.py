"""Parses how long a partner asks us to wait, in every form that servers use. Pure.

RFC 9110, section 10.2.3, defines two forms: seconds and a date. Servers also send fractions, units
(`30s`, `00:00:30`, `PT30S`), ISO dates, seconds or milliseconds since 1970, several values at once,
`Retry-After-Ms` (Azure, OpenAI), the `RateLimit-Reset` family
(https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/, GitHub, Discord), and a
member of a JSON body (Discord, Telegram). A value that cannot be parsed means `UNREADABLE_WAIT`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import ceil

import orjson

from app.core.attempts import HOLD_LIMIT

UNREADABLE_WAIT = timedelta(seconds=5)
"""For a value that cannot be parsed, is negative or lies in the past: some wait was asked for."""

_ASKING = ("retry-after", "retry-after-ms", "x-retry-after")
_LIMITS = (
    "x-ratelimit-reset-after",
    "ratelimit-reset",
    "x-ratelimit-reset",
    "x-rate-limit-reset",
    "ratelimit",
)
"""Some servers send these with every answer, so they count only where the answer is about a limit.
"""
_REMAINING = "x-ratelimit-remaining"
_LEFT = (_REMAINING, "ratelimit-remaining", "x-rate-limit-remaining")

WAIT_HEADERS = (*_ASKING, *_LIMITS, *_LEFT, "date")
"""The headers parsed here, in lower case."""

_EPOCH_SECONDS = 1e9
_EPOCH_MILLISECONDS = 1e11
_EPOCH_LIMIT = 1e14
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_AMOUNT = re.compile(rf"(-?)\s*({_NUMBER})\s*([a-z]*)\.?", re.ASCII)
_CLOCK = re.compile(r"(?:([0-9]{1,3})\.)?([0-9]{1,3}):([0-9]{2}):([0-9]{2}(?:\.[0-9]+)?)")
_ISO_DURATION = re.compile(
    rf"p(?:({_NUMBER})d)?(?:t(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?)?",
    re.ASCII | re.IGNORECASE,
)
_AFTER_DATE = re.compile(r"(?<=GMT),\s*")
_RESET = re.compile(r"(?:^|[;,\s])(?:t|reset)\s*=\s*([0-9.]+)")
_REMAINS = re.compile(r"(?:^|[;,\s])(?:r|remaining)\s*=\s*([0-9]+)")
_UNIT_SECONDS = {
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), 0.001),
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
}
_MEMBERS = (
    "retry_after",
    "retryAfter",
    "retry-after",
    "Retry-After",
    "retry_after_seconds",
    "retryAfterSeconds",
)


def wait_asked(
    headers: Mapping[str, str], body: str, now: datetime, *, too_fast: bool
) -> timedelta | None:
    """How long the answer asks us to wait, rounded up to whole seconds, at most `HOLD_LIMIT`;
    `None`: it does not ask.

    `too_fast`: the answer may be about our rate, so its rate-limit headers and its body count too.
    A date is compared with the answer's own `Date`, where it has one. Never raises.
    """
    found = {name.lower(): value for name, value in headers.items()}
    for name in (*_ASKING, *_LIMITS) if too_fast else _ASKING:
        if (text := found.get(name)) is not None:
            wait = _of_header(name, text, _partners_now(found, now))
            return _bounded(UNREADABLE_WAIT if wait is None else wait)
    wait = _of_body(body, now) if too_fast else None
    return None if wait is None else _bounded(wait)


def limit_used_up(headers: Mapping[str, str]) -> bool:
    """Whether the answer says that our rate limit is used up: that is what GitHub's 403 means, not
    that our credentials are wrong.
    """
    return any(
        name.lower() == _REMAINING and value.strip() == "0" for name, value in headers.items()
    )


def limit_left(headers: Mapping[str, str]) -> bool:
    """Whether the answer says that some of our rate limit is left: then it is not about that."""
    found = {name.lower(): value.strip() for name, value in headers.items()}
    said = [found[name] for name in _LEFT if name in found]
    said += _REMAINS.findall(found.get("ratelimit", "").lower())
    return bool(said) and all(value.isdecimal() and int(value) > 0 for value in said)


def without_limits(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers but for those that tell of a rate limit."""
    return {name: value for name, value in headers.items() if name.lower() not in _LIMITS}


def _of_header(name: str, text: str, now: datetime) -> timedelta | None:
    if name == "ratelimit":
        resets = [
            float(number)
            for number in _RESET.findall(text.lower())
            if number.count(".") < 2 and number != "."
        ]
        return _seconds(max(resets), now) if resets else None
    return _longest(text, now, 0.001 if name == "retry-after-ms" else 1.0)


def _longest(text: str, now: datetime, unit: float) -> timedelta | None:
    """The longest wait of several values, in one header or in several."""
    waits: list[timedelta | None] = []
    for part in _AFTER_DATE.split(text):
        whole = _read(part, now, unit)
        waits += (
            [whole] if whole is not None else [_read(one, now, unit) for one in part.split(",")]
        )
    return max((wait for wait in waits if wait is not None), default=None)


def _read(text: str, now: datetime, unit: float) -> timedelta | None:
    """One value: a number, a duration or a date. `None` for anything else."""
    text = re.split(r"[;(]", text, maxsplit=1)[0].strip(" \t\"'")
    for wait in (_amount(text.lower(), now, unit), _duration(text)):
        if wait is not None:
            return wait
    return _moment(text, now)


def _amount(text: str, now: datetime, unit: float) -> timedelta | None:
    if not (found := _AMOUNT.fullmatch(text)) or found[3] not in _UNIT_SECONDS:
        return None
    if found[1] and float(found[2]):
        return UNREADABLE_WAIT
    return _seconds(float(found[2]) * (_UNIT_SECONDS[found[3]] if found[3] else unit), now)


def _seconds(number: float, now: datetime) -> timedelta:
    """A number of seconds; one too great for that is seconds or milliseconds since 1970."""
    if _EPOCH_SECONDS <= number < _EPOCH_LIMIT:
        number = (number / 1000 if number >= _EPOCH_MILLISECONDS else number) - now.timestamp()
        return (
            timedelta(seconds=min(number, HOLD_LIMIT.total_seconds()))
            if number > 0
            else UNREADABLE_WAIT
        )
    return timedelta(seconds=min(number, HOLD_LIMIT.total_seconds()))


def _duration(text: str) -> timedelta | None:
    """`00:00:30` (.NET), `1.00:00:00`, and ISO 8601's `PT30S`."""
    if not (
        found := _CLOCK.fullmatch(text)
        or (_ISO_DURATION.fullmatch(text) if len(text) > 2 else None)
    ):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return timedelta(
        seconds=min(((days * 24 + hours) * 60 + minutes) * 60 + seconds, HOLD_LIMIT.total_seconds())
    )


def _moment(text: str, now: datetime) -> timedelta | None:
    """A date in any of HTTP's three forms (RFC 9110, section 5.6.7), RFC 5322's or ISO 8601's."""
    date = _date(text)
    if date is None:
        return None
    return date - now if date > now else UNREADABLE_WAIT


def _date(text: str) -> datetime | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = parse(text)
            return date if date.tzinfo else date.replace(tzinfo=UTC)
        except (ValueError, OverflowError, IndexError, TypeError):
            continue
    return None


def _partners_now(headers: Mapping[str, str], now: datetime) -> datetime:
    """The time by the partner's clock, which its dates are compared with."""
    return _date(headers.get("date", "").strip()) or now


def _of_body(body: str, now: datetime) -> timedelta | None:
    """A member of a JSON object, or of an object directly inside it."""
    if not any(name in body for name in _MEMBERS):
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    for value in _members(answer):
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            wait = _read(str(value), now, 1.0)
            return UNREADABLE_WAIT if wait is None else wait
    return None


def _members(answer: object) -> Iterator[object]:
    if isinstance(answer, dict):
        for part in (answer, *(value for value in answer.values() if isinstance(value, dict))):
            yield from (part[name] for name in _MEMBERS if name in part)


def _bounded(wait: timedelta) -> timedelta:
    return min(timedelta(seconds=ceil(wait.total_seconds())), HOLD_LIMIT)
