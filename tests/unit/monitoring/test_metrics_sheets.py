"""From what the ledger counts to what Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from app.core.states import State
from app.ledger.counters import Sums
from app.ledger.stats import bucket_bound
from app.monitoring.metrics.families import DELIVERIES, FAMILIES, Sheet
from app.monitoring.metrics.server import rendered
from app.monitoring.metrics.sheets import (
    ATTEMPT_BUCKETS,
    DELIVERED_BUCKETS,
    add_counters,
    add_deliveries,
)


class Described(Collector):
    def collect(self) -> Iterator[object]:  # type: ignore[override] # no samples, only what they would be
        return (family.empty() for family in FAMILIES.values())


def samples(sheet: Sheet) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, labels) → value, as Prometheus reads the page."""
    body, _ = rendered(sheet)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def counted(**counts: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    sheet = Sheet()
    add_counters(
        sheet,
        "orders",
        Sums(None, Counter({name.replace("__", "/"): n for name, n in counts.items()})),
    )
    return samples(sheet)


def attempts(
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float],
) -> dict[tuple[str, str], float]:
    return {
        (dict(labels)["outcome"], dict(labels)["status"]): value
        for (name, labels), value in found.items()
        if name == "rowrelay_attempts_total"
    }


def test_attempts_without_a_status_are_none_and_all_add_up_to_the_outcomes() -> None:
    found = counted(
        outcomes__delivered=10, outcomes__retry=5, outcomes__unknown=2,
        answers__delivered_200=9, answers__delivered_204=1, answers__retry_503=3,
    )  # fmt: skip
    assert attempts(found) == {
        ("delivered", "200"): 9,
        ("delivered", "204"): 1,
        ("retry", "503"): 3,
        ("retry", "none"): 2,
        ("unknown", "none"): 2,
    }


def test_a_histograms_buckets_are_those_of_the_ledger_so_none_is_split() -> None:
    found = counted(
        attempt_ms__0=1,
        attempt_ms__20=2,
        attempt_ms__21=4,
        attempt_ms__140=8,
        attempt_ms_sum=12_500,
    )
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in found.items()
        if name == "rowrelay_attempt_duration_seconds_bucket"
    }
    assert (buckets["0.001778"], buckets["0.01"], buckets["0.01778"], buckets["+Inf"]) == (
        1,
        3,
        7,
        15,
    )
    feed = (("feed", "orders"),)
    assert found["rowrelay_attempt_duration_seconds_count", feed] == 15
    assert found["rowrelay_attempt_duration_seconds_sum", feed] == 12.5
    assert bucket_bound(ATTEMPT_BUCKETS[-1]) == 100_000
    assert bucket_bound(DELIVERED_BUCKETS[-1]) == 10**8


def test_every_state_is_there_also_when_no_delivery_is_in_it() -> None:
    sheet = Sheet()
    add_deliveries(sheet, "orders", {State.DEAD: 3}, list(State))
    deliveries = [
        (dict(labels), value)
        for (name, labels), value in samples(sheet).items()
        if name == DELIVERIES.name
    ]
    found = {labels["state"]: value for labels, value in deliveries}
    assert found == {state.value: 3.0 if state is State.DEAD else 0.0 for state in State}


def test_each_metric_has_a_unit_or_total_a_meaning_and_no_label_that_can_grow() -> None:
    allowed = {
        "feed", "state", "outcome", "status", "queue", "task", "job_name", "process", "role", "server", "reading",
        "version", "python", "celery", "kind", "reason",
    }  # fmt: skip
    for family in FAMILIES.values():
        assert set(family.labels) <= allowed, family.name
        assert family.meaning.endswith("."), family.name
        assert family.name.endswith("_total") == (family.kind.value == "counter"), family.name
        if family.kind.value == "histogram":
            assert family.name.endswith("_seconds")
    registry = CollectorRegistry()
    registry.register(Described())
    assert generate_latest(registry).count(b"# TYPE") == len(FAMILIES)
