"""Whether the console lives, and whether it can answer. Tells nothing of what it holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.console.store.store import Store
from app.core.errors import RowrelayError
from app.runtime.operator import Operator

WITHIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Ready:
    """Server → whether it answers."""

    database: bool
    ledger: bool

    @property
    def ready(self) -> bool:
        """Whether pages can be answered."""
        return self.database and self.ledger


class Health:
    """Asks what the console needs."""

    def __init__(self, store: Store, operator: Operator) -> None:
        self._store = store
        self._operator = operator

    async def ready(self) -> Ready:
        """Ask database and ledger, for `WITHIN_SECONDS` at most. Never raises."""
        database, ledger = await asyncio.gather(self._answers(), self._ledger_answers())
        return Ready(database, ledger)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                await self._store.ready()
        except (RowrelayError, TimeoutError):
            return False
        return True

    async def _ledger_answers(self) -> bool:
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                await self._operator.ledger.read_clock()
        except (RowrelayError, TimeoutError):
            return False
        return True
