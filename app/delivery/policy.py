"""What happens next with a delivery, decided from one answer. Pure: no clock, no network, no random
source of its own.

| answer | outcome |
| --- | --- |
| 2xx | delivered |
| nothing sent, for want of something of our own (a token, a file descriptor, a network) | retry; it is no attempt |
| 408, 425, 429, 5xx, no connection | retry, until attempts or age are spent |
| no answer to a request that may have been processed | the same; the attempt is on record as unknown |
| 2xx that fails the feed's `success` check | retry, or dead where the feed says so |
| 401, 403, `invalid_client` | retry, and the feed is paused: the fault is in our credentials, not in the row |
| 409 to a row that was sent before, or that says that its request is under way | retry |
| any other refusal that says when to come back, 403 for sending too fast among them | retry |
| 410 | dead, and the feed is paused: the endpoint is gone for every row |
| 3xx (never followed), other 4xx, anything else | dead |
| a row that cannot be turned into a request | dead; it is no attempt |

What an answer asks us to wait (`app/partner/retry_after.py`) keeps this row back, and where it
speaks of the endpoint and not of the row alone, the whole endpoint, also when this delivery is
given up.

An attempt answered 401 or 403 is on record and counts, but by itself it never makes a delivery
dead, neither by attempts nor by age.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from http import HTTPStatus

from app.core.attempts import HOLD_LIMIT, Answer, Outcome, Ruling, Verdict
from app.core.backoff import doubled
from app.feeds.feed import Retry
from app.partner.retry_after import (
    limit_left,
    limit_used_up,
    wait_asked,
    without_limits,
)

__all__ = ["HOLD_LIMIT", "OF_THE_ROW", "accepted", "backoff", "classify", "describe", "judge"]

UNDER_WAY_WAIT = timedelta(seconds=5)
"""How long a request that the partner still works at is left alone, at least."""

JITTER = 0.25
"""The part of a wait that is left to chance."""

OWN_WAIT = timedelta(seconds=5)
"""How long a row waits that was not sent for want of something of our own. It is never given up for
that.
"""

_RETRIED = frozenset({408, 425, 429})
_DENIED = frozenset({401, 403})
OF_THE_ROW = frozenset({409, 413, 425})
"""Their wait is asked of this row's request alone."""
_TOO_FAST = frozenset({429, 503})
_RESULT_OPEN = frozenset({502, 504})
"""A gateway's word that it does not know what became of the request."""
_UNDER_WAY = re.compile(
    r"idempoten|outstanding|in.?progress|under.?way|in.?flight|being processed|concurrent",
    re.IGNORECASE,
)
"""A 409 of the draft for `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header, section 2.7)
says so in words; a 409 about the row itself speaks of the resource."""


def judge(
    answer: Answer,
    *,
    attempt: int,
    created_at: datetime,
    policy: Retry,
    now: datetime,
    draw: Callable[[], float],
    in_doubt: bool = False,
) -> Verdict:
    """Decide what happens next with a delivery.

    Takes the answer to its attempt number `attempt` (from 1), when the row was logged, the feed's
    retry policy, the time, `draw`, which returns a random number in [0, 1) for the jitter, and
    whether an attempt before may have reached the partner. All times carry a time zone. Returns the
    verdict; its reason is one line. Never raises.
    """
    wait = None if answer.ruling is Ruling.ACCEPTED else _wait(answer, now)
    ruling, reason = _ruling(answer, wait, sent_before=in_doubt or attempt > 1), describe(answer)
    if ruling is Ruling.ACCEPTED:
        return Verdict(Outcome.DELIVERED, reason)
    if ruling is Ruling.OURS:
        again = now + max(OWN_WAIT * (1 - JITTER * draw()), wait or timedelta(0))
        return Verdict(Outcome.RETRY, reason, next_attempt_at=again, in_doubt=in_doubt)
    hold = now + wait if wait and answer.status not in OF_THE_ROW else None
    if ruling in (Ruling.REFUSED, Ruling.GONE):
        gone = (
            f"{reason}: the endpoint is gone; check partner.url" if ruling is Ruling.GONE else None
        )
        return Verdict(Outcome.DEAD, reason, hold_until=hold, pause_reason=gone)
    retry_at = now + max(backoff(policy, attempt, draw), wait or timedelta(0))
    if ruling is Ruling.DENIED:
        pause = f"{reason}: the partner refuses our credentials; check partner.auth"
        return Verdict(
            Outcome.RETRY, reason, next_attempt_at=retry_at, pause_reason=pause, in_doubt=in_doubt
        )
    if ruling is Ruling.UNDER_WAY:
        retry_at = max(retry_at, now + UNDER_WAY_WAIT)
        reason = (
            f"{reason}: the partner may have an earlier request for this row, or still work at it"
        )
    if spent := _spent(policy, attempt, now - created_at):
        return Verdict(Outcome.DEAD, f"{spent}: {reason}", hold_until=hold)
    outcome = Outcome.UNKNOWN if ruling is Ruling.LOST else Outcome.RETRY
    open_still = (
        in_doubt or ruling in (Ruling.LOST, Ruling.UNDER_WAY) or answer.status in _RESULT_OPEN
    )
    return Verdict(outcome, reason, next_attempt_at=retry_at, hold_until=hold, in_doubt=open_still)


