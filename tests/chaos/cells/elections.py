"""Faults of a ledger on a replica set of three: what an election, or the want of one, does to rows
under way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pymongo.errors import PyMongoError

from app.testbed.embedded.replica_set import Member
from tests.chaos.cells.cell import Act, Cell
from tests.chaos.replica_set import ChaosSet, Client, why_no_disk, why_not
from tests.chaos.rollback import MARKS, Marks, rolled_back
from tests.chaos.scene import Scene
from tests.support.wait import wait_until


def primary_killed(scene: Scene) -> None:
    """The primary is killed, and comes back once another is elected."""
    scene.let_rows_flow()
    primary = scene.members.wait_for_leader()
    primary.kill()
    scene.kills += 1
    scene.members.wait_for_leader(other_than=primary)
    scene.fault_is_over()
    primary.restart()
    scene.members.wait_for_all()


def primary_steps_down(scene: Scene, times: int) -> None:
    """The primary steps down, `times` times, three seconds apart."""
    scene.let_rows_flow()
    for left in reversed(range(times)):
        scene.members.step_down()
        if left:
            time.sleep(3)  # the pace of it
    scene.fault_is_over()


def primary_frozen(scene: Scene) -> None:
    """The primary is frozen until another is elected and takes writes; then it goes on, and
    believes it is primary.
    """
    scene.let_rows_flow()
    primary = scene.members.wait_for_leader()
    primary.pause()
    try:
        scene.members.wait_for_leader(other_than=primary)
        time.sleep(3)  # what the new one takes meanwhile
    finally:
        primary.resume()
    scene.fault_is_over()
    scene.members.wait_for_all()


def primary_cut_off(scene: Scene, *, from_clients: bool) -> None:
    """The primary is cut off from the other two, and from its clients too or not, until another
    takes its place.
    """
    scene.let_rows_flow()
    _isolate(scene, scene.members.wait_for_leader(), from_clients=from_clients)
    time.sleep(3)  # what the new one takes meanwhile
    _heal(scene)


def majority_lost(scene: Scene, seconds: float) -> None:
    """Both secondaries are killed: for so long there is no primary."""
    scene.let_rows_flow()
    primary = scene.members.wait_for_leader()
    lost = scene.members.others(primary)
    for member in lost:
        member.kill()
        scene.kills += 1
    until = time.monotonic() + seconds
    wait_until(
        lambda: not primary.is_primary, timeout=seconds, message="the primary to find itself alone"
    )
    time.sleep(max(0.0, until - time.monotonic()))  # the outage itself
    for member in lost:
        member.restart()
    scene.members.wait_for_leader()
    scene.fault_is_over()
    scene.members.wait_for_all()


def member_rolls_back(scene: Scene) -> None:
    """The primary goes on taking writes that no majority has, and undoes them when it is back.

    What is on a majority stays; what the workers wrote to it alone they did not take as done: the
    books show that it was written again, or the row sent again under the same key.
    """
    marks = Marks(scene.members)
    scene.faults(
        slow=1, slow_seconds=[0.5, 1.0]
    )  # so that answers come to a primary that is alone already
    scene.let_rows_flow()
    primary = scene.members.wait_for_leader()
    marks.confirm("before")
    with Client(primary.url) as alone:
        _isolate(scene, primary, from_clients=False, meanwhile=lambda: marks.leave(alone, "during"))
    marks.confirm("after")
    scene.faults()
    _heal(scene)
    wait_until(
        lambda: rolled_back(scene.members, primary),
        timeout=90,
        message="the member to undo what it alone had",
    )
    scene.members.wait_for_all()
    assert marks.found() == {"before", "after"}, (
        "what one member alone had must be gone, and all else there"
    )
    undone = rolled_back(scene.members, primary)
    assert undone[MARKS] == 1, f"the member did not undo the mark that it alone had: {undone}"
    assert undone["attempts"] + undone["batches"] + undone["deliveries"], (
        f"no write of the workers was undone, so the cell tells nothing of them: {undone}"
    )


def _isolate(
    scene: Scene,
    primary: Member,
    *,
    from_clients: bool,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Cut the primary off, and wait for another. `meanwhile`: what happens while it believes that
    it is primary.
    """
    links = scene.members.links
    for other in scene.members.others(primary):
        links.cut(primary, other)
    if from_clients:
        links.cut(primary, None)
    assert primary.is_primary, "it knows already: the cell tells nothing"
    meanwhile()
    scene.members.wait_for_leader(other_than=primary)


def _heal(scene: Scene) -> None:
    scene.members.links.heal()
    scene.fault_is_over()
    scene.members.wait_for_all()


def primary_disk_full(scene: Scene) -> None:
    """The primary's disk is full: it ends itself, another takes over, and it comes back once there
    is room.
    """
    scene.let_rows_flow()
    primary = scene.members.wait_for_leader()
    filler = primary.directory / "filler"
    _fill(filler)
    try:
        with suppress(PyMongoError), Client(primary.url) as client:
            client.admin.command(
                "fsync"
            )  # a checkpoint, which has to write; else one comes within a minute
        scene.members.wait_for_leader(other_than=primary)
        wait_until(
            lambda: not primary.process.alive,
            timeout=60,
            message="the end of the member without room",
        )
        time.sleep(3)  # what the new one takes meanwhile
    finally:
        filler.unlink()
    scene.fault_is_over()
    primary.restart()
    scene.members.wait_for_all()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            os.fsync(file.fileno())


def _of_three(fault: str, moment: str, act: Act, *, quick: bool = False) -> Cell:
    return Cell(fault, moment, act, quick, members=ChaosSet, missing=why_not)


def _linked(fault: str, moment: str, act: Act) -> Cell:
    return Cell(fault, moment, act, members=partial(ChaosSet, linked=True), missing=why_not)


CELLS = (
    _of_three("primary killed", "of three", primary_killed),
    _of_three("primary stepped down", "once", partial(primary_steps_down, times=1), quick=True),
    _of_three("primary stepped down", "five times", partial(primary_steps_down, times=5)),
    _of_three("primary frozen", "past the election", primary_frozen),
    _linked("primary cut off", "from the other two", partial(primary_cut_off, from_clients=False)),
    _linked("primary cut off", "from everybody", partial(primary_cut_off, from_clients=True)),
    _of_three("majority lost", "60 s", partial(majority_lost, seconds=60)),
    _linked("member rolls back", "after the cut", member_rolls_back),
    Cell(
        "disk full",
        "of the primary",
        primary_disk_full,
        members=partial(ChaosSet, own_disks=True),
        missing=why_no_disk,
    ),
)
