"""Events: what people are notified of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Event(StrEnum):
    """The kinds of event."""

    FEED_PAUSED = "feed-paused"
    FEED_NOT_READ = "feed-not-read"
    """Its polls fail, or it is not polled."""
    BREAKER_OPEN = "breaker-open"
    DEAD_LETTERS = "dead-letters"
    """More than `NOTIFY_DEAD` of a feed are not acknowledged."""
    OLDEST_OPEN = "oldest-open"
    """It has waited for longer than `NOTIFY_OLDEST`."""
    CERTIFICATE_MISSING = "certificate-missing"
    CERTIFICATE_DIFFERS = "certificate-differs"
    NO_PROGRESS = "no-progress"
    """A worker or beat is stuck."""
    REDIS_AWAY = "redis-away"
    NONE_RUNS = "none-runs"
    """No worker, or no beat, is running."""


@dataclass(frozen=True, slots=True)
class Found:
    """An event that is on now."""

    event: Event
    subject: str
    """A feed's name, a process's, or `worker`, `beat` or `redis`."""
    said: str
    """Why, on one line; it holds no value of a row and no secret."""

    @property
    def id(self) -> str:
        """The same for as long as the event is on."""
        return f"{self.event}|{self.subject}"
