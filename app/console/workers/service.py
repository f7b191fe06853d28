"""Workers, beat and watchdogs: who was heard of, and whether they make progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.configuration.loaded import Loaded
from app.console.security.roles import Permission, Principal
from app.console.snapshot import Snapshot
from app.core.clock import Clock, utc_now
from app.ledger.heartbeats import Configured
from app.reads.processes import Process, read_processes
from app.runtime.operator import Operator


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of them."""

    at: datetime
    processes: Sequence[Process]
    configured: Configured
    """What the console itself goes by."""


class Workers:
    """Reads heartbeats, once for all who look."""

    def __init__(self, loaded: Loaded, operator: Operator, now: Clock = utc_now) -> None:
        self._loaded = loaded
        self._operator = operator
        self._now = now
        self._snapshot: Snapshot[Heard] = Snapshot(self._read)

    async def close(self) -> None:
        """Stop what is being read."""
        await self._snapshot.close()

    async def heard(self, actor: Principal) -> Heard:
        """Those heard of within the last hour, by role and name. Raises `Forbidden`, and the ledger's
        errors."""
        actor.require(Permission.LOOK)
        return await self._snapshot.get()

    async def _read(self) -> Heard:
        found = await read_processes(self._operator.ledger, self._loaded.current, self._now())
        return Heard(self._now(), found, self._loaded.told())
