"""Finds operations in bulk that are to be worked on, and works on them, several side by side.

Any process may run one of these, and several may at once: the lease in the ledger decides.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from app.core.clock import Clock, utc_now
from app.core.errors import OperationRefused, RowrelayError
from app.core.operations import WORKED_ON, Operation
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.operations.bulk_run import OperationRun, RunSettings
from app.operations.replay import Replaying

log = structlog.get_logger()

EVERY_SECONDS = 1.0
AT_MOST = 16
"""Operations that one process works on at a time: one a feed."""


class OperationRunner:
    """Works on operations of any feed."""

    def __init__(
        self,
        ledger: Ledger,
        feeds: Callable[[], Mapping[str, Feed]],
        replaying: Callable[[], Replaying],
        settings: RunSettings,
        *,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """As `OperationRun`."""
        self._ledger = ledger
        self._feeds = feeds
        self._replaying = replaying
        self._settings = settings
        self._now = now
        self._sleep = sleep

    async def watch(self) -> None:
        """Take what is to be worked on, again and again; ends when cancelled, and then gives back what
        it holds."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                running = {task for task in running if not task.done()}
                while len(running) < AT_MOST and (operation := await self._claim_or_none()):
                    running.add(asyncio.create_task(self._work(operation), name=operation.id))
                await self._sleep(EVERY_SECONDS)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def work_off(self) -> int:
        """Work on what there is to be worked on now, one after the other. Returns how many; raises the
        ledger's errors."""
        worked = 0
        while operation := await self._claim():
            await self._run(operation).work()
            worked += 1
        return worked

    async def work_on(self, operation_id: str, tell: Callable[[Operation], None]) -> Operation:
        """Work on that one, or wait for who does, until it is frozen, paused, or has ended; returns it
        then. `tell`: told of it every second. Raises `OperationRefused` for an id that is not known,
        and the ledger's errors."""
        while True:
            operation = await self._ledger.operations.get(operation_id)
            if operation is None:
                raise OperationRefused(f"no operation has the id {operation_id[:64]}", "id")
            tell(operation)
            if operation.state not in WORKED_ON:
                return operation
            if claimed := await self._claim(operation_id):
                await self._work_and_tell(claimed, tell)
            else:
                await self._sleep(EVERY_SECONDS)

    async def _work_and_tell(self, operation: Operation, tell: Callable[[Operation], None]) -> None:
        working = asyncio.create_task(self._work(operation), name=operation.id)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=EVERY_SECONDS)
                with suppress(RowrelayError):  # it is only told of
                    if found := await self._ledger.operations.get(operation.id):
                        tell(found)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _work(self, operation: Operation) -> None:
        try:
            await self._run(operation).work()
        except RowrelayError as error:
            log.warning("operation_waits", operation=operation.id, error=str(error))
        finally:
            with suppress(RowrelayError):
                await asyncio.shield(self._ledger.operations.release(operation))

    async def _claim_or_none(self) -> Operation | None:
        try:
            return await self._claim()
        except RowrelayError as error:
            log.warning("operations_not_looked_at", error=str(error))
            return None

    async def _claim(self, only: str | None = None) -> Operation | None:
        settings = self._settings
        return await self._ledger.operations.claim(
            settings.worker, secrets.token_hex(8), self._now(), settings.lease, only
        )

    def _run(self, operation: Operation) -> OperationRun:
        return OperationRun(
            operation,
            self._ledger,
            self._feeds,
            self._replaying,
            self._settings,
            now=self._now,
            sleep=self._sleep,
        )
