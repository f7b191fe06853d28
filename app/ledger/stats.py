"""`stats`: one document a feed and minute, incremented once per group of results.

    {_id: "<feed>|<minute>", feed, minute, read, logged, skipped, unreadable, unsendable, outcomes {<outcome>: n},
     statuses {<status>: n}, answers {<outcome>_<status>: n}, first {made, delivered}, retries,
     failed {<slug>: {text, n, id, dead, dead_id}}, attempt_ms {<bucket>: n}, attempt_ms_sum,
     delivered_ms {<bucket>: n}, delivered_ms_sum, breaker {opened, ms}, gauge {at, open,
     oldest_open_at, paused}, revived {<minute of death>: {<slug>: n}}}

Reports, metrics and charts read these, so they cost minutes, not deliveries. A worker killed
between a result and its count leaves the count short: exact figures come from the deliveries.

`unsendable` are dead letters of which no request could be made: no attempt, so in no other figure.
`revived` are dead letters that were put back in this minute, by the minute in which they had died
and why: a report of that time leaves them out of its dead. What died more than `DEATHS_TOLD` before
is in no report of the present, and not counted here.

`failed` holds reasons as `app.ledger.reasons` makes them alike, each with the id of a delivery that
met it, and of one that died of it. At most `REASONS_A_MINUTE` are told apart and the rest is
`other`; workers that meet their first failures of a minute at the same moment may each add as many.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pymongo import ReturnDocument, UpdateOne

from app.core.attempts import Outcome, Result
from app.ledger.client import Collection, Database, Document, query, query_once
from app.ledger.reasons import normal, slug
from app.ledger.together import Together, upsert_each

REASONS_A_MINUTE = 20
OTHER = "other"

_BUCKETS_A_DECADE = 20
_MINUTE = timedelta(minutes=1)
DEATHS_TOLD = timedelta(hours=26)
"""Longer than the longest day."""
_LONGEST_OPENING = timedelta(days=1)


def bucket_of(duration_ms: float) -> int:
    """The latency bucket of a duration in ms: bucket n holds what is over bound n-1 and at most
    bound n.
    """
    return max(0, math.ceil(_BUCKETS_A_DECADE * math.log10(max(duration_ms, 1))))


def bucket_bound(bucket: int) -> float:
    """The upper bound of a bucket in ms. Neighbours are 12 % apart, which bounds a percentile's
    error.
    """
    return float(10 ** (bucket / _BUCKETS_A_DECADE))


@dataclass(frozen=True, slots=True)
class Gauge:
    """A sample of a feed."""

    open: int
    """Deliveries queued or retrying: exact."""
    oldest_open_at: datetime | None
    """When the oldest of them was logged."""
    paused: bool
    configured: bool = True
    """Whether the process that took it knows the feed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a page from the source held."""

    read: int = 0
    """All rows, including those already in the ledger."""
    skipped: int = 0
    """New rows that the feed's filter leaves out."""
    unreadable: Sequence[tuple[str, str]] = ()
    """(delivery id, reason) of new rows that were logged dead."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One failure to count under its reason."""

    delivery_id: str
    reason: str
    dead: bool
    attempted: bool = True
    """False for a row that died when it was logged, or of which no request could be made."""


