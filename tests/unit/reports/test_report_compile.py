"""A report says what its buckets hold: the same each time, on the operator's clock, whatever that
does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.certificates import Certificate
from app.core.period import Period, parse_period
from app.core.states import State
from app.ledger.client import Document
from app.ledger.reasons import normal, slug
from app.ledger.stats import bucket_bound, bucket_of
from app.reports.changes import KEYED_BY_DATA, Difference, changes, compare
from app.reports.compile import REASONS_LISTED, compile_reports
from app.reports.proof import Proof
from app.reports.record import ALL, VERSION, Report, canonical, document_of, report_of
from app.reports.sums import percentiles
from tests.support.buckets import DAY, day_of, failed, gauge, minute_of

BERLIN = ZoneInfo("Europe/Berlin")
PERIOD = parse_period("2026-11-21", BERLIN)


def reports_of(
    period: Period = PERIOD, through: datetime | None = None, **buckets: list[Document]
) -> list[Report]:
    return compile_reports(period, BERLIN, buckets, {}, through or period.end)


def report_of_orders(*documents: Document, period: Period = PERIOD) -> Report:
    return reports_of(period, orders=list(documents))[1]


def minute(at: timedelta = timedelta(), feed: str = "orders", **fields: Any) -> Document:
    return minute_of(feed, DAY + at, **fields)


def test_counts_are_the_buckets_added_up() -> None:
    report = report_of_orders(
        minute(
            read=10, logged=9, skipped=1, unreadable=1, retries=2, first={"made": 6, "delivered": 4},
            outcomes={"delivered": 5, "retry": 2, "dead": 1}, statuses={"200": 5, "500": 3},
        ),
        minute(timedelta(minutes=1), outcomes={"unknown": 3}, read=5),
    )  # fmt: skip
    counts = report.totals
    assert (counts.read, counts.logged, counts.skipped, counts.unreadable) == (15, 9, 1, 1)
    assert (counts.delivered, counts.retry, counts.unknown, counts.dead) == (5, 2, 3, 2)
    assert (counts.attempts, counts.failed, counts.retries) == (11, 6, 2)
    assert counts.first_success == pytest.approx(4 / 6)
    assert report.statuses == {"200": 5, "500": 3}
    assert report.per_second == round(5 / 86400, 3)


def test_the_report_of_all_feeds_is_their_sum_and_names_each() -> None:
    found = reports_of(
        orders=day_of("orders", 500), invoices=day_of("invoices", 300, bad=True, seed=2)
    )
    assert [report.feed for report in found] == [ALL, "invoices", "orders"]
    whole, *single = found
    assert whole.totals.delivered == sum(report.totals.delivered for report in single)
    assert whole.delivered_ms.count == sum(report.delivered_ms.count for report in single)
    assert [line.feed for line in whole.feeds] == ["invoices", "orders"]
    assert [line.counts for line in whole.feeds] == [report.totals for report in single]


def test_spans_and_slots_hold_everything_once() -> None:
    report = reports_of(orders=day_of("orders", 5000, bad=True))[1]
    assert (len(report.spans), len(report.slots)) == (24, 96)
    for parts in (report.spans, report.slots):
        assert sum(part.counts.delivered for part in parts) == report.totals.delivered
        assert sum(part.counts.attempts for part in parts) == report.totals.attempts


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)]
)
def test_a_day_has_the_hours_that_the_clocks_give_it(day: str, hours: int) -> None:
    period = parse_period(day, BERLIN)
    minutes = int((period.end - period.start) / timedelta(minutes=1))
    buckets = [
        minute_of("orders", period.start + timedelta(minutes=n), logged=1) for n in range(minutes)
    ]
    report = report_of_orders(*buckets, period=period)
    assert len(report.spans) == hours
    assert report.totals.logged == report.minutes == hours * 60
    assert all(span.counts.logged == 60 for span in report.spans)


def test_both_hours_of_an_autumn_night_have_labels_of_their_own() -> None:
    period = parse_period("2026-10-25", BERLIN)
    labels = [span.label for span in report_of_orders(period=period).spans]
    assert labels[2:4] == ["02:00+02:00", "02:00+01:00"]
    assert len(set(labels)) == 25


def test_an_hour_is_reported_by_the_minute() -> None:
    period = parse_period("2026-11-21T14", BERLIN)
    report = report_of_orders(minute_of("orders", period.start, logged=3), period=period)
    assert (len(report.spans), len(report.slots)) == (12, 60)
    assert report.slots[0].label == "14:00"
    assert report.slots[0].counts.logged == 3


def test_a_running_period_ends_where_it_was_looked_at() -> None:
    through = DAY + timedelta(hours=2, minutes=20)
    report = compile_reports(
        PERIOD, BERLIN, {"orders": [minute(outcomes={"delivered": 840})]}, {}, through
    )[1]
    assert report.running
    assert (len(report.spans), len(report.slots), report.minutes) == (3, 10, 140)
    assert report.per_second == round(840 / 8400, 3)


def test_the_backlog_is_that_of_the_last_sample() -> None:
    seen, since = DAY + timedelta(hours=20), DAY - timedelta(hours=3)
    found = reports_of(
        orders=[
            minute(gauge=gauge(DAY, 70)),
            minute(timedelta(hours=20), gauge=gauge(seen, 7, since)),
        ],
        invoices=[
            minute(timedelta(hours=21), "invoices", gauge=gauge(seen + timedelta(hours=1), 5, DAY))
        ],
        idle=[],
    )
    backlogs = {report.feed: report.backlog for report in found}
    assert backlogs["orders"] is not None
    assert (backlogs["orders"].at, backlogs["orders"].open, backlogs["orders"].oldest_open_at) == (
        seen,
        7,
        since,
    )
    whole = backlogs[ALL]
    assert whole is not None
    assert (whole.at, whole.open, whole.oldest_open_at) == (seen, 12, since)
    assert backlogs["idle"] is None


def test_pauses_are_the_samples_that_found_one() -> None:
    report = report_of_orders(
        minute(gauge=gauge(DAY, 0, paused=True)),
        minute(timedelta(minutes=1), gauge=gauge(DAY, 0, paused=True)),
        minute(timedelta(minutes=2), gauge=gauge(DAY, 0)),
    )
    assert (report.paused_minutes, report.sampled_minutes, report.minutes) == (2, 3, 1440)


def test_a_breaker_that_several_workers_opened_is_open_for_a_minute_a_minute_at_most() -> None:
    report = report_of_orders(
        minute(breaker={"opened": 3, "ms": 150_000}),
        minute(timedelta(minutes=1), breaker={"opened": 0, "ms": 4_500}),
    )
    assert (report.breaker.opened, report.breaker.seconds) == (3, 64.5)


def test_reasons_are_counted_together_and_the_last_example_is_shown() -> None:
    report = report_of_orders(
        minute(
            failed=failed("attempts spent: 500", 2, 2, "orders:1")
            | failed("429 Too Many Requests", 9, 0, "orders:2")
        ),
        minute(timedelta(minutes=1), failed=failed("attempts spent: 500", 1, 1, "orders:3")),
        minute(timedelta(minutes=2), failed=failed("column 'x': no JSON form", 0, 5, "orders:4")),
    )
    assert [(r.text, r.count, r.example) for r in report.dead_reasons] == [
        ("column 'x': no JSON form", 5, "orders:4"),
        ("attempts spent: 500", 3, "orders:3"),
    ]
    assert [(r.text, r.count, r.example) for r in report.errors] == [
        ("429 Too Many Requests", 9, "orders:2"),
        ("attempts spent: 500", 3, "orders:3"),
    ]


def test_no_more_reasons_are_listed_than_a_person_reads() -> None:
    documents = [
        minute(timedelta(minutes=n), failed=failed(f"reason {'abcdefgh'[n % 8]} {n}", 1 + n))
        for n in range(50)
    ]
    errors = report_of_orders(*documents).errors
    assert len(errors) == REASONS_LISTED + 1
    assert errors[-1].text == "30 other reasons"
    assert sum(reason.count for reason in errors) == sum(range(1, 51))


def test_the_slowest_and_most_failing_hours_are_found() -> None:
    slow = minute(
        timedelta(hours=5), outcomes={"delivered": 1}, delivered_ms={str(bucket_of(90_000)): 1}
    )
    quick = minute(
        timedelta(hours=6),
        outcomes={"delivered": 1, "retry": 3},
        delivered_ms={str(bucket_of(100)): 1},
    )
    failing = minute(timedelta(hours=7), outcomes={"retry": 8})
    report = report_of_orders(slow, quick, failing)
    assert [span.label for span in report.slowest] == ["05:00", "06:00"]
    assert [(span.label, span.counts.failed) for span in report.most_failing] == [
        ("07:00", 8),
        ("06:00", 3),
    ]


def test_the_busiest_minute_is_named() -> None:
    report = report_of_orders(
        minute(outcomes={"delivered": 5}),
        minute(timedelta(hours=9, minutes=14), outcomes={"delivered": 6}),
    )
    assert report.peak is not None
    assert (report.peak.label, report.peak.delivered) == ("09:14", 6)


@given(st.lists(st.floats(1, 1e8), min_size=1, max_size=60))
def test_a_percentile_is_at_most_twelve_percent_too_high_and_never_too_low(
    durations: list[float],
) -> None:
    counted: dict[int, int] = {}
    for duration in durations:
        counted[bucket_of(duration)] = counted.get(bucket_of(duration), 0) + 1
    ordered = sorted(durations)
    found = percentiles(counted)
    assert found.count == len(durations)
    for part, value in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        exact = ordered[max(0, -(-len(ordered) * round(part * 100) // 100) - 1)]
        assert value is not None
        assert exact * 0.994 <= value <= exact * bucket_bound(1) * 1.006, (
            "and what rounding to three figures adds"
        )


def test_without_samples_there_are_no_percentiles() -> None:
    assert percentiles({}).p50_ms is None


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_buckets_changes_nothing(seed: int) -> None:
    documents = day_of("orders", 400, bad=True)
    expected = canonical(document_of(report_of_orders(*documents)))
    random.Random(seed).shuffle(documents)
    assert canonical(document_of(report_of_orders(*documents))) == expected


def test_a_report_survives_its_journey_through_json() -> None:
    certificate = Certificate("orders", PERIOD.end, 42, 3, {State.DELIVERED: 2, State.QUEUED: 1})
    for report in compile_reports(
        PERIOD,
        BERLIN,
        {"orders": day_of("orders", 200, bad=True)},
        {"orders": certificate},
        PERIOD.end,
    ):
        assert report_of(document_of(report)) == report


@pytest.mark.parametrize(
    ("certificate", "complete", "unaccounted"),
    [
        (
            Certificate(
                "orders", PERIOD.end, 9, 5, {State.DELIVERED: 3, State.RETRYING: 1, State.DEAD: 1}
            ),
            True,
            0,
        ),
        (
            Certificate(
                "orders",
                PERIOD.end,
                9,
                5,
                {State.DELIVERED: 3},
                missing=2,
                missing_ids=("orders:1",),
            ),
            False,
            2,
        ),
    ],
)
def test_a_certificate_comes_with_its_sum(
    certificate: Certificate, complete: bool, unaccounted: int
) -> None:
    whole, single = compile_reports(
        PERIOD, BERLIN, {"orders": []}, {"orders": certificate}, PERIOD.end
    )
    (proof,) = single.certificates
    assert (proof.complete, proof.unaccounted, proof.source_rows) == (complete, unaccounted, 5)
    assert sum(proof.states.values()) + proof.unaccounted == proof.source_rows
    assert whole.certificates == single.certificates
    assert whole.feeds[0].complete is complete


def test_what_changed_is_named_by_its_field() -> None:
    was = document_of(report_of_orders(minute(outcomes={"delivered": 5})))
    now = document_of(report_of_orders(minute(outcomes={"delivered": 6, "dead": 1})))
    found = {change["field"]: (change["was"], change["now"]) for change in changes(was, now)}
    assert found["totals.delivered"] == (5, 6)
    assert found["totals.dead"] == (0, 1)
    assert changes(was, was) == []


def test_fields_that_only_one_of_two_versions_has_are_no_difference() -> None:
    now = document_of(report_of_orders(minute(outcomes={"delivered": 5}, statuses={"200": 5})))
    was = orjson.loads(orjson.dumps(now)) | {"version": 0, "retired": 7}
    del was["totals"]["unsendable"], was["spans"][0]["counts"]["revived"]
    assert compare(was, now) is Difference.FIELDS
    assert changes(was, now) == []


def test_another_figure_is_a_difference_whatever_the_versions() -> None:
    now = document_of(report_of_orders(minute(outcomes={"delivered": 5}, statuses={"200": 5})))
    was = orjson.loads(orjson.dumps(now)) | {"version": 0}
    was["statuses"] = {}
    assert compare(was, now) is Difference.FIGURES
    assert changes(was, now) == [{"field": "statuses.200", "was": None, "now": 5}]


def test_within_a_version_a_field_that_is_missing_is_a_difference() -> None:
    now = document_of(report_of_orders(minute(outcomes={"delivered": 5})))
    was = {name: value for name, value in now.items() if name != "breaker"}
    assert compare(was, now) is Difference.FIGURES
    assert compare(now, now) is Difference.NONE


FIELDS = {1: "0fd5c2a5"}
"""Version → a hash of the names of a report's fields. A new one goes with each new `VERSION`."""


