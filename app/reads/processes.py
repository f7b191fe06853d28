"""Workers, beat and watchdogs: what each said last, and how that is judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.configuration.configured import Own
from app.ledger import Ledger
from app.ledger.heartbeats import KEPT, Heartbeat, Role
from app.monitoring.health import Bounds, Health, judge_process
from config import Config


@dataclass(frozen=True, slots=True)
class Process:
    """One of them."""

    heartbeat: Heartbeat
    health: Health


async def read_processes(ledger: Ledger, loaded: Config, now: datetime) -> list[Process]:
    """Those that were heard of within `KEPT`, by role and name; of watchdogs, those whose checks
    fail. Raises the ledger's errors.
    """
    bounds, own = Bounds.of(loaded.feeds.values(), loaded.settings), Own.of(loaded)
    found = [
        Process(one, judge_process(one, bounds, now, own))
        for one in await ledger.heartbeats.since(now - KEPT)
    ]
    return [one for one in found if one.heartbeat.role is not Role.WATCH or not one.health.ready]