class Stats:
    """Every query on `stats`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["stats"]
        self._added = Together(partial(upsert_each, self._collection))
        self._reasons: dict[str, tuple[datetime, set[str]]] = {}
        """Feed → the minute counted last, and the reasons its document is known to have."""

    @query_once
    async def add_logged(
        self, feed: str, rows: int, now: datetime, page: Taken | None = None
    ) -> None:
        """Count rows that were new in the ledger, and what else the page held."""
        page = page or Taken()
        counts = {
            "read": page.read,
            "logged": rows,
            "skipped": page.skipped,
            "unreadable": len(page.unreadable),
        }
        counts = {name: count for name, count in counts.items() if count}
        if counts:
            failed = [
                Failed(delivery_id, reason, dead=True, attempted=False)
                for delivery_id, reason in page.unreadable
            ]
            await self._add(feed, now, Counter(counts), failed)

    @query_once
    async def add_results(self, feed: str, results: Sequence[Result], now: datetime) -> None:
        """Count a group of attempts by outcome, status, latency, reason, and whether each was the
        first; and dead letters for which no request could be made.
        """
        await self._add(feed, now, _counts(results, now), list(_failures(results)))

    @query_once
    async def add_outcomes(self, feed: str, outcome: Outcome, count: int, now: datetime) -> None:
        """Count attempts that have an outcome and nothing else on record."""
        if count:
            await self._add(feed, now, Counter({f"outcomes.{outcome.value}": count}))

    @query_once
    async def add_revived(
        self, feed: str, died: Iterable[tuple[datetime, str]], now: datetime
    ) -> None:
        """Count dead letters that were replayed: when each had died, and its reason."""
        counts = Counter(
            f"revived.{_minute_name(at)}.{slug(normal(reason))}"
            for at, reason in died
            if now - at < DEATHS_TOLD
        )
        if counts:
            await self._add(feed, now, counts)

    @query_once
    async def add_opening(self, feed: str, at: datetime, open_for: timedelta) -> None:
        """Count that the endpoint's breaker opened, and in each minute how long nothing is sent for
        it.
        """
        updates = []
        for minute, spent in _minutes_of(at, min(open_for, _LONGEST_OPENING)):
            counts = {"breaker.ms": _ms(spent), "breaker.opened": int(minute <= at)}
            updates.append(_upsert(feed, minute, {"$inc": counts}))
        await self._collection.bulk_write(updates, ordered=False)

    @query
    async def sample(self, gauges: Mapping[str, Gauge], now: datetime) -> None:
        """Store a sample of each feed. A later one of the same minute replaces it."""
        updates = []
        for feed, gauge in gauges.items():
            seen = {
                "at": now,
                "open": gauge.open,
                "oldest_open_at": gauge.oldest_open_at,
                "paused": gauge.paused,
            }
            seen |= {} if gauge.configured else {"configured": False}
            updates.append(_upsert(feed, _minute(now), {"$set": {"gauge": seen}}))
        if updates:
            await self._collection.bulk_write(updates, ordered=False)

    @query
    async def between(
        self, feed: str, start: datetime, end: datetime, *, without: Iterable[str] = ()
    ) -> list[Document]:
        """The feed's buckets from `start` until before `end`, oldest first: a range of `_id`, by
        its index. `without`: fields that are not wanted.
        """
        span = {"$gte": minute_id(feed, start), "$lt": minute_id(feed, end)}
        left_out = dict.fromkeys(without, 0) or None
        return await self._collection.find({"_id": span}, left_out).sort("_id", 1).to_list()

    @query
    async def feeds(self) -> list[str]:
        """The feeds that have buckets, each once: one step in the index of `_id` for each."""
        found: list[str] = []
        after = ""
        while True:
            documents = (
                await self._collection.find({"_id": {"$gt": after}}, {"feed": 1})
                .sort("_id", 1)
                .limit(1)
                .to_list()
            )
            if not documents:
                return found
            found.append(documents[0]["feed"])
            after = f"{found[-1]}|~"

    async def _add(
        self, feed: str, now: datetime, counts: Counter[str], failed: Sequence[Failed] = ()
    ) -> None:
        minute = _minute(now)
        if not failed:
            await self._added.ask(_update(feed, minute, {"$inc": dict(counts)}))
            return
        named = self._count_reasons(feed, minute, failed, counts)
        wanted, update = _update(feed, minute, {"$inc": dict(counts), "$set": named})
        document = await self._collection.find_one_and_update(
            wanted,
            update,
            upsert=True,
            projection={"failed": 1},
            return_document=ReturnDocument.AFTER,
        )
        self._reasons[feed] = (minute, set((document or {}).get("failed", ())))

    def _count_reasons(
        self, feed: str, minute: datetime, failed: Iterable[Failed], counts: Counter[str]
    ) -> dict[str, str]:
        """Add failures to `counts` under their reasons; return the fields that say what each reason
        is.
        """
        last_minute, known = self._reasons.get(feed, (minute, set()))
        known = set(known) if last_minute == minute else set()
        named: dict[str, str] = {}
        for failure in failed:
            text = normal(failure.reason)
            name = slug(text)
            if name not in known and len(known - {OTHER}) >= REASONS_A_MINUTE:
                name, text = OTHER, "other reasons"
            known.add(name)
            field = f"failed.{name}"
            named[f"{field}.text"] = text
            if failure.attempted:
                counts[f"{field}.n"] += 1
                named[f"{field}.id"] = failure.delivery_id
            if failure.dead:
                counts[f"{field}.dead"] += 1
                named[f"{field}.dead_id"] = failure.delivery_id
        return named


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def minute_id(feed: str, moment: datetime) -> str:
    """The id of the feed's minute in which the moment lies; ids of a feed are in the order of time."""
    return f"{feed}|{_minute_name(moment)}"


