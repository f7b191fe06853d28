"""Faults of the partner."""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import Any

from tests.chaos.cells.cell import Cell
from tests.chaos.scene import Scene
from tests.support.wait import wait_until


def partner_away(scene: Scene) -> None:
    """Nobody listens at the partner's address for a while. (What it saw before is forgotten: killed
    before any row.)
    """
    scene.start_rows()
    scene.stack.partner_process.kill()
    scene.kills += 1
    scene.stack.start_worker()
    time.sleep(4)  # the outage itself
    scene.stack.restart_partner()
    scene.fault_is_over()


def partner_misbehaves(scene: Scene, **rates: Any) -> None:
    """The partner does one thing wrong for a share of the requests, for eight seconds."""
    scene.start_rows()
    scene.faults(**rates)
    scene.stack.start_worker()
    time.sleep(8)  # the outage itself
    scene.faults()
    scene.fault_is_over()


SILENT = """
[feeds.silent]
table = "orders"
key = "id"
cursor = {{ strategy = "identity", column = "id" }}
poll_every = "1s"
partner = {{ url = "http://127.0.0.1:{port}/", timeout = "1h" }}
"""


def silent_beside(scene: Scene) -> None:
    """Another feed has the same rows to send, and a partner that takes each and never answers; a
    worker that is full of them is killed, and another takes over."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as silent:
        feeds = scene.stack.directory / "feeds.toml"
        feeds.write_text(
            feeds.read_text(encoding="utf-8") + SILENT.format(port=silent.getsockname()[1])
        )
        assert scene.stack.beat is not None
        scene.stack.beat.stop(timeout=5)
        scene.stack.start_beat()  # it is to poll both
        worker = scene.let_rows_flow()
        leased = {"feed": "silent", "lease": {"$ne": None}}
        batches = scene.client.get_default_database()["batches"]
        wait_until(
            lambda: batches.count_documents(leased) > 0, scene.patience, "rows that nobody answers"
        )
        scene.kill(worker)
        scene.stack.start_worker()
        scene.fault_is_over()
        wait_until(
            lambda: scene.delivered() == scene.rows, scene.patience, "every row beside those"
        )
        assert scene.deliveries.count_documents({"feed": "silent", "state": "delivered"}) == 0


def _partner(moment: str, *, quick: bool = False, **rates: Any) -> Cell:
    return Cell("partner", moment, partial(partner_misbehaves, **rates), quick)


CELLS = (
    Cell("partner", "away", partner_away),
    Cell("partner", "of another feed silent, worker killed", silent_beside, quick=True),
    _partner("hangs", hang=0.3),
    _partner("answers 500", statuses={500: 0.5}),
    _partner("answers 429 with Retry-After", statuses={429: 0.3}),
    _partner("answers garbage", garbage=0.5),
    _partner("closes before the answer", cut=0.5),
    _partner("closes in mid-answer", cut_answer=0.5),
    _partner("answers twice", twice=0.5),
    _partner("accepts, and the answer is lost", quick=True, lost_answer=0.5),
)
