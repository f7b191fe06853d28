"""The matrix: each fault at each moment, as a function of a scene; a file for each server."""

from __future__ import annotations

from tests.chaos.cells import broker, elections, ledger, machine, partner, source, workers
from tests.chaos.cells.cell import Cell

__all__ = ["CELLS", "Cell"]

CELLS: tuple[Cell, ...] = (
    *workers.CELLS,
    *broker.CELLS,
    *ledger.CELLS,
    *elections.CELLS,
    *source.CELLS,
    *partner.CELLS,
    *machine.CELLS,
)
