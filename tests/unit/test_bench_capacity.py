"""The capacity model's arithmetic, on round figures."""

from __future__ import annotations

import dataclasses

import pytest

from bench.capacity import section
from bench.capacity_model import TARGETS, WORKERS, Costs, Site, first, limits, needed, poll_rate

COSTS = Costs(
    deliver_us=150,
    take_in_us=50,
    ledger_us=100,
    ledger_commands=0.04,
    ledger_bytes=1_500,
    journal_bytes=750,
    redis_us=5,
    partner_bytes=700,
    page_ms=82,
    page_rows=1_000,
    idle_worker_us=10_000,
    idle_ledger_us=1_000,
    idle_ledger_commands=2,
    idle_redis_us=100,
)
SITE = Site(ledger_cores=8, busy=0.5, feeds=4, concurrency=100, partner_ms=50, network_mbit=1_200)


def test_each_part_has_a_limit_of_its_own() -> None:
    assert poll_rate(COSTS, SITE) == pytest.approx(10_000), "82 ms, 10 of the source, 4 writes of 2"
    assert limits(COSTS, SITE, 2) == pytest.approx(
        {
            "workers": 2 * (500_000 - 10_000) / 200,
            "ledger": (8 * 500_000 - 2 * 1_000) / 100,
            "polls": 40_000,
            "Redis": (500_000 - 2 * 100) / 5,
            "network": 50_000,
            "partner": 8_000,
        }
    )


def test_the_lowest_limit_is_used_up_first() -> None:
    assert first(limits(COSTS, SITE, 1)) == ("workers", 2_450)
    assert first(limits(COSTS, SITE, 64)) == ("partner", 8_000)
    patient = dataclasses.replace(SITE, concurrency=1_000)
    assert first(limits(COSTS, patient, 64))[0] == "ledger"
    assert first(limits(COSTS, dataclasses.replace(patient, feeds=1), 64)) == ("polls", 10_000)


@pytest.mark.parametrize("rows", TARGETS)
def test_what_a_rate_needs_is_enough_and_no_more(rows: int) -> None:
    need = needed(COSTS, SITE, rows)

    def could(*, workers: int = 0, cores: int = 0, feeds: int = 0) -> dict[str, float]:
        site = dataclasses.replace(
            SITE, ledger_cores=need.ledger_cores + cores, feeds=need.feeds + feeds
        )
        return limits(COSTS, site, need.workers + workers)

    enough = could()
    assert min(enough[part] for part in ("workers", "ledger", "polls")) >= rows
    assert could(workers=-1)["workers"] < rows
    assert could(cores=-1)["ledger"] < rows
    assert could(feeds=-1)["polls"] < rows
    assert need.in_flight == pytest.approx(rows * 0.05)


def test_the_tables_have_a_line_for_each_number_of_workers_and_each_rate() -> None:
    body = section(COSTS, SITE).body
    lines = [line.split("|")[1].strip() for line in body.splitlines() if line.startswith("|")]
    for workers in WORKERS:
        assert lines.count(str(workers)) == 2, "with one feed, and with several"
    for rate in TARGETS:
        assert lines.count(f"{rate:,}") == 1
