"""The time: the ledger server's, which every process goes by, as a value that tests can replace.

The ends of leases, retries and retention are written by one process and read by another, so all use
one clock. Each process asks the ledger's server for the time every few seconds
(`app.runtime.timekeeping`), and counts on by its monotonic clock in between. Its machine's own time
of day then does not matter, whether it is set or wrong. See docs/decisions/0040-one-clock.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]
"""Returns the current time, with its zone."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Before any moment in the ledger: a query says "after that" to be served by an index of what has a
moment.
"""

APART = timedelta(seconds=1)
"""A machine whose clock differs by more from the ledger server's is reported."""

AGREED = timedelta(minutes=1)
"""Our processes never differ by this much. A past event dated further into the future than this was
written by a wrong clock: whatever it put off is due."""

LEASE_LIMIT = timedelta(minutes=10)
"""The longest value of the setting `LEASE`: a lease that runs for longer cannot be valid."""

_DRIFT = 200e-6
"""How fast a machine's monotonic clock may drift from another's, in seconds a second."""
_TICK_SECONDS = 0.001
"""A server tells its time in whole milliseconds."""


def whole_ms(moment: datetime) -> datetime:
    """The moment as the ledger keeps it: in whole milliseconds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one answer of the server's shows, in seconds."""

    ahead: float
    """The server's time of day (seconds since 1970) minus our monotonic clock."""
    within: float
    """How wrong that may be: half of the round trip."""
    at: float
    """When it was asked, by our monotonic clock."""


class ServerClock:
    """The ledger server's time of day, in one process. Until the server has been asked it is the
    machine's own.

    May be used from any thread.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """`wall`: the machine's time of day, in seconds since 1970; `steady`: seconds of a clock
        that is never set.
        """
        self._wall = wall
        self._steady = steady
        self._reading: _Reading | None = None
        self.steps_back = 0
        """How often the server's clock was found to have gone back by more than `AGREED`."""

    def __call__(self) -> datetime:
        """The current time in UTC."""
        reading = self._reading
        return datetime.fromtimestamp(
            self._wall() if reading is None else self._steady() + reading.ahead, UTC
        )

    def machine(self) -> datetime:
        """The machine's own time of day: to compare with others', never to decide by."""
        return datetime.fromtimestamp(self._wall(), UTC)

    def steady(self) -> float:
        """The monotonic clock, for the moments that `note` takes."""
        return self._steady()

    def note(self, theirs: datetime, asked: float, answered: float) -> float:
        """Take in the time that the server reported. Returns by how many seconds its clock was set
        meanwhile; 0: it was not.

        Of two answers that agree the more exact one counts: a slow answer says little.
        """
        earliest, latest = theirs.timestamp() - answered, theirs.timestamp() + _TICK_SECONDS - asked
        found = _Reading((earliest + latest) / 2, (latest - earliest) / 2, asked)
        before = self._reading
        if before is None:
            self._reading = found
            return 0.0
        known_within = before.within + _DRIFT * max(0.0, asked - before.at)
        step = found.ahead - before.ahead
        if abs(step) <= found.within + known_within:
            if found.within <= known_within:
                self._reading = found
            return 0.0
        self._reading = found
        self.steps_back += step < -AGREED.total_seconds()
        return step

    @property
    def machine_ahead(self) -> float | None:
        """By how many seconds the machine's clock is ahead of the server's; `None`: the server was
        not asked yet.
        """
        reading = self._reading
        return None if reading is None else self._wall() - (self._steady() + reading.ahead)


server_clock = ServerClock()
"""This process's."""


def utc_now() -> datetime:
    """The current time in UTC, by the ledger server's clock."""
    return server_clock()


_started_at, _started_steady = datetime.now(UTC), time.monotonic()


def steady_now() -> datetime:
    """A time of day that never jumps: the machine's when the process started, plus what has passed
    since.

    For schedules that only need intervals.
    """
    return _started_at + timedelta(seconds=time.monotonic() - _started_steady)


def machine_now() -> datetime:
    """This machine's own time of day: see `ServerClock.machine`."""
    return server_clock.machine()


def rough(duration: timedelta) -> str:
    """A duration in one unit: `12 s`, `3 min`, `5 h`, `2 d`; a negative one as `0 s`."""
    seconds = max(0.0, duration.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def said_of_clock(seconds: float | None) -> str | None:
    """What to say about a machine whose clock is that far ahead of the ledger server's; `None`:
    they agree.
    """
    if seconds is None or abs(seconds) <= APART.total_seconds():
        return None
    way = "ahead of" if seconds > 0 else "behind"
    return f"its machine's clock is {abs(seconds):.0f} s {way} the ledger server's: run NTP on both"
