"""Faults of a ledger on one server."""

from __future__ import annotations

import time
from typing import Any

import pymongo

from app.testbed.embedded.mongod import find_primary, wait_for_primary
from tests.chaos.cells.cell import Cell
from tests.chaos.replica_set import why_not
from tests.chaos.scene import Scene


def ledger_killed(scene: Scene) -> None:
    """The ledger's server is killed and away for a while. It comes back with what it confirmed."""
    scene.let_rows_flow()
    scene.kill_and_restart(scene.stack.mongo)


def ledger_slow(scene: Scene) -> None:
    """The ledger's server gets a tenth of the time: frozen and let go again, for ten seconds."""
    scene.let_rows_flow()
    for _ in range(20):
        scene.freeze(scene.stack.mongo.process, 0.45)
        time.sleep(0.05)  # what it gets
    scene.fault_is_over()


def ledger_read_only(scene: Scene) -> None:
    """The ledger's only server steps down, and refuses every write until it elects itself again."""
    scene.let_rows_flow()
    ledger = scene.stack.mongo
    with pymongo.MongoClient[dict[str, Any]](ledger.admin_url) as client:
        client.admin.command("replSetStepDown", 5, force=True)
    assert find_primary([ledger.port]) is None, "it takes writes: the cell tells nothing"
    wait_for_primary([ledger.port])
    scene.fault_is_over()


CELLS = (
    Cell("ledger killed", "under load", ledger_killed),
    Cell("ledger slow", "10 s", ledger_slow),
    Cell("ledger read-only", "5 s", ledger_read_only, missing=why_not),
)
