"""The quick part of the fault matrix (`scripts/chaos --all` runs all of it)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cells import CELLS, Cell
from tests.chaos.run import run_cell


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.quick], ids=lambda cell: cell.name)
def test_every_promise_holds_through(cell: Cell, tmp_path: Path) -> None:
    if reason := cell.missing():
        pytest.skip(reason)
    books = run_cell(cell, tmp_path)
    assert books.wrong == ()
