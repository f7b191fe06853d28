"""Faults of the source."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path

from app.testbed.embedded.source import connect
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


def rows_large(scene: Scene) -> None:
    """Rows of 0.9 MB, together several times what the worker may have in hand, among rows of the
    usual size. It is killed among them; the one after it must not take more memory than it may.
    """
    scene.start_rows()
    write_large_rows(
        scene, LARGE_ROWS
    )  # after: the generator writes as many as the scene has by then
    worker = scene.stack.start_worker()
    wait_until(
        lambda: scene.delivered() >= LARGE_ROWS // 3, scene.patience, "a third of the large rows"
    )
    scene.kill(worker)
    worker = scene.stack.start_worker()
    wait_until(
        lambda: scene.delivered() >= LARGE_ROWS,
        scene.patience,
        "as many rows as there are large ones",
    )
    if (peak := _peak_bytes(worker.pid)) > MEMORY_ALLOWED:
        raise AssertionError(f"the worker took {peak / 2**20:.0f} MiB")
    scene.fault_is_over()


def write_large_rows(scene: Scene, count: int) -> None:
    """Write them in one transaction; they count among the scene's rows."""
    with closing(connect(scene.stack.database)) as source:
        source.execute("BEGIN")
        rows = (
            ("c", 1, f"{number}" + "x" * 900_000, "2026-01-01 10:00:00") for number in range(count)
        )
        source.executemany(
            "INSERT INTO orders (customer, amount, note, created_at) VALUES (?, ?, ?, ?)", rows
        )
        source.execute("COMMIT")
    scene.rows += count


def _peak_bytes(pid: int) -> int:
    """The most memory that a process ever had resident; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _source_files(scene: Scene) -> list[Path]:
    return list(scene.stack.directory.glob(f"{scene.stack.database.name}*"))


LARGE_ROWS = 240
MEMORY_ALLOWED = 350 * 2**20
"""Bytes resident, for a worker that may have 64 MiB of rows in hand: some 100 MiB are Python and
what it has loaded.
"""

CELLS = (
    Cell("rows of 0.9 MB", "worker killed", rows_large, settings={"MEMORY_BUDGET": "64MiB"}),
    Cell("source slow", "all the time", source_slow),
    Cell("source unreachable", "at the start", source_away),
)
