"""Compiles a report from the buckets of the statistics. Pure: the same buckets always give the same
report.

It reads minutes, not deliveries: 1,440 documents a feed and day, whatever the volume. Counts are as
exact as the buckets: a worker killed between a result and its count leaves them short by a group.
Only the certificate is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.core.attempts import Outcome
from app.core.certificates import Certificate
from app.core.period import Kind, Period
from app.reports.proof import proof_of
from app.reports.record import (
    ALL,
    VERSION,
    Backlog,
    Breaker,
    Document,
    FeedLine,
    Interval,
    Peak,
    Reason,
    Report,
)
from app.reports.sums import failure_kinds, percentiles, summed, with_revived

SLOT = {Kind.DAY: timedelta(minutes=15), Kind.HOUR: timedelta(minutes=1)}
"""The length of one point in the charts."""
SPAN = {Kind.DAY: timedelta(hours=1), Kind.HOUR: timedelta(minutes=5)}
"""The length of the intervals among which the slowest and most failing are chosen."""

CHOSEN_SPANS = 3
REASONS_LISTED = 20

_MINUTE = timedelta(minutes=1)
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class _Window:
    """The period to compile, in which time zone, and up to when."""

    period: Period
    zone: ZoneInfo
    through: datetime

    def label(self, moment: datetime) -> str:
        """The local time, with its offset where the clocks change within the period."""
        start, end = (bound.astimezone(self.zone) for bound in (self.period.start, self.period.end))
        local = moment.astimezone(self.zone)
        return (
            f"{local:%H:%M}{local.isoformat()[-6:]}"
            if start.utcoffset() != end.utcoffset()
            else f"{local:%H:%M}"
        )


def compile_reports(
    period: Period,
    zone: ZoneInfo,
    buckets: Mapping[str, Sequence[Document]],
    certificates: Mapping[str, Certificate | None],
    through: datetime,
) -> list[Report]:
    """The report of all feeds, then one for each, by name.

    `buckets`: feed → its buckets of the period, in any order. `certificates`: the feeds'
    certificates as they were at the end. `through`: the period's end, or the present where that is
    earlier.
    """
    window = _Window(period, zone, through)
    found = {feed: certificates.get(feed) for feed in sorted(buckets)}
    single = [
        _compile(feed, window, {feed: buckets[feed]}, [certificate])
        for feed, certificate in found.items()
    ]
    return [
        _compile(ALL, window, buckets, found.values(), tuple(_line(report) for report in single)),
        *single,
    ]


def _compile(
    feed: str,
    window: _Window,
    buckets: Mapping[str, Sequence[Document]],
    certificates: Iterable[Certificate | None],
    lines: tuple[FeedLine, ...] = (),
) -> Report:
    period, through = window.period, window.through
    by_time = sorted(
        (bucket for found in buckets.values() for bucket in with_revived(found)),
        key=lambda bucket: (bucket["minute"], bucket["feed"]),
    )
    whole = summed(by_time)
    seconds = max((through - period.start).total_seconds(), 1.0)
    kinds = failure_kinds(by_time)
    spans = tuple(_spans(window, SPAN[period.kind], by_time))
    return Report(
        feed=feed,
        kind=period.kind,
        period=period.name,
        start=period.start,
        end=period.end,
        timezone=window.zone.key,
        through=through,
        totals=whole.counts(),
        per_second=round(whole.outcomes[Outcome.DELIVERED.value] / seconds, 3),
        peak=_peak(window, by_time),
        statuses=dict(sorted(whole.statuses.items())),
        delivered_ms=percentiles(whole.delivered_ms),
        attempt_ms=percentiles(whole.attempt_ms),
        backlog=_backlog(by_time),
        paused_minutes=sum(bucket.get("gauge", {}).get("paused", False) for bucket in by_time),
        breaker=_breaker(by_time),
        minutes=int((through - period.start) / _MINUTE),
        sampled_minutes=len({bucket["minute"] for bucket in by_time if "gauge" in bucket}),
        dead_reasons=_reasons((kind.text, kind.dead, kind.dead_example) for kind in kinds),
        errors=_reasons((kind.text, kind.attempts, kind.example) for kind in kinds),
        slowest=_slowest(spans),
        most_failing=_most_failing(spans),
        spans=spans,
        slots=tuple(_spans(window, SLOT[period.kind], by_time)),
        certificates=tuple(proof_of(certificate) for certificate in certificates if certificate),
        feeds=lines,
        version=VERSION,
    )


def _line(report: Report) -> FeedLine:
    return FeedLine(
        feed=report.feed,
        counts=report.totals,
        delivered_ms=report.delivered_ms,
        backlog=report.backlog,
        paused_minutes=report.paused_minutes,
        breaker=report.breaker,
        complete=report.certificates[0].complete if report.certificates else None,
    )


def _spans(window: _Window, length: timedelta, by_time: Iterable[Document]) -> Iterator[Interval]:
    """The period in intervals of that length, each with the sums of its buckets; the last may be
    shorter.
    """
    parts: dict[int, list[Document]] = {}
    for bucket in by_time:
        parts.setdefault((bucket["minute"] - window.period.start) // length, []).append(bucket)
    number, start = 0, window.period.start
    while start < window.through:
        found = parts.get(number, [])
        total, backlog = summed(found), _backlog(found)
        yield Interval(
            start=start,
            label=window.label(start),
            counts=total.counts(),
            delivered_ms=percentiles(total.delivered_ms),
            attempt_ms=percentiles(total.attempt_ms),
            open=backlog.open if backlog else None,
        )
        number, start = number + 1, start + length


def _peak(window: _Window, by_time: Iterable[Document]) -> Peak | None:
    """The first minute with the most deliveries."""
    minutes: Counter[datetime] = Counter()
    for bucket in by_time:
        minutes[bucket["minute"]] += bucket.get("outcomes", {}).get(Outcome.DELIVERED.value, 0)
    at, most = max(
        minutes.items(),
        key=lambda item: (item[1], -item[0].timestamp()),
        default=(window.period.start, 0),
    )
    return Peak(at, window.label(at), most) if most else None


def _backlog(by_time: Iterable[Document]) -> Backlog | None:
    """The sum of each feed's last sample; as old as the oldest of them."""
    last: dict[str, Document] = {
        bucket["feed"]: bucket["gauge"] for bucket in by_time if "gauge" in bucket
    }
    if not last:
        return None
    oldest = [gauge["oldest_open_at"] for gauge in last.values() if gauge["oldest_open_at"]]
    return Backlog(
        at=min(gauge["at"] for gauge in last.values()),
        open=sum(gauge["open"] for gauge in last.values()),
        oldest_open_at=min(oldest, default=None),
        unsent=sum(gauge["open"] for gauge in last.values() if not gauge.get("configured", True)),
    )


