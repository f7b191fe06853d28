"""Until when an endpoint is left alone, as one process sees it.

A **hold** is what the partner asked for (Retry-After), and is told to the others. We also send
nothing while its circuit breaker is open, or while this process lacks what it needs to send.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from app.core.clock import Clock

JITTER_SECONDS = 0.25
"""The processes start again up to this much apart after a hold."""

_FIRST_EASE_SECONDS, _LONGEST_EASE_SECONDS = 1.0, 30.0


class Cooldown:
    """Moments by `now`, the time of day; what passes between two of its own events by `steady`, in
    seconds.
    """

    def __init__(self, now: Clock, steady: Callable[[], float], draw: Callable[[], float]) -> None:
        """`draw` gives a random number in [0, 1) for the jitter."""
        self._now = now
        self._steady = steady
        self._draw = draw
        self.held_until: datetime | None = None
        """What the partner asked for last."""
        self.quiet_until: datetime | None = None
        """Nothing is sent before then; `None`: nothing speaks against it."""
        self._ease = 0.0
        self._eased_until = -1.0

    def seconds(self) -> float:
        """Until the endpoint may be asked again; 0: now."""
        if self.quiet_until is None:
            return 0.0
        remaining = (self.quiet_until - self._now()).total_seconds()
        if remaining > 0:
            return remaining
        self.quiet_until = None
        return 0.0

    def held_seconds(self) -> float:
        """What remains of the hold."""
        return self.left(self.held_until)

    def left(self, moment: datetime | None) -> float:
        """Seconds until that moment; 0: it is past."""
        return 0.0 if moment is None else max(0.0, (moment - self._now()).total_seconds())

    def moment_in(self, seconds: float) -> datetime:
        """That many seconds from now."""
        return self._now() + timedelta(seconds=seconds)

    def hold(self, until: datetime) -> bool:
        """The partner wants no request before then. Whether that is news: a longer hold than the
        one known.
        """
        if self.held_until is not None and until <= self.held_until:
            return False
        self.held_until = until
        self.be_quiet(until + timedelta(seconds=JITTER_SECONDS * self._draw()))
        return True

    def be_quiet(self, until: datetime) -> None:
        """Send nothing before then."""
        if self.quiet_until is None or until > self.quiet_until:
            self.quiet_until = until

    def ease(self) -> None:
        """A local resource is missing: send nothing for a moment, longer each time."""
        now = self._steady()
        if now <= self._eased_until:
            return
        again = now < self._eased_until + 2 * self._ease
        self._ease = min(2 * self._ease, _LONGEST_EASE_SECONDS) if again else _FIRST_EASE_SECONDS
        self._eased_until = now + self._ease
        self.be_quiet(self.moment_in(self._ease))

    def only_hold(self) -> None:
        """Be quiet for nothing but what the partner asked for."""
        self.quiet_until = self.held_until

    def forget(self) -> None:
        """Forget moments that were noted before the clock went back. Redis keeps them by a clock of
        its own.
        """
        self.held_until = self.quiet_until = None
