"""Buckets of the statistics as a day would leave them: the same seed gives the same day."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from app.ledger.client import Document
from app.ledger.reasons import normal, slug
from app.ledger.stats import bucket_of

DAY = datetime(2026, 11, 20, 23, tzinfo=UTC)
"""Midnight in Berlin."""


def minute_of(feed: str, minute: datetime, **fields: Any) -> Document:
    """One bucket, under its id."""
    return {"_id": f"{feed}|{minute:%Y-%m-%dT%H:%MZ}", "feed": feed, "minute": minute, **fields}


def gauge(
    at: datetime, still_open: int, oldest: datetime | None = None, *, paused: bool = False
) -> Document:
    """A sample of how the feed stands."""
    return {"at": at, "open": still_open, "oldest_open_at": oldest, "paused": paused}


def failed(reason: str, attempts: int = 0, dead: int = 0, example: str = "orders:1") -> Document:
    """Failures under their reason."""
    found: Document = {"text": normal(reason)}
    if attempts:
        found |= {"n": attempts, "id": example}
    if dead:
        found |= {"dead": dead, "dead_id": example}
    return {slug(normal(reason)): found}


def day_of(
    feed: str,
    rows: int,
    *,
    bad: bool = False,
    start: datetime = DAY,
    minutes: int = 1440,
    seed: int = 1,
) -> list[Document]:
    """A day of about `rows` rows, busy by day and calm by night.

    A bad day has an outage in the afternoon, a partner that throttles after it, and rows that are
    refused.
    """
    draw = random.Random(seed)
    weights = [_weight(place / minutes) for place in range(minutes)]
    state = _State(feed, draw)
    return [
        state.minute(
            start + timedelta(minutes=place),
            rows * weight / sum(weights),
            bad and _trouble(place, minutes),
        )
        for place, weight in enumerate(weights)
    ]


def _weight(part: float) -> float:
    return (
        0.25 + max(0.0, math.sin((part - 0.27) * math.pi / 0.55)) ** 1.5
        if 0.27 < part < 0.82
        else 0.25
    )


def _trouble(place: int, minutes: int) -> str:
    part = place / minutes
    return "outage" if 0.58 < part < 0.65 else "throttled" if 0.65 <= part < 0.76 else ""


class _State:
    """What carries over from one minute to the next: the backlog."""

    def __init__(self, feed: str, draw: random.Random) -> None:
        self.feed = feed
        self.draw = draw
        self.open = 0
        self.since: datetime | None = None
        self.row = 1000

    def minute(self, at: datetime, expected: float, trouble: str | bool) -> Document:
        """One bucket."""
        logged = max(0, round(self.draw.gauss(expected, math.sqrt(expected) + 0.1)))
        self.row += logged
        counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("outcomes", "statuses", "first", "attempt_ms")
        }
        waited: Counter[str] = Counter()
        reasons: Document = {}
        ready = self.open + logged
        failing = {"outage": 1.0, "throttled": 0.25}.get(str(trouble), 0.004)
        sent = min(ready, round(expected * 2.5) + 2)
        lost = (
            round(sent * failing)
            if not trouble
            else min(sent, max(1, round(min(sent, expected) * failing)))
        )
        delivered = 0 if trouble == "outage" else sent - lost
        dead = (lost > 0 and self.draw.random() < 0.25) * 1 if trouble == "throttled" else 0
        for count, outcome, status, ms in (
            (delivered, "delivered", "200", 38.0 if not trouble else 420.0),
            (
                lost - dead,
                "retry",
                "503" if trouble == "outage" else "429" if trouble else "500",
                80.0,
            ),
            (dead, "dead", "422", 45.0),
        ):
            counts["outcomes"][outcome] += count
            counts["statuses"][status] += count
            self._latencies(counts["attempt_ms"], count, ms)
        first = min(delivered, logged)
        counts["first"].update(
            delivered=round(first * (1 - failing)), made=round(first * (1 - failing)) + lost
        )
        wait_ms = (at - self.since).total_seconds() * 1000 if self.since else 140.0
        self._latencies(
            waited, delivered, max(140.0, wait_ms), spread=0.8 if wait_ms < 1000 else 0.01
        )
        if lost - dead:
            text = {"outage": "503 Service Unavailable", "throttled": "429 Too Many Requests"}
            reasons |= failed(
                text.get(str(trouble), "500 Internal Server Error"), lost - dead, 0, self._id()
            )
        if dead:
            reasons |= failed("422 Unprocessable Content", dead, dead, self._id())
        if trouble == "outage" and self.draw.random() < 0.3:
            reasons |= failed(
                "ConnectTimeout: no connection within partner.connect_timeout", 2, 0, self._id()
            )
            counts["outcomes"]["unknown"] += 2
        self._carry(at, ready - delivered - dead)
        bucket = minute_of(
            self.feed, at, read=logged, logged=logged, delivered_ms=_kept(waited), gauge=self._gauge(at),
            retries=max(0, delivered - first), **{name: _kept(found) for name, found in counts.items()},
        )  # fmt: skip
        if reasons:
            bucket["failed"] = reasons
        if trouble == "outage":
            bucket["breaker"] = {"opened": 4, "ms": 40_000}
        return bucket

    def _carry(self, at: datetime, still_open: int) -> None:
        self.open = still_open
        if still_open <= 0:
            self.since = None
        elif self.since is None:
            self.since = at
        else:
            self.since = min(at, self.since + timedelta(seconds=40))

    def _gauge(self, at: datetime) -> Document:
        return gauge(at + timedelta(seconds=7), self.open, self.since if self.open else None)

    def _id(self) -> str:
        return f"{self.feed}:{self.row - self.draw.randrange(50)}"

    def _latencies(
        self, into: Counter[str], count: int, middle: float, spread: float = 0.8
    ) -> None:
        """Spread over a few buckets around the middle, however many they are."""
        left = count
        for place, part in enumerate((0.5, 0.3, 0.13, 0.05, 0.02)):
            some = left if place == 4 else min(left, round(count * part))
            into[
                str(bucket_of(middle * (1 + spread * place**1.7) * self.draw.uniform(0.9, 1.1)))
            ] += some
            left -= some


def _kept(counts: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
