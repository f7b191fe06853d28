"""`counted`: one document a feed: how many of its deliveries are settled, by the day on which they
were.

    {_id: feed, version, through, days {<date>: {<state>: n}}, stale {<date>: moment}}

Counting ten million entries of an index takes seconds, a billion minutes, and what was settled on a
day that is over hardly changes. So days are counted once, from the index `settled`, at each
question and by each purge, up to a moment shortly before now; what has been settled since is
counted each time. Each change is a compare-and-set on `version`.

Only an operator changes the counts of a past day: by a replay, a long cancel, or a restore. Before
the deliveries move, their days are marked as stale until a moment by which they have moved, even if
the process dies. A stale day is counted again at each question, the last time after that moment.

Days that purge has deleted are left out. What was put back of them from an archive is counted each
time, from the index `restored`. All this is *about* right: it misses a success of what was
cancelled long before, and a clock that is wrong by more than `LEFT_OPEN`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pymongo.errors import DuplicateKeyError

from app.core.clock import LONG_AGO
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.indexes import in_state, restored

DONE_STATES = (State.DELIVERED, State.CANCELLED, State.SKIPPED)
"""Their number grows with the ledger. A delivery in one of these is not touched again but by an
operator.
"""
LEFT_OPEN = timedelta(minutes=15)
"""How long a stretch is left to be counted each time: a worker may record what it settled by a
clock that is late. And how long an operator's move of some deliveries takes at most."""
FOLD_EVERY = timedelta(hours=1)
"""The shortest stretch that is counted once, so that at most this and `LEFT_OPEN` are counted each
time.
"""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Counted:
    """What is kept of a feed."""

    through: datetime | None = None
    """What was settled before this is counted; `None`: nothing was counted yet."""
    days: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    stale: Mapping[str, datetime] = field(default_factory=dict)
    """Days to count again, each until when."""
    version: int | None = None

    def since(self, purged_before: datetime | None) -> Counter[State]:
        """What was settled on days that purge has not deleted."""
        first = f"{purged_before:%Y-%m-%d}" if purged_before else ""
        counts: Counter[State] = Counter()
        for day, states in self.days.items():
            if day >= first:
                counts.update({State(name): count for name, count in states.items()})
        return counts