def _fields(record: Any) -> list[str]:
    """The names of a record's fields, and of the records in it."""
    names: list[str] = []
    for field, annotation in get_type_hints(record).items():
        inner = [part for part in (annotation, *_parts_of(annotation)) if is_dataclass(part)]
        names += [field, *(f"{field}.{name}" for part in inner for name in _fields(part))]
    return names


def _parts_of(annotation: Any) -> list[Any]:
    return [deeper for part in get_args(annotation) for deeper in (part, *_parts_of(part))]


def test_a_report_whose_fields_change_has_another_version() -> None:
    names = "\n".join(_fields(Report))
    assert {VERSION: blake2b(names.encode(), digest_size=4).hexdigest()} == FIELDS, (
        "raise VERSION, then note it here"
    )


def test_names_that_are_data_are_known_to_be() -> None:
    records = (Report, Proof)
    hints = {name: hint for record in records for name, hint in get_type_hints(record).items()}
    mappings = {name for name, hint in hints.items() if get_origin(hint) is Mapping}
    assert mappings == set(KEYED_BY_DATA)


def test_a_dead_letter_that_was_put_back_is_not_among_the_dead_of_when_it_died() -> None:
    reason = "400 Bad Request"
    documents = [
        minute(outcomes={"dead": 10}, failed=failed(reason, 10, 10)),
        minute(
            timedelta(hours=1),
            revived=revived(timedelta(), reason, 10),
            outcomes={"dead": 4, "delivered": 6},
        ),
        minute(timedelta(hours=2), revived=revived(timedelta(days=-1), reason, 99)),
    ]
    documents[1]["failed"] = failed(reason, 4, 4)
    report = report_of_orders(*documents)
    assert (report.totals.dead, report.totals.revived, report.totals.delivered) == (4, 10, 6), (
        "yesterday's are not of today"
    )
    assert [(found.text, found.count) for found in report.dead_reasons] == [(reason, 4)]
    assert [span.counts.dead for span in report.spans[:3]] == [0, 4, 0]
    assert sum(slot.counts.dead for slot in report.slots) == report.totals.dead
    assert (report.totals.attempts, report.errors[0].count) == (20, 14), "requests were made"


def test_one_feeds_replays_change_no_other_feeds_dead() -> None:
    dead, later = {"dead": 3}, timedelta(hours=1)
    put_back = minute(later, "invoices", revived=revived(timedelta(), "x", 3))
    _, invoices, orders = reports_of(
        orders=[minute(outcomes=dead)], invoices=[minute(feed="invoices", outcomes=dead), put_back]
    )
    assert (invoices.totals.dead, orders.totals.dead) == (0, 3)


def revived(died: timedelta, reason: str, count: int) -> Document:
    return {f"{DAY + died:%Y-%m-%dT%H:%MZ}": {slug(normal(reason)): count}}
