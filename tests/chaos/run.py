"""Run one cell of the matrix."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymongo

from app.embedded.stack import Stack
from tests.chaos.cells import Cell
from tests.chaos.scene import Books, Scene, balance, directory_of, recover

ROWS = 600


def run_cell(cell: Cell, root: Path) -> Books:
    """Let rows flow, let the fault happen, wait for recovery, and do the books. Raises `AssertionError`."""
    directory = directory_of(root, cell.name.replace("/", "-"))
    with (
        ExitStack() as until_end,
        Stack(directory, gap_timeout="10s", settings=cell.settings) as stack,
        pymongo.MongoClient[dict[str, Any]](stack.mongo.url, serverSelectionTimeoutMS=2000) as client,
    ):
        scene = Scene(stack, ROWS, client, until_end=until_end)
        stack.start_beat()
        if cell.rows_first:
            scene.start_rows()
        try:
            cell.act(scene)
            return balance(scene, recover(scene))
        finally:
            scene.stop_doomed()