class Counts:
    """Every query that counts settled deliveries."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["counted"]
        self._deliveries: Collection = database["deliveries"]
        self._purges: Collection = database["purges"]

    async def exactly(self, feed: str) -> Counter[State]:
        """Count all of the feed's, from the index: about a second for a million."""
        return await self._settled(feed, {})

    async def about(self, feed: str, now: datetime) -> Counter[State]:
        """What is kept, and what has been settled since. The first time for a feed, all is counted,
        day by day.
        """
        await self.remember(feed, now)
        kept, purged_before = await self._get(feed)
        if kept.through is None:
            return await self.exactly(feed)
        counts = kept.since(purged_before) + await self._settled(feed, {"$gte": kept.through})
        return counts + await self._restored(feed, purged_before) if purged_before else counts

    async def recount(self, feed: str, now: datetime) -> Counter[State]:
        """Forget what is kept, and count all of it anew, a day at a time."""
        await self._forget(feed)
        return await self.about(feed, now)

    async def remember(self, feed: str, now: datetime) -> None:
        """Count what has been settled up to shortly before now, and again the days that have
        changed.
        """
        while await self.fold(feed, now):
            pass
        kept, purged_before = await self._get(feed)
        for day in sorted(kept.stale):
            await self._count_again(feed, day, now, purged_before)

    @query
    async def mark(self, feed: str, moments: Iterable[datetime], now: datetime) -> None:
        """Have the days of these moments counted again: deliveries settled then are about to move,
        or to come back.
        """
        stale = {f"stale.{moment.astimezone(UTC):%Y-%m-%d}": now + LEFT_OPEN for moment in moments}
        if stale:
            await self._collection.update_one({"_id": feed}, {"$max": stale}, upsert=True)

    async def fold(self, feed: str, now: datetime) -> bool:
        """Count the next stretch that is over, at most a day, and keep that. Returns whether there
        was one.
        """
        kept, purged_before = await self._get(feed)
        upto = now - LEFT_OPEN
        if kept.through and upto - kept.through < FOLD_EVERY:
            return False
        begin = await self._first(feed, kept.through, upto)
        if begin is None:
            return False
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        end = min(midnight, upto)
        counts = await self._settled(feed, {"$gte": begin, "$lt": end})
        await self._keep(feed, kept, _added(kept, f"{begin:%Y-%m-%d}", counts, purged_before), end)
        return True

    @query
    async def _get(self, feed: str) -> tuple[Counted, datetime | None]:
        """What is kept of the feed, and before which midnight purge has deleted."""
        document = await self._collection.find_one({"_id": feed}) or {}
        purge = await self._purges.find_one({"_id": feed}, {"purged_before": 1}) or {}
        found = Counted(
            document.get("through"),
            document.get("days", {}),
            document.get("stale", {}),
            document.get("version"),
        )
        return found, purge.get("purged_before")

    async def _keep(self, feed: str, before: Counted, days: Document, through: datetime) -> None:
        """Keep these days in place of those before; a no-op where another process was faster."""
        await self._change(feed, before, {"$set": {"through": through, "days": days}})

    async def _count_again(
        self, feed: str, day: str, now: datetime, purged_before: datetime | None
    ) -> None:
        """Count a stale day again, as far as it is kept; a no-op where another process was faster."""
        kept, _ = await self._get(feed)
        until = kept.stale.get(day)
        if until is None:
            return
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
        change: Document = {"$unset": {f"stale.{day}": ""}} if until <= now else {}
        if kept.through and begin < kept.through and not (purged_before and begin < purged_before):
            counts = await self._settled(
                feed, {"$gte": begin, "$lt": min(begin + _DAY, kept.through)}
            )
            change["$set"] = {
                f"days.{day}": {state.value: count for state, count in counts.items()}
            }
        if change:
            await self._change(feed, kept, change, {f"stale.{day}": until})

    @query
    async def _change(
        self, feed: str, before: Counted, change: Document, also: Document | None = None
    ) -> None:
        """Change what is kept, where it still is as it was before, and these fields `also` are as
        given.
        """
        wanted = {"_id": feed, "version": before.version} | (also or {})
        numbered = change.get("$set", {}) | {"version": (before.version or 0) + 1}
        try:
            await self._collection.update_one(
                wanted, change | {"$set": numbered}, upsert=before.version is None
            )
        except DuplicateKeyError:
            return

    @query
    async def _forget(self, feed: str) -> None:
        """Forget the days, and what is being counted of them meanwhile."""
        forgotten = {"$unset": {"through": "", "days": ""}, "$inc": {"version": 1}}
        await self._collection.update_one({"_id": feed}, forgotten)

    @query
    async def _first(self, feed: str, after: datetime | None, before: datetime) -> datetime | None:
        """The first moment of the stretch at which anything was settled; `None`: at none."""
        span = {"$lt": before} | ({"$gte": after} if after else {"$gt": LONG_AGO})
        moments: list[datetime] = []
        for state in DONE_STATES:
            found = self._deliveries.find(in_state(state, feed, span), {"finished_at": 1}).sort(
                "finished_at", 1
            )
            moments += [
                document["finished_at"].astimezone(UTC)
                for document in await found.limit(1).to_list()
            ]
        return min(moments, default=None)

    @query
    async def _restored(self, feed: str, before: datetime) -> Counter[State]:
        """How many that were settled before then are back from an archive, from their index alone."""
        counts: Counter[State] = Counter()
        for state in DONE_STATES:
            counts[state] = await self._deliveries.count_documents(
                restored(feed, state, {"$lt": before})
            )
        return counts

    @query
    async def _settled(self, feed: str, span: Document) -> Counter[State]:
        """How many were settled in a time range, from the index alone."""
        counts: Counter[State] = Counter()
        for state in DONE_STATES:
            counts[state] = await self._deliveries.count_documents(in_state(state, feed, span))
        return counts


def _added(
    kept: Counted, day: str, counts: Counter[State], purged_before: datetime | None
) -> Document:
    """The days with more counted of one of them, without those that purge has deleted."""
    first = f"{purged_before:%Y-%m-%d}" if purged_before else ""
    days = {name: dict(states) for name, states in kept.days.items() if name >= first}
    of_day = days.setdefault(day, {})
    for state, count in counts.items():
        of_day[state.value] = of_day.get(state.value, 0) + count
    return days
