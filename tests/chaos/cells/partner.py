"""Faults of the partner."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from tests.chaos.cells.cell import Cell
from tests.chaos.scene import Scene


def partner_away(scene: Scene) -> None:
    """Nobody listens at the partner's address for a while. (What it saw before is forgotten: killed before any row.)"""
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


def _partner(moment: str, *, quick: bool = False, **rates: Any) -> Cell:
    return Cell("partner", moment, partial(partner_misbehaves, **rates), quick)


CELLS = (
    Cell("partner", "away", partner_away),
    _partner("hangs", hang=0.3),
    _partner("answers 500", statuses={500: 0.5}),
    _partner("answers 429 with Retry-After", statuses={429: 0.3}),
    _partner("answers garbage", garbage=0.5),
    _partner("closes before the answer", cut=0.5),
    _partner("closes in mid-answer", cut_answer=0.5),
    _partner("answers twice", twice=0.5),
    _partner("accepts, and the answer is lost", quick=True, lost_answer=0.5),
)
