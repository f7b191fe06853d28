"""SIGTERM: claims stop, requests in flight end, and the rest goes to another worker at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pymongo
import pytest

from app.testbed.embedded.stack import Stack
from tests.support.wait import wait_until

ROWS = 500
IN_FLIGHT = 20
_CAP = f"concurrency = {IN_FLIGHT}"
LEASE_SECONDS = 60
ANSWER_SECONDS = 100


@pytest.fixture
def patient(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """A stack with a long lease and a slow sweep, so that neither can be what brings the rest back."""
    settings = {"LEASE": f"{LEASE_SECONDS}s", "SWEEP_EVERY": "60s", "SHUTDOWN_GRACE": "20s"}
    with Stack(
        tmp_path,
        gap_timeout="10s",
        partner_timeout="30s",
        partner_options=_CAP,
        settings={**settings, **shared_ledger},
    ) as running:
        yield running


@pytest.fixture
def hasty(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """A stack whose workers wait for requests in flight for far less than an answer takes."""
    settings = {"LEASE": f"{2 * LEASE_SECONDS}s", "SWEEP_EVERY": "60s", "SHUTDOWN_GRACE": "3s"}
    timeout = f"{2 * ANSWER_SECONDS}s"
    with Stack(
        tmp_path,
        gap_timeout="10s",
        partner_timeout=timeout,
        partner_options=_CAP,
        settings={**settings, **shared_ledger},
    ) as running:
        yield running


def _counts(stack: Stack) -> dict[str, Any]:
    with stack.partner() as partner:
        answer: dict[str, Any] = partner.get("/_simulator/counts").json()
        return answer


def _slow(stack: Stack, **faults: Any) -> None:
    with stack.partner() as partner:
        partner.put(
            "/_simulator/faults", json={"slow": 1, "slow_seconds": [0.3, 0.6], **faults}
        ).raise_for_status()


def _delivered(stack: Stack) -> int:
    with pymongo.MongoClient[dict[str, object]](stack.mongo_url) as client:
        return client.get_default_database()["deliveries"].count_documents({"state": "delivered"})


def test_the_rest_of_a_stopped_worker_goes_to_another_at_once_and_nothing_twice(
    patient: Stack,
) -> None:
    _slow(patient)
    patient.start_beat()
    first = patient.start_worker()
    patient.start_generator(ROWS)
    wait_until(lambda: _counts(patient)["requests"] > 100, timeout=60, message="rows under way")
    second = patient.start_worker()
    wait_until(
        lambda: " ready." in second.log.read_text(encoding="utf-8"),
        timeout=30,
        message="the second worker",
    )
    first.signal(signal.SIGTERM)
    stopped_at = time.monotonic()
    wait_until(lambda: not first.alive, timeout=LEASE_SECONDS / 2, message="the first worker's end")
    assert first.returncode == 0
    wait_until(
        lambda: _delivered(patient) == ROWS,
        timeout=LEASE_SECONDS / 2,
        message="the second to deliver the rest",
    )
    assert time.monotonic() - stopped_at < LEASE_SECONDS / 2
    counts = _counts(patient)
    assert (counts["requests"], counts["unique"], counts["duplicates"]) == (ROWS, ROWS, 0)
    assert "Traceback" not in first.log.read_text(encoding="utf-8")


def test_requests_that_do_not_end_within_the_grace_are_on_record_as_unknown(hasty: Stack) -> None:
    _slow(hasty, slow_seconds=[ANSWER_SECONDS, ANSWER_SECONDS])
    hasty.start_beat()
    worker = hasty.start_worker()
    hasty.start_generator(ROWS)
    wait_until(
        lambda: _counts(hasty)["requests"] >= IN_FLIGHT, timeout=60, message="rows under way"
    )
    assert worker.stop(timeout=0.6 * ANSWER_SECONDS) == 0, (
        "it waited for the grace of 3 s, not for the answers"
    )
    with pymongo.MongoClient[dict[str, Any]](hasty.mongo_url) as client:
        ledger = client.get_default_database()
        cut_off = {"outcome": "unknown", "error": {"$regex": "^Shutdown"}}
        assert ledger["attempts"].count_documents(cut_off) == IN_FLIGHT
        assert ledger["batches"].count_documents({"lease": {"$ne": None}}) == 0
