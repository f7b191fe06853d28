"""The quick part of the fault matrix (`scripts/chaos --all` runs all of it)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.chaos.cells import CELLS, Cell
from tests.chaos.run import run_cell

ROWS = 300
"""Half of what `scripts/chaos` takes: enough for the fault to meet rows under way."""


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.quick], ids=lambda cell: cell.name)
def test_every_promise_holds_through(
    cell: Cell, tmp_path: Path, shared_ledger: Mapping[str, str]
) -> None:
    if reason := cell.missing():
        pytest.skip(reason)
    books = run_cell(cell, tmp_path, rows=ROWS, settings=shared_ledger)
    assert books.wrong == ()
