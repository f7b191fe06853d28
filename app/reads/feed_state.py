"""The one word for how a feed stands: what keeps its rows most, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.cursors import Cursor
from app.partner.throttle.view import BreakerState, EndpointView


class Stand(StrEnum):
    """How a feed stands; what is named first is said first."""

    NOT_CONFIGURED = "not configured"
    """feeds.toml does not name it: nobody polls or sends it."""
    PAUSED = "paused"
    """By an operator, or by what was found: neither polled nor sent."""
    POLLING_PAUSED = "polling paused"
    """What is logged is sent."""
    SENDING_PAUSED = "sending paused"
    """Rows are read and logged, and wait."""
    NO_WORKER = "no worker"
    """None was heard of lately: nothing is polled or sent."""
    BREAKER_OPEN = "breaker open"
    """Nothing is sent: too many of the last requests failed."""
    COOLDOWN = "cooldown"
    """Nothing is sent: the partner asked for it (Retry-After)."""
    POLLS_FAIL = "polls fail"
    """The source does not answer; what is logged is sent."""
    NOT_POLLED = "not polled"
    """No poll for longer than the feed's schedule and `PROGRESS_BOUND` allow."""
    PROBING = "breaker probing"
    """The breaker is half open: a few probes are sent."""
    SENDING = "sending"
    IDLE = "idle"
    """Polled, and nothing is on its way."""


@dataclass(frozen=True, slots=True)
class FeedState:
    """How one feed stands now."""

    stand: Stand
    until: datetime | None = None
    """When that ends by itself: the breaker lets probes through, the cooldown is over, the source
    is asked again.
    """


def state_of(
    cursor: Cursor,
    endpoint: EndpointView | None,
    now: datetime,
    *,
    workers: bool,
    polled: bool,
    moving: bool,
) -> FeedState:
    """How a configured feed stands.

    `endpoint`: `None` where Redis does not tell. `workers`: any was heard of lately. `polled`: as
    often as it must be. `moving`: rows are on their way, or were in the last minute.
    """
    if stopped := _paused(cursor) or (None if workers else Stand.NO_WORKER):
        return FeedState(stopped)
    if (held := _held(endpoint, now)) is not None:
        return held
    if cursor.failures:
        return FeedState(
            Stand.POLLS_FAIL, cursor.retry_at if cursor.retry_at and cursor.retry_at > now else None
        )
    if not polled:
        return FeedState(Stand.NOT_POLLED)
    if endpoint is not None and endpoint.breaker is BreakerState.HALF_OPEN:
        return FeedState(Stand.PROBING)
    return FeedState(Stand.SENDING if moving else Stand.IDLE)


def _paused(cursor: Cursor) -> Stand | None:
    if cursor.paused:
        return Stand.POLLING_PAUSED if cursor.sends else Stand.PAUSED
    return None if cursor.sends else Stand.SENDING_PAUSED


def _held(endpoint: EndpointView | None, now: datetime) -> FeedState | None:
    """What keeps every request of the feed back; of breaker and cooldown what ends later."""
    if endpoint is None or not max(endpoint.open_seconds, endpoint.hold_seconds):
        return None
    stand = Stand.BREAKER_OPEN if endpoint.open_seconds >= endpoint.hold_seconds else Stand.COOLDOWN
    return FeedState(
        stand, now + timedelta(seconds=max(endpoint.open_seconds, endpoint.hold_seconds))
    )
