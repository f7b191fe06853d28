"""The endpoint's throttle as the partner sees it: two worker processes keep one Retry-After and one
rate limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pymongo
import pytest

from app.testbed.embedded.stack import Stack
from tests.acceptance.conftest import PATIENT
from tests.support.wait import wait_until

RATE = 50
"""Requests a second."""
TRAVEL_SECONDS = 1.0
"""A request may arrive so much later than it was let go: the machine stood still meanwhile."""


@pytest.fixture
def limited(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """A stack whose feed has a rate limit."""
    options = f'rate_limit = "{RATE}/second"'
    with Stack(
        tmp_path,
        gap_timeout="10s",
        partner_timeout="30s",
        partner_options=options,
        settings={**PATIENT, **shared_ledger},
    ) as running:
        yield running


def _ask(stack: Stack, page: str) -> Any:
    with stack.partner() as partner:
        return partner.get(f"/_simulator/{page}").json()


def _set_faults(stack: Stack, **faults: Any) -> None:
    with stack.partner() as partner:
        partner.put("/_simulator/faults", json=faults).raise_for_status()


def _delivered(stack: Stack) -> int:
    with pymongo.MongoClient[dict[str, object]](stack.mongo_url) as client:
        return client.get_default_database()["deliveries"].count_documents({"state": "delivered"})


def _most_in_a_second(arrivals: list[float]) -> int:
    most = start = 0
    for end, arrival in enumerate(arrivals):
        while arrival - arrivals[start] >= 1:
            start += 1
        most = max(most, end - start + 1)
    return most


def test_a_retry_after_holds_every_worker_and_loses_nothing(patient: Stack) -> None:
    stack, first, rows = patient, 200, 800
    stack.start_beat()
    stack.start_worker()
    stack.start_worker()
    stack.start_generator(first)
    wait_until(lambda: _delivered(stack) == first, timeout=60, message="both workers to be warm")
    _set_faults(stack, statuses={429: 1}, retry_after="5", limit=1)
    stack.start_generator(rows - first, rate=300)
    wait_until(
        lambda: _ask(stack, "counts")["by_status"].get("429"), timeout=30, message="the one 429"
    )
    wait_until(lambda: _delivered(stack) == rows, timeout=60, message="every row to be delivered")

    arrivals = _ask(stack, "arrivals")
    quiet, began = max((later - earlier, earlier) for earlier, later in pairwise(arrivals))
    assert quiet >= 5 - TRAVEL_SECONDS, f"the longest quiet was {quiet:.2f} s, from {began}"
    counts = _ask(stack, "counts")
    assert (counts["unique"], counts["duplicates"], counts["by_status"]["429"]) == (rows, 0, 1)


def test_two_workers_together_keep_the_rate_limit(limited: Stack) -> None:
    rows = 6 * RATE
    limited.start_beat()
    limited.start_worker()
    limited.start_worker()
    limited.start_generator(rows)
    wait_until(lambda: _delivered(limited) == rows, timeout=90, message="every row to be delivered")

    arrivals = _ask(limited, "arrivals")
    took = arrivals[-1] - arrivals[0]
    assert len(arrivals) == rows
    assert rows <= RATE * (took + TRAVEL_SECONDS), "the limit, and what came late at the start"
    assert _most_in_a_second(arrivals) <= 1.3 * RATE, (
        "what came late is in one second with what came in time"
    )
    assert took < 60, "and the limit is used"