def _minute_name(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%MZ}"


def _update(feed: str, minute: datetime, change: Document) -> tuple[Document, Document]:
    """The filter and the update of a minute's document, to be upserted."""
    return {"_id": minute_id(feed, minute)}, change | {
        "$setOnInsert": {"feed": feed, "minute": minute}
    }


def _upsert(feed: str, minute: datetime, change: Document) -> UpdateOne:
    return UpdateOne(*_update(feed, minute, change), upsert=True)


def _minutes_of(start: datetime, length: timedelta) -> Iterator[tuple[datetime, timedelta]]:
    """Each minute that a span of time touches, and how much of the span lies in it."""
    end, minute = start + length, _minute(start)
    while minute < end:
        yield minute, min(end, minute + _MINUTE) - max(start, minute)
        minute += _MINUTE


def _counts(results: Sequence[Result], now: datetime) -> Counter[str]:
    """The fields that results add to. What is alike is counted first: names are made once for each
    kind.
    """
    counts: Counter[str] = Counter()
    unsendable = [result for result in results if not result.answer.made]
    if unsendable:
        counts["unsendable"] = len(unsendable)
        results = [result for result in results if result.answer.made]
    kinds = Counter(
        (result.verdict.outcome, result.answer.status, not result.delivery.attempts)
        for result in results
    )
    for (outcome, status, first), n in kinds.items():
        counts[f"outcomes.{outcome.value}"] += n
        counts[f"statuses.{status or 'none'}"] += n
        if status:
            counts[f"answers.{outcome.value}_{status}"] += n
        counts["first.made" if first else "retries"] += n
        if first and outcome is Outcome.DELIVERED:
            counts["first.delivered"] += n
    delivered = (result for result in results if result.verdict.outcome is Outcome.DELIVERED)
    _count_durations(counts, "attempt_ms", Counter(result.answer.duration_ms for result in results))
    _count_durations(
        counts,
        "delivered_ms",
        Counter(_ms(now - result.delivery.owed_since) for result in delivered),
    )
    return counts


def _count_durations(counts: Counter[str], name: str, durations: Mapping[int, int]) -> None:
    """Count durations, in ms → how many, by their buckets, and add up what they come to."""
    for ms, n in durations.items():
        counts[f"{name}.{bucket_of(ms)}"] += n
        counts[f"{name}_sum"] += ms * n


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _failures(results: Iterable[Result]) -> Iterator[Failed]:
    for result in results:
        verdict = result.verdict
        if verdict.outcome is not Outcome.DELIVERED:
            dead = verdict.outcome is Outcome.DEAD
            yield Failed(
                result.delivery.id, verdict.reason, dead=dead, attempted=result.answer.made
            )
