"""A whole system a test: embedded servers, a simulated partner, real worker and beat processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Servers and a faultless partner; the test starts workers and beat."""
    with Stack(tmp_path, gap_timeout="10s") as running:
        yield running


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Stack]:
    """As `stack`, for a test that counts requests and kills no worker: none is made twice for want
    of time.
    """
    with Stack(tmp_path, gap_timeout="10s", partner_timeout="30s", settings=PATIENT) as running:
        yield running
