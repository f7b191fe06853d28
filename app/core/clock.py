"""The time of day, as a value that tests can replace; and as every process of ours has it: that of the ledger's server.

A lease, a retry or a retention is a moment that one process writes and another goes by. So all go by one clock. Each
process asks the ledger's server for the time every few seconds (`app.runtime.timekeeping`), and in between counts on by
a clock that never goes back. What its machine takes for the time of day then matters to nobody: not when it is set, not
when it is wrong. See docs/decisions/0040-one-clock.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]
"""Gives the current time, with its zone."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Before any moment in the ledger: a query says "after that" to be served by an index of what has a moment."""

APART = timedelta(seconds=1)
"""A machine whose clock differs by more from the ledger server's is told of."""

AGREED = timedelta(minutes=1)
"""No two of our processes are ever so far apart. A moment that something was done at, and that is further ahead of now,
was written under a clock that was wrong: whatever it put off is due."""

LEASE_LIMIT = timedelta(minutes=10)
"""The longest that the setting `LEASE` may be: one that runs for longer is known to be none."""

_DRIFT = 200e-6
"""How fast a machine's steady clock may run away from another's, in seconds a second."""
_TICK_SECONDS = 0.001
"""A server tells its time in whole milliseconds."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an answer of the server's said. In seconds."""

    ahead: float
    """Server's time of day (seconds since 1970) less our steady clock's."""
    within: float
    """How wrong that may be: half of the time that the answer took."""
    at: float
    """When it was asked, by our steady clock."""


class ServerClock:
    """The ledger server's time of day, in one process. Until the server has been asked it is the machine's own.

    May be used from any thread.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        """`wall`: the machine's time of day, in seconds since 1970; `steady`: seconds of a clock that is never set."""
        self._wall = wall
        self._steady = steady
        self._reading: _Reading | None = None
        self.steps_back = 0
        """How often the server's clock was found to have gone back by more than `AGREED`."""

    def __call__(self) -> datetime:
        """The current time in UTC."""
        reading = self._reading
        return datetime.fromtimestamp(self._wall() if reading is None else self._steady() + reading.ahead, UTC)

    def machine(self) -> datetime:
        """What the machine takes for the time of day: to compare with others', never to decide by."""
        return datetime.fromtimestamp(self._wall(), UTC)

    def steady(self) -> float:
        """For `note`: when the server is asked, and when it answered."""
        return self._steady()

    def note(self, theirs: datetime, asked: float, answered: float) -> float:
        """Take in what the server said its time is. Returns by how many seconds its clock was set meanwhile; else 0.

        Of two answers that may both be right the more exact one counts: one that took long teaches little.
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
        """By how many seconds the machine's clock is ahead of the server's; `None`: the server was not asked yet."""
        reading = self._reading
        return None if reading is None else self._wall() - (self._steady() + reading.ahead)


server_clock = ServerClock()
"""This process's."""


def utc_now() -> datetime:
    """The current time in UTC, by the ledger server's clock."""
    return server_clock()


_started_at, _started_steady = datetime.now(UTC), time.monotonic()


def steady_now() -> datetime:
    """A time of day that nobody sets: the machine's when the process started, and what has passed since.

    For what is due again and again, whatever the time of day is.
    """
    return _started_at + timedelta(seconds=time.monotonic() - _started_steady)


def machine_now() -> datetime:
    """What this machine takes for the time of day: see `ServerClock.machine`."""
    return server_clock.machine()


def rough(span: timedelta) -> str:
    """A span to one unit: `12 s`, `3 min`, `5 h`, `2 d`; one below 0 as `0 s`."""
    seconds = max(0.0, span.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def said_of_clock(seconds: float | None) -> str | None:
    """What to say of a machine whose clock is that far ahead of the ledger server's; `None`: nothing, it agrees."""
    if seconds is None or abs(seconds) <= APART.total_seconds():
        return None
    way = "ahead of" if seconds > 0 else "behind"
    return f"its machine's clock is {abs(seconds):.0f} s {way} the ledger server's: run NTP on both"
