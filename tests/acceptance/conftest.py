"""A whole system a test: embedded servers, a simulated partner, real worker and beat processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from app.testbed.embedded.stack import Stack

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 600
"""Above all that one test waits for: on a busy machine its own message says what did not come."""
PATIENT = {"LEASE": "60s"}
"""Settings with which no lease runs out because a machine stood still."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture
def shared_ledger(bare_database_url: str) -> Mapping[str, str]:
    """Settings of a stack whose ledger is on the run's one MongoDB, in a database of its own: a server
    for each test would take a second of the processor.
    """
    return {"MONGO_URL": bare_database_url}


@pytest.fixture
def stack(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """Servers and a faultless partner; the test starts workers and beat."""
    with Stack(tmp_path, gap_timeout="10s", settings=shared_ledger) as running:
        yield running


@pytest.fixture
def patient(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Stack]:
    """As `stack`, for a test that counts requests and kills no worker: none is made twice for want
    of time.
    """
    settings = {**PATIENT, **shared_ledger}
    with Stack(tmp_path, gap_timeout="10s", partner_timeout="30s", settings=settings) as running:
        yield running
