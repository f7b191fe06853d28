"""A real worker that may not open as many files as its feeds want: it sends less at once, says so,
and no row pays.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pymongo
import pytest

from app.testbed.embedded.stack import Stack
from tests.support.command import command
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
ROWS = 200
LIMIT = 80
"""Some 54 are open before a row is sent."""


@pytest.fixture
def wide(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """A feed that wants 100 requests at once."""
    with Stack(
        tmp_path,
        gap_timeout="10s",
        partner_timeout="60s",
        partner_options="concurrency = 100",
        settings=shared_ledger,
    ) as running:
        yield running


def test_what_does_not_fit_is_sent_later_and_costs_no_attempt(wide: Stack) -> None:
    with wide.partner() as partner:
        partner.put(
            "/_simulator/faults", json={"slow": 1, "slow_seconds": [0.3, 0.6]}
        ).raise_for_status()
    wide.start_generator(ROWS)
    worker = wide.start_worker()
    resource.prlimit(
        worker.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT)
    )  # long before it has imported itself
    wide.start_beat()
    with pymongo.MongoClient[dict[str, Any]](wide.mongo_url) as client:
        ledger = client.get_default_database()
        wait_until(
            lambda: ledger["deliveries"].count_documents({"state": "delivered"}) == ROWS,
            timeout=300,
            message="every row to arrive",
        )
        assert ledger["attempts"].count_documents({}) == ROWS
    assert worker.alive
    assert f"may have {LIMIT} file descriptors and needs" in worker.log.read_text(encoding="utf-8")
    health = command(wide.environment, "health", "--json")
    said = {check["role"]: check["found"] for check in json.loads(health.stdout)["checks"]}
    assert f"may have {LIMIT} file descriptors" in said["worker"]