def accepted(answer: Answer) -> Verdict | None:
    """What `judge` comes to where the status alone says that the partner has taken the row; else
    `None`. Most rows are, so this way is short.
    """
    status = answer.status
    if answer.ruling is not None or status is None or not 200 <= status <= 299:
        return None
    return _accepted(describe(answer))


@lru_cache(maxsize=16)
def _accepted(reason: str) -> Verdict:
    """One for all rows."""
    return Verdict(Outcome.DELIVERED, reason)


def _ruling(answer: Answer, wait: timedelta | None, *, sent_before: bool) -> Ruling:
    """What the answer says, with all that is known of it."""
    status = answer.status
    ruling = answer.ruling or classify(status)
    if answer.ruling is not None:
        return ruling
    if status == HTTPStatus.CONFLICT and (sent_before or wait or _UNDER_WAY.search(answer.body)):
        return Ruling.UNDER_WAY
    if status == HTTPStatus.FORBIDDEN and (wait or limit_used_up(answer.headers)):
        return Ruling.FAILED
    # Some put `Retry-After: 0` on every error: only a wait says that the refusal passes.
    return Ruling.FAILED if ruling is Ruling.REFUSED and wait else ruling


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
    """One line for an operator: `200`, `503 Service Unavailable`, or the error in place of a
    status.
    """
    status = answer.status
    if status is None:
        return answer.error or "no answer"
    if 200 <= status <= 299:
        return f"{status}: {answer.error}" if answer.error else str(status)
    named = f"{status} {_phrase(status)}".rstrip()
    return f"{named}: redirects are not followed" if 300 <= status <= 399 else named


def backoff(policy: Retry, attempt: int, draw: Callable[[], float]) -> timedelta:
    """Exponential backoff: a random time in the last quarter of [0, min(cap, backoff × 2^(attempt -
    1))).

    The quarter keeps apart what failed together. More of it would be shorter waits, which spend
    attempts on a partner that is away for hours, and what spares a partner that comes back is its
    breaker, rate limit and concurrency.
    """
    return doubled(policy.backoff, attempt - 1, policy.backoff_cap) * (1 - JITTER * draw())


def _wait(answer: Answer, now: datetime) -> timedelta | None:
    """How long the answer asks us to wait. An answer that speaks of our credentials or of the end
    asks for nothing.
    """
    status = answer.status
    if answer.ruling is Ruling.OURS:
        return wait_asked(answer.headers, "", now, too_fast=False)
    if status is None or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.GONE):
        return None
    if 200 <= status <= 299 and answer.ruling is None:
        return None
    too_fast = status in _TOO_FAST or (
        status == HTTPStatus.FORBIDDEN and limit_used_up(answer.headers)
    )
    headers = answer.headers
    if status == HTTPStatus.SERVICE_UNAVAILABLE and limit_left(headers):
        headers = without_limits(headers)  # told with every answer; this one is not about our pace
    return wait_asked(headers, answer.body, now, too_fast=too_fast)


def _spent(policy: Retry, attempt: int, age: timedelta) -> str | None:
    if policy.max_attempts is not None and attempt >= policy.max_attempts:
        return "attempts spent"
    return "age spent" if age >= policy.max_age else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