def _breaker(by_time: Iterable[Document]) -> Breaker:
    """Openings and how long they lasted, at most a minute in each: workers without Redis open
    breakers of their own.
    """
    found = [bucket["breaker"] for bucket in by_time if "breaker" in bucket]
    spent_ms = sum(min(breaker.get("ms", 0), _MINUTE_MS) for breaker in found)
    return Breaker(sum(breaker.get("opened", 0) for breaker in found), round(spent_ms / 1000, 1))


def _reasons(kinds: Iterable[tuple[str, int, str | None]]) -> tuple[Reason, ...]:
    """The most frequent first; those beyond `REASONS_LISTED` are added up."""
    found = sorted(
        (Reason(*kind) for kind in kinds if kind[1]),
        key=lambda reason: (-reason.count, reason.text),
    )
    listed, others = found[:REASONS_LISTED], found[REASONS_LISTED:]
    if others:
        rest = sum(reason.count for reason in others)
        listed.append(Reason(f"{len(others)} other reasons", rest, others[0].example))
    return tuple(listed)


def _slowest(spans: Iterable[Interval]) -> tuple[Interval, ...]:
    """The intervals with the highest p95 until delivery, the slowest first."""
    found = [
        (span.delivered_ms.p95_ms, span) for span in spans if span.delivered_ms.p95_ms is not None
    ]
    found.sort(key=lambda item: (-item[0], item[1].start))
    return tuple(span for _, span in found[:CHOSEN_SPANS])


def _most_failing(spans: Iterable[Interval]) -> tuple[Interval, ...]:
    """The intervals with the most failed attempts, the worst first."""
    found = sorted(
        (span for span in spans if span.counts.failed),
        key=lambda span: (-span.counts.failed, span.start),
    )
    return tuple(found[:CHOSEN_SPANS])
