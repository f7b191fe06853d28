"""Faults of the machine that workers run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.chaos.cells.cell import Cell
from tests.chaos.scene import Scene


def logs_full(scene: Scene) -> None:
    """The worker's log is on a full disk, all the time."""
    scene.start_rows()
    with _logging_to(scene, Path("/dev/full")):
        scene.stack.start_worker()
    scene.fault_is_over()


@contextmanager
def _logging_to(scene: Scene, path: Path) -> Iterator[None]:
    scene.stack.log_to = path
    yield
    scene.stack.log_to = None


def clock_jumps(scene: Scene, seconds: float, moment: str = "clock") -> None:
    """Of two workers, one is on a machine whose clock jumps."""
    scene.start_rows()
    scene.start_doomed_worker(moment, int(seconds))
    scene.stack.start_worker()
    scene.wait_for_share(0.5)
    scene.fault_is_over()


def clock_of_the_only_worker(scene: Scene, seconds: float) -> None:
    """There is one worker, and its machine's clock is wrong from the start to the end."""
    scene.start_rows()
    scene.start_doomed_worker("clock", int(seconds))
    scene.wait_for_share(0.5)
    scene.fault_is_over()


CELLS = (
    Cell("disk full", "for the worker's log", logs_full, quick=True),
    Cell("clock jumps", "an hour ahead", partial(clock_jumps, seconds=3600)),
    Cell("clock jumps", "an hour back", partial(clock_jumps, seconds=-3600)),
    Cell("clock jumps", "to and fro", partial(clock_jumps, seconds=3600, moment="restless-clock")),
    Cell(
        "clock wrong",
        "by 100 days",
        partial(clock_of_the_only_worker, seconds=100 * 86400),
        quick=True,
    ),
)
