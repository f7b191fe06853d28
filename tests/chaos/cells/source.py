"""Faults of the source."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.chaos.cells.cell import Cell
from tests.chaos.scene import Scene
from tests.support.wait import wait_until


def source_slow(scene: Scene) -> None:
    """Every page of the source takes three seconds, all the time."""
    scene.start_rows()
    scene.start_doomed_worker("slow-source", 3)
    scene.fault_is_over()


def source_away(scene: Scene) -> None:
    """The source cannot be opened for a while. Who writes to it has it open already."""
    scene.start_rows()
    wait_until(lambda: scene.in_source() > 0, timeout=60, message="the first rows")
    hidden = scene.stack.directory / "hidden"
    hidden.mkdir()
    for path in _source_files(scene):
        shutil.move(path, hidden / path.name)
    scene.stack.start_worker()
    time.sleep(4)  # the outage itself
    for path in list(hidden.iterdir()):
        shutil.move(path, scene.stack.directory / path.name)
    scene.fault_is_over()


def _source_files(scene: Scene) -> list[Path]:
    return list(scene.stack.directory.glob(f"{scene.stack.database.name}*"))


CELLS = (
    Cell("source slow", "all the time", source_slow),
    Cell("source unreachable", "at the start", source_away),
)
