"""`totals`: one document a feed: what its minutes in `stats` come to, up to a moment, so that they
may be purged.

    {_id: feed, through, counts {<path>: n}}

A metric's counter must never go back, while `stats` keeps a minute only for as long as retention
says. So past minutes are added up here, once, at a question: the move of `through` is a
compare-and-set. What a worker counts into a minute more than `FOLD_AFTER` late is in the reports,
and not in these sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pymongo.errors import DuplicateKeyError

from app.ledger.client import Collection, Database, Document, query
from app.ledger.ids import ids_under
from app.ledger.stats import Stats

FOLD_AFTER = timedelta(minutes=15)
"""How long a minute is left open for late counts."""
FOLD_EVERY = timedelta(minutes=15)
"""Sums are written this often at most; in between the open minutes are read each time: 30 documents
a feed at most.
"""
_STRETCH = timedelta(days=1)
_PLAIN = ("read", "logged", "skipped", "unreadable", "attempt_ms_sum", "delivered_ms_sum")
_NESTED = ("outcomes", "answers", "attempt_ms", "delivered_ms")
_OTHER = {"breaker": ("opened",)}
_SEPARATOR = "/"
"""Between the parts of a path: MongoDB takes a dot for a path of its own."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Everything counted of a feed, ever. Paths are as `outcomes/delivered`, `answers/retry_503`,
    `attempt_ms/40`.
    """

    through: datetime | None = None
    """Minutes before this are in; `None`: no minute has been added up."""
    counts: Counter[str] = field(default_factory=Counter)

    def under(self, name: str) -> dict[str, int]:
        """What is counted below a name: its last part → how many."""
        prefix = name + _SEPARATOR
        return {
            path.removeprefix(prefix): n
            for path, n in self.counts.items()
            if path.startswith(prefix)
        }


class Counters:
    """Every query on `totals`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["totals"]
        self._minutes: Collection = database["stats"]
        self._stats = Stats(database)

    async def of(self, feed: str, now: datetime) -> Sums:
        """Everything counted of the feed until now. Adds up minutes that are over, where that is
        due.
        """
        sums = await self._get(feed)
        begun = sums.through or await self._first_minute(feed)
        if begun is None:
            return sums
        upto = (now - FOLD_AFTER).replace(second=0, microsecond=0)
        while upto - begun > FOLD_EVERY:
            end = min(begun + _STRETCH, upto)
            sums = await self._fold(feed, sums, await self._summed(feed, begun, end), end)
            begun = sums.through or end
        return Sums(
            sums.through, sums.counts + await self._summed(feed, begun, now + timedelta(days=1))
        )

    async def _summed(self, feed: str, start: datetime, end: datetime) -> Counter[str]:
        counts: Counter[str] = Counter()
        for document in await self._stats.between(feed, start, end):
            for path, count in _paths(document):
                counts[path] += count
        return counts

    async def _fold(self, feed: str, sums: Sums, more: Counter[str], through: datetime) -> Sums:
        """Add counts to the sums; where another process was faster, return its sums."""
        folded = Sums(through, sums.counts + more)
        return folded if await self._put(feed, sums.through, folded) else await self._get(feed)

    @query
    async def _get(self, feed: str) -> Sums:
        document = await self._collection.find_one({"_id": feed})
        return Sums(document["through"], Counter(document["counts"])) if document else Sums()

    @query
    async def _put(self, feed: str, before: datetime | None, sums: Sums) -> bool:
        document = {"through": sums.through, "counts": dict(sums.counts)}
        if before is not None:
            result = await self._collection.update_one(
                {"_id": feed, "through": before}, {"$set": document}
            )
            return bool(result.matched_count)
        try:
            await self._collection.insert_one({"_id": feed, **document})
        except DuplicateKeyError:
            return False
        return True

    @query
    async def _first_minute(self, feed: str) -> datetime | None:
        """The feed's oldest minute, by the index of `_id`."""
        found = (
            await self._minutes.find({"_id": ids_under(f"{feed}|")}, {"minute": 1})
            .sort("_id", 1)
            .limit(1)
            .to_list()
        )
        return found[0]["minute"].astimezone(UTC) if found else None


def _paths(document: Document) -> Iterator[tuple[str, int]]:
    """What a minute counts, as (path, how many)."""
    for name in _PLAIN:
        if name in document:
            yield name, document[name]
    for name in _NESTED:
        yield from _below(name, document.get(name, {}))
    for name, wanted in _OTHER.items():
        found = document.get(name, {})
        yield from _below(name, {part: found[part] for part in wanted if part in found})


def _below(name: str, counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for part, count in counts.items():
        yield f"{name}{_SEPARATOR}{part}", count
