"""Run one cell of the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo

from app.testbed.embedded.stack import Stack
from tests.chaos.cells import Cell
from tests.chaos.replica_set import ChaosSet
from tests.chaos.scene import Books, Scene, balance, directory_of, recover

ROWS = 600
RATE = 100.0
"""Rows a second."""
_IMPATIENT: dict[str, Any] = {
    "serverSelectionTimeoutMS": 2000,
    "connectTimeoutMS": 2000,
    "socketTimeoutMS": 10_000,
}


def run_cell(
    cell: Cell,
    root: Path,
    *,
    rows: int = ROWS,
    rate: float = RATE,
    settings: Mapping[str, str] | None = None,
) -> Books:
    """Let rows flow, let the fault happen, wait for recovery, and do the books. Raises
    `AssertionError`. `settings`: beside the cell's own; with `MONGO_URL` the ledger is there, unless the
    cell has members of its own.
    """
    directory = directory_of(root, cell.name.replace("/", "-"))
    with (
        _replica_set(cell, directory) as members,
        Stack(
            directory,
            gap_timeout="10s",
            settings={**(settings or {}), **cell.settings, **_settings(members)},
        ) as stack,
        _client(stack.variables["MONGO_URL"]) as client,
    ):
        scene = Scene(stack, rows, client, rate=rate, replica_set=members)
        stack.start_beat()
        try:
            cell.act(scene)
            return balance(scene, recover(scene))
        finally:
            scene.stop_doomed()


@contextmanager
def _replica_set(cell: Cell, directory: Path) -> Iterator[ChaosSet | None]:
    if cell.members is None:
        yield None
        return
    with cell.members(directory / "members") as members:
        yield members


def _settings(members: ChaosSet | None) -> dict[str, str]:
    return {"MONGO_URL": members.url} if members else {}


def _client(url: str) -> pymongo.MongoClient[dict[str, Any]]:
    """For the books, which go by what no election takes back."""
    return pymongo.MongoClient(url, readConcernLevel="majority", **_IMPATIENT)
