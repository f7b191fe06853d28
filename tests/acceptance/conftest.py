"""A whole system a test: embedded servers, a simulated partner, real worker and beat processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Servers and a faultless partner; the test starts workers and beat."""
    with Stack(tmp_path, gap_timeout="10s") as running:
        yield running
