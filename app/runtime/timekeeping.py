"""Sets this process's clock (`app.core.clock`) by the ledger server's, every few seconds."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from app.core.errors import RowrelayError
from app.ledger import Ledger

ASK_SECONDS = 5.0
"""How often to ask the server. After a sleep, a machine's clock is wrong for no longer."""


class Timekeeper:
    """Asks periodically, on one event loop."""

    def __init__(self, ledger: Ledger, pause_seconds: float = ASK_SECONDS) -> None:
        self._ledger = ledger
        self._pause = pause_seconds
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask now, then periodically. Raises the ledger's errors if the first question fails."""
        await self._ledger.read_clock()
        self._asking = asyncio.create_task(self._ask_on())

    async def close(self) -> None:
        """Stop asking."""
        while (
            self._asking is not None and not self._asking.done()
        ):  # PyMongo can swallow a cancelling
            self._asking.cancel()
            await asyncio.wait({self._asking}, timeout=0.1)

    async def _ask_on(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            with suppress(RowrelayError):  # the clock counts on by itself
                await self._ledger.read_clock()
