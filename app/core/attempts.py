"""One HTTP request made for a delivery: its answer, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.deliveries import Delivery
from app.core.record import record


class Outcome(StrEnum):
    """What came of one attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """The request may have been processed; its answer was lost, on the way or with the worker."""


class Ruling(StrEnum):
    """What an answer means, before attempts and age are considered."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    """Likely to pass: the same request may succeed later."""
    OURS = "ours"
    """Nothing was sent, for want of something of our own: file descriptors, a network, names, an
    access token. No fault of the row, nor of the partner: it costs no attempt."""
    LOST = "lost"
    """No answer, and the request may have been processed."""
    DENIED = "denied"
    """Our credentials are refused."""
    GONE = "gone"
    """The endpoint is no more."""
    REFUSED = "refused"
    """This row will never be accepted."""
    UNDER_WAY = "under_way"
    """The answer speaks of an earlier request for the row: it is being worked at, or was taken."""


RESPONSE_LIMIT = 2048
"""Bytes of a response kept with an attempt."""


HOLD_LIMIT = timedelta(days=1)
"""The longest that a partner's wait (Retry-After) is believed. One that means more says so again at
the next attempt.
"""


@record
class Answer:
    """What one HTTP request came to: a status, or an error in its place."""

    at: datetime
    """When the request was started."""
    duration_ms: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    """The start of the response's body: at most `RESPONSE_LIMIT` bytes."""
    error: str | None = None
    """Without a status, or with one that was not enough: the kind of failure and its text, on one
    line.
    """
    ruling: Ruling | None = None
    """What the client knows that the status does not say; `None` where the status says it all."""
    note: str | None = None
    """What else happened in the attempt: a status URL that answered in its place, a token that was
    renewed.
    """

    @property
    def made(self) -> bool:
        """Whether there was an attempt: a request to the partner. None was made for want of
        something of our own, of a row that no request can be made of, nor where the token endpoint
        refuses our credentials.
        """
        return self.status is not None or self.ruling not in (
            Ruling.OURS,
            Ruling.REFUSED,
            Ruling.DENIED,
        )


@record
class Verdict:
    """What happens next with a delivery, decided from one answer."""

    outcome: Outcome
    reason: str
    """One line: `200`, `503 Service Unavailable`, `ConnectError: …`, `attempts spent: 500 …`."""
    next_attempt_at: datetime | None = None
    """Set exactly when the outcome is `RETRY` or `UNKNOWN`."""
    hold_until: datetime | None = None
    """The partner asked for quiet until then (Retry-After): it holds for the whole endpoint."""
    pause_reason: str | None = None
    """Set when the answer speaks of the endpoint, not of this row: the feed is paused."""
    in_doubt: bool = False
    """See `Delivery.in_doubt`: an attempt may have reached the partner, and this answer does not
    tell.
    """


@record
class Result:
    """One attempt made and judged: what the ledger records."""

    delivery: Delivery
    answer: Answer
    verdict: Verdict
