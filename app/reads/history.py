"""What came of a feed over time: its statistics, added up by steps of equal length."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.clock import LONG_AGO
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.counters import FOLD_AFTER
from app.reports.record import Counts, Latency
from app.reports.sums import percentiles, summed

KEPT_STEPS = 20_000
"""Steps that are over, and remembered: about 1 KB each."""
_AT_ONCE = timedelta(hours=6)
"""Minutes read together: 360 documents, so that nothing else on the event loop waits for long."""
_UNUSED = ("failed", "answers", "revived", "breaker", "gauge")


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of time."""

    at: datetime
    """Its beginning."""
    counts: Counts
    """Its dead are those who died then, also where they were replayed since."""
    delivered_ms: Latency
    """From when a row was logged, or last replayed, until it was delivered."""
    attempt_ms: Latency


class Histories:
    """Reads histories, and remembers the steps that are over: most of what is asked again and again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: OrderedDict[tuple[str, timedelta, datetime], Step] = OrderedDict()

    async def read(self, feed: str, now: datetime, step: timedelta, count: int) -> list[Step]:
        """The last `count` steps, oldest first; the last one is still running.

        `step`: whole minutes; they begin where a multiple of it has passed since 1970. Raises the
        ledger's errors.
        """
        last = now - (now - LONG_AGO) % step
        starts = [last - step * back for back in reversed(range(count))]
        known = {at: one for at in starts if (one := self._known(feed, step, at))}
        missing = [at for at in starts if at not in known]
        minutes = await self._minutes(feed, missing[0], last + step) if missing else []
        for at, those in _by_step(minutes, missing, step).items():
            known[at] = _step_of(at, those)
            if at + step <= now - FOLD_AFTER:
                self._keep(feed, step, known[at])
        return [known[at] for at in starts]

    def _known(self, feed: str, step: timedelta, at: datetime) -> Step | None:
        found = self._kept.get((feed, step, at))
        if found:
            self._kept.move_to_end((feed, step, at))
        return found

    def _keep(self, feed: str, step: timedelta, one: Step) -> None:
        self._kept[(feed, step, one.at)] = one
        while len(self._kept) > KEPT_STEPS:
            self._kept.popitem(last=False)

    async def _minutes(self, feed: str, start: datetime, end: datetime) -> list[Document]:
        found: list[Document] = []
        while start < end:
            upto = min(start + _AT_ONCE, end)
            found += await self._ledger.stats.between(feed, start, upto, without=_UNUSED)
            await asyncio.sleep(0)
            start = upto
        return found


def _by_step(
    minutes: Sequence[Document], starts: Sequence[datetime], step: timedelta
) -> dict[datetime, list[Document]]:
    found: dict[datetime, list[Document]] = {at: [] for at in starts}
    for minute in minutes:
        at = minute["minute"]
        start = at - (at - LONG_AGO) % step
        if start in found:
            found[start].append(minute)
    return found


def _step_of(at: datetime, minutes: Sequence[Document]) -> Step:
    total = summed(minutes)
    return Step(at, total.counts(), percentiles(total.delivered_ms), percentiles(total.attempt_ms))
