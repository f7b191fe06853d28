"""How fast a feed's rows come and go: the last minute of the statistics, what follows from it, and
what failed last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.attempts import Outcome
from app.ledger import Ledger
from app.ledger.client import Document

LOOKED_BACK = timedelta(minutes=15)
"""How old the last failure may be to be told: a breaker that is open lets a probe through far more
often.
"""

_MINUTE = timedelta(minutes=1)
_AT_ONCE = timedelta(seconds=10)
"""A backlog that the present pace clears within this is what is on its way, and no backlog."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What attempts failed of."""

    minute: datetime
    """The minute that they were counted in."""
    text: str
    count: int
    """Attempts that failed of it in that minute."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows a second, over the last 60 seconds."""

    logged: float = 0.0
    """That came: new in the ledger, and owed."""
    delivered: float = 0.0
    settled: float = 0.0
    """That are owed no more: delivered or dead."""
    failure: Failure | None = None
    """The last, within `LOOKED_BACK`; of several kinds in a minute the most frequent."""

    def done_in(self, waiting: int, unlogged: int) -> timedelta | None:
        """How long until all `waiting` rows are settled at this pace, and the `unlogged` that wait
        in the source.

        0 where none waits; `None`: never, as it stands. While rows wait in the source nobody knows
        how fast they come there, so the time is the shortest that it can be.
        """
        rows = waiting + unlogged
        if not rows:
            return timedelta()
        if not self.settled:
            return None
        at_this_pace = timedelta(seconds=rows / self.settled)
        if at_this_pace <= _AT_ONCE or unlogged:
            return at_this_pace
        pace = self.settled - self.logged
        return timedelta(seconds=rows / pace) if pace > 0 else None


async def read_flow(ledger: Ledger, feed: str, now: datetime) -> Flow:
    """The feed's flow now. Reads a document a minute of `LOOKED_BACK`. Raises the ledger's errors."""
    return flow_of(await ledger.stats.between(feed, now - LOOKED_BACK, now + _MINUTE), now)


def flow_of(minutes: Sequence[Document], now: datetime) -> Flow:
    """The flow by the statistics' documents, oldest first: of the minute before this one as much as
    lies within the last 60 seconds, as if its rows had come evenly."""
    this_minute = now.replace(second=0, microsecond=0)
    before = 1 - (now - this_minute) / _MINUTE
    logged = delivered = dead = 0.0
    for minute in minutes:
        part = {this_minute: 1.0, this_minute - _MINUTE: before}.get(minute["minute"], 0.0)
        outcomes = minute.get("outcomes", {})
        logged += part * minute.get("logged", 0)
        delivered += part * outcomes.get(Outcome.DELIVERED.value, 0)
        dead += part * outcomes.get(Outcome.DEAD.value, 0)
    seconds = _MINUTE.total_seconds()
    failures = [failure for minute in minutes if (failure := _failure(minute)) is not None]
    return Flow(
        logged / seconds,
        delivered / seconds,
        (delivered + dead) / seconds,
        failures[-1] if failures else None,
    )


def _failure(minute: Document) -> Failure | None:
    found = [
        (kind["n"], kind["text"]) for kind in minute.get("failed", {}).values() if kind.get("n")
    ]
    if not found:
        return None
    count, text = max(found)
    return Failure(minute["minute"], text, count)
