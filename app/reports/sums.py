"""Adds up the buckets of the statistics: counts, outcomes, latencies, and failures by reason. Pure
functions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from app.core.attempts import Outcome
from app.ledger.stats import OTHER, bucket_bound
from app.reports.record import (
    Counts,
    Document,
    Latency,
)

_REVIVED = "died_and_revived"
"""The field added to buckets: how many of their dead letters were replayed later."""


@dataclass(slots=True)
class FailureKind:
    """The sum of failures with one reason."""

    text: str
    attempts: int = 0
    dead: int = 0
    example: str | None = None
    dead_example: str | None = None

    def add(self, failed: Document) -> None:
        self.attempts += failed.get("n", 0)
        self.dead += failed.get("dead", 0)
        self.example = failed.get("id", self.example)
        self.dead_example = failed.get("dead_id", self.dead_example)


@dataclass(slots=True)
class Sum:
    """The sum of buckets, of one feed or several."""

    flows: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    attempt_ms: Counter[int] = field(default_factory=Counter)
    delivered_ms: Counter[int] = field(default_factory=Counter)

    def add(self, bucket: Document) -> None:
        for name in ("read", "logged", "skipped", "unreadable", "unsendable", "retries", _REVIVED):
            self.flows[name] += bucket.get(name, 0)
        for name, count in bucket.get("first", {}).items():
            self.flows[f"first.{name}"] += count
        self.outcomes.update(bucket.get("outcomes", {}))
        self.statuses.update(bucket.get("statuses", {}))
        for kind, durations in (
            ("attempt_ms", self.attempt_ms),
            ("delivered_ms", self.delivered_ms),
        ):
            for number, count in bucket.get(kind, {}).items():
                durations[int(number)] += count

    def counts(self) -> Counts:
        outcomes, flows = self.outcomes, self.flows
        died = outcomes[Outcome.DEAD.value] + flows["unreadable"] + flows["unsendable"]
        return Counts(
            read=flows["read"],
            logged=flows["logged"],
            skipped=flows["skipped"],
            delivered=outcomes[Outcome.DELIVERED.value],
            attempts=sum(outcomes.values()),
            retry=outcomes[Outcome.RETRY.value],
            unknown=outcomes[Outcome.UNKNOWN.value],
            dead=max(0, died - flows[_REVIVED]),
            unreadable=flows["unreadable"],
            unsendable=flows["unsendable"],
            revived=flows[_REVIVED],
            first_attempts=flows["first.made"],
            first_delivered=flows["first.delivered"],
            retries=flows["retries"],
        )


def percentiles(durations: Mapping[int, int]) -> Latency:
    """p50, p95 and p99 of durations counted by bucket, by nearest rank."""
    count = sum(durations.values())
    if not count:
        return Latency()
    found = [_percentile(durations, math.ceil(count * part)) for part in (0.50, 0.95, 0.99)]
    return Latency(count, *found)


def _percentile(durations: Mapping[int, int], rank: int) -> float:
    seen = 0
    for bucket in sorted(durations):
        seen += durations[bucket]
        if seen >= rank:
            return float(f"{bucket_bound(bucket):.3g}")
    raise AssertionError("a rank beyond the count")


def with_revived(buckets: Sequence[Document]) -> list[Document]:
    """One feed's buckets; those in which dead letters died that a later bucket replayed know how
    many.
    """
    revived: dict[str, Counter[str]] = {}
    for bucket in buckets:
        for minute, reasons in bucket.get("revived", {}).items():
            revived.setdefault(minute, Counter()).update(reasons)
    return [
        _less(bucket, found) if (found := revived.get(_name(bucket))) else bucket
        for bucket in buckets
    ]


def _name(bucket: Document) -> str:
    return str(bucket["_id"]).rpartition("|")[2]


def _less(bucket: Document, revived: Counter[str]) -> Document:
    """The bucket without these dead letters, by reason."""
    failed = {name: dict(found) for name, found in bucket.get("failed", {}).items()}
    for name, count in revived.items():
        kept = failed.get(name if failed.get(name, {}).get("dead") else OTHER, {})
        kept["dead"] = max(0, kept.get("dead", 0) - count)
    return bucket | {"failed": failed, _REVIVED: revived.total()}


def summed(buckets: Iterable[Document]) -> Sum:
    total = Sum()
    for bucket in buckets:
        total.add(bucket)
    return total


def failure_kinds(by_time: Iterable[Document]) -> list[FailureKind]:
    """Failures by reason, with the latest examples."""
    kinds: dict[str, FailureKind] = {}
    for bucket in by_time:
        for name, failed in sorted(bucket.get("failed", {}).items()):
            kinds.setdefault(name, FailureKind(failed.get("text", OTHER))).add(failed)
    return list(kinds.values())
