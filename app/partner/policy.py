"""What happens next with a delivery, decided from one answer. Pure: no clock, no network, no random source of its own.

| answer | outcome |
| --- | --- |
| 2xx | delivered |
| 408, 425, 429, 5xx, no connection, no token | retry, until attempts or age are spent |
| no answer to a request that may have been processed | the same; the attempt is on record as unknown |
| 2xx that fails the feed's `success` check | retry, or dead where the feed says so |
| 401, 403, `invalid_client` | retry, and the feed is paused: the fault is in our credentials, not in the row |
| 410 | dead, and the feed is paused: the endpoint is gone for every row |
| 3xx (never followed), other 4xx, anything else, a row that cannot be turned into a request | dead |

A `Retry-After` on 429 or 503 holds the whole endpoint, also when this delivery is given up.

An attempt answered 401 or 403 is on record and counts, but it never makes a delivery dead, neither by attempts nor by
age: nothing is sent while the feed is paused, so each pause costs a delivery one attempt at most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from app.feed import Retry
from app.models import Answer, Outcome, Ruling, Verdict

HOLD_LIMIT = timedelta(days=1)
"""The longest a Retry-After is believed. More is likely a mistake (an epoch time sent as seconds), and a partner that
means it says so again at the next attempt."""

JITTER = 0.25
"""The part of a wait that is left to chance."""

_RETRIED = frozenset({408, 425, 429})
_DENIED = frozenset({401, 403})
_MAY_HOLD = frozenset({429, 503})
_MAX_DOUBLINGS = 64
_SECONDS = re.compile(r"[0-9]+")


def judge(
    answer: Answer, *, attempt: int, created_at: datetime, policy: Retry, now: datetime, draw: Callable[[], float]
) -> Verdict:
    """Decide what happens next with a delivery.

    Takes the answer to its attempt number `attempt` (from 1), when the row was logged, the feed's retry policy, the
    time, and `draw`, which returns a random number in [0, 1) for the jitter. All times carry a time zone.
    Returns the verdict; its reason is one line. Never raises.
    """
    ruling, reason = answer.ruling or classify(answer.status), describe(answer)
    if ruling is Ruling.ACCEPTED:
        return Verdict(Outcome.DELIVERED, reason)
    if ruling is Ruling.REFUSED:
        return Verdict(Outcome.DEAD, reason)
    if ruling is Ruling.GONE:
        return Verdict(Outcome.DEAD, reason, pause_reason=f"{reason}: the endpoint is gone; check partner.url")
    if ruling is Ruling.DENIED:
        retry_at = now + backoff(policy, attempt, draw)
        pause = f"{reason}: the partner refuses our credentials; check partner.auth"
        return Verdict(Outcome.RETRY, reason, next_attempt_at=retry_at, pause_reason=pause)
    hold = hold_until(answer, now)
    spent = _spent(policy, attempt, now - created_at)
    if spent:
        return Verdict(Outcome.DEAD, f"{spent}: {reason}", hold_until=hold)
    outcome = Outcome.UNKNOWN if ruling is Ruling.LOST else Outcome.RETRY
    retry_at = now + backoff(policy, attempt, draw)
    return Verdict(outcome, reason, next_attempt_at=max(retry_at, hold or retry_at), hold_until=hold)


def classify(status: int | None) -> Ruling:
    """What a status says by itself; `None` stands for a request without an answer."""
    if status is None or status in _RETRIED or 500 <= status <= 599:
        return Ruling.FAILED
    if 200 <= status <= 299:
        return Ruling.ACCEPTED
    if status in _DENIED:
        return Ruling.DENIED
    return Ruling.GONE if status == HTTPStatus.GONE else Ruling.REFUSED


def describe(answer: Answer) -> str:
    """One line for an operator: `200`, `503 Service Unavailable`, or the error in place of a status."""
    status = answer.status
    if status is None:
        return answer.error or "no answer"
    if 200 <= status <= 299:
        return f"{status}: {answer.error}" if answer.error else str(status)
    named = f"{status} {_phrase(status)}".rstrip()
    return f"{named}: redirects are not followed" if 300 <= status <= 399 else named


def backoff(policy: Retry, attempt: int, draw: Callable[[], float]) -> timedelta:
    """Exponential backoff: a random time in the last quarter of [0, min(cap, backoff × 2^(attempt - 1))).

    The quarter keeps apart what failed together. More of it would be shorter waits, which spend attempts on a partner
    that is away for hours, and what spares a partner that comes back is its breaker, rate limit and concurrency.
    """
    doubled = policy.backoff.total_seconds() * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
    longest = min(policy.backoff_cap.total_seconds(), doubled)
    return timedelta(seconds=longest * (1 - JITTER * draw()))


def hold_until(answer: Answer, now: datetime) -> datetime | None:
    """Until when the partner wants no request: from Retry-After on 429 and 503, at most `HOLD_LIMIT` from now.

    `None` where nothing is asked for: no such header, one that is malformed, or a time that has passed.
    """
    if answer.status not in _MAY_HOLD:
        return None
    wait = _retry_after(_header(answer.headers, "retry-after"), now)
    return now + min(wait, HOLD_LIMIT) if wait > timedelta(0) else None


def _spent(policy: Retry, attempt: int, age: timedelta) -> str | None:
    if policy.max_attempts is not None and attempt >= policy.max_attempts:
        return "attempts spent"
    return "age spent" if age >= policy.max_age else None


def _retry_after(text: str, now: datetime) -> timedelta:
    """Both forms of RFC 9110, section 10.2.3: seconds, or a date. Zero for anything else."""
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=min(float(text), HOLD_LIMIT.total_seconds()))
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return timedelta(0)


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value.strip() for key, value in headers.items() if key.lower() == name), "")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
