"""`stats`: one document a feed and minute, incremented once per group of results.

    {_id: "<feed>|<minute>", feed, minute, logged, outcomes {<outcome>: n}, statuses {<status>: n},
     attempt_ms {<bucket>: n}, delivered_ms {<bucket>: n}}

Reports, metrics and charts read these, so they cost minutes, not deliveries. A worker killed between a result and its
count leaves the count short: exact figures come from the deliveries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from app.ledger.client import Collection, Database, Document, query
from app.models import Outcome, Result

_BUCKETS_A_DECADE = 20


def bucket_of(duration_ms: float) -> int:
    """The latency bucket of a duration in ms: bucket n holds what is over bound n-1 and at most bound n."""
    return max(0, math.ceil(_BUCKETS_A_DECADE * math.log10(max(duration_ms, 1))))


def bucket_bound(bucket: int) -> float:
    """The upper bound of a bucket in ms. Neighbours are 12 % apart, which bounds a percentile's error."""
    return float(10 ** (bucket / _BUCKETS_A_DECADE))


class Stats:
    """Every query on `stats`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["stats"]

    @query
    async def add_logged(self, feed: str, rows: int, now: datetime) -> None:
        """Count rows that were new in the ledger."""
        if rows:
            await self._add(feed, now, Counter({"logged": rows}))

    @query
    async def add_results(self, feed: str, results: Iterable[Result], now: datetime) -> None:
        """Count a group of attempts by outcome, status and latency."""
        await self._add(feed, now, _counts(results, now))

    @query
    async def add_outcomes(self, feed: str, outcome: Outcome, count: int, now: datetime) -> None:
        """Count attempts that have an outcome and nothing else on record."""
        if count:
            await self._add(feed, now, Counter({f"outcomes.{outcome.value}": count}))

    @query
    async def since(self, start: datetime) -> list[Document]:
        """The buckets of every feed from `start` on, oldest first."""
        return await self._collection.find({"minute": {"$gte": start}}).sort("minute", 1).to_list()

    async def _add(self, feed: str, now: datetime, counts: Counter[str]) -> None:
        minute = now.replace(second=0, microsecond=0)
        await self._collection.update_one(
            {"_id": f"{feed}|{minute:%Y-%m-%dT%H:%MZ}"},
            {"$inc": dict(counts), "$setOnInsert": {"feed": feed, "minute": minute}},
            upsert=True,
        )


def _counts(results: Iterable[Result], now: datetime) -> Counter[str]:
    counts: Counter[str] = Counter()
    for result in results:
        counts[f"outcomes.{result.verdict.outcome.value}"] += 1
        counts[f"statuses.{result.answer.status or 'none'}"] += 1
        counts[f"attempt_ms.{bucket_of(result.answer.duration_ms)}"] += 1
        if result.verdict.outcome is Outcome.DELIVERED:
            waited_ms = (now - result.delivery.owed_since).total_seconds() * 1000
            counts[f"delivered_ms.{bucket_of(waited_ms)}"] += 1
    return counts
