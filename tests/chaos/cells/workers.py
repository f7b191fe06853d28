"""Faults of workers and of beat."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

from tests.chaos.cells.cell import Cell
from tests.chaos.scene import Scene
from tests.support.wait import wait_until


def worker_dies(scene: Scene, moment: str, number: int) -> None:
    """The only worker kills itself at the moment; then another starts.

    Rows begin once it takes messages: of those that are there before it, one poll makes one page,
    and the second page at which it is to die would never come.
    """
    worker = scene.start_doomed_worker(moment, number)
    scene.wait_for_ready(worker)
    scene.start_rows()
    scene.wait_for_death(worker)
    scene.stack.start_worker()
    scene.fault_is_over()


def worker_killed_again_and_again(scene: Scene) -> None:
    """Three workers in a row, each killed after a few rows, wherever they are."""
    scene.start_rows()
    for share in (0.1, 0.3, 0.5):
        worker = scene.stack.start_worker()
        scene.wait_for_share(share)
        scene.kill(worker)
    scene.stack.start_worker()
    scene.fault_is_over()


def worker_frozen(scene: Scene) -> None:
    """A worker is frozen for longer than its leases, while another takes its batches over; then it
    goes on.
    """
    scene.faults(slow=1, slow_seconds=[0.2, 0.4])
    scene.start_rows()
    frozen = scene.stack.start_worker()
    scene.wait_for_share(0.1)
    frozen.signal(signal.SIGSTOP)
    scene.stack.start_worker()
    time.sleep(8)  # longer than the lease of 5 s
    scene.faults()
    os.kill(frozen.pid, signal.SIGCONT)
    wait_until(lambda: frozen.alive, timeout=5, message="the frozen worker")
    scene.fault_is_over()


def beat_killed(scene: Scene) -> None:
    """Beat is killed and away for a while."""
    scene.let_rows_flow()
    beat = scene.stack.beat
    assert beat is not None
    scene.kill(beat)
    time.sleep(3)  # the outage itself
    scene.stack.start_beat()
    scene.fault_is_over()


def two_beats(scene: Scene) -> None:
    """Two beats and two workers, all the time."""
    scene.start_rows()
    scene.stack.start_beat()
    scene.stack.start_worker()
    scene.stack.start_worker()
    scene.fault_is_over()


def _dies(moment: str, number: int, *, quick: bool = False) -> Cell:
    return Cell("worker killed", moment, partial(worker_dies, moment=moment, number=number), quick)


CELLS = (
    _dies("before-claim", 2),
    _dies("while-sending", 120, quick=True),
    _dies("answered-not-written", 3, quick=True),
    _dies("attempt-written-delivery-not", 3, quick=True),
    _dies("delivered-batch-not-settled", 2),
    _dies("poll-before-batches", 2),
    _dies("poll-batches-no-deliveries", 2),
    _dies("poll-logged-cursor-not", 2, quick=True),
    Cell("worker killed", "three times", worker_killed_again_and_again),
    Cell("worker frozen", "longer than its lease", worker_frozen),
    Cell("beat killed", "under load", beat_killed),
    Cell("two beats", "all the time", two_beats),
)
