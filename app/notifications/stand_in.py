"""Makes the checks for notifications when workers do not: a thread in beat, and in each worker.

Beat has a worker check every half minute. When no check is made, because no worker runs, all are
stuck, or beat is, the first of these threads to notice makes it. The thread has an event loop and
connections of its own, so that it can report a worker whose loop or consumer is stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog

from app.core.errors import RowrelayError
from app.core.loop_thread import LoopThread
from app.notifications.notify import STAND_IN_AFTER, Notifying

log = structlog.get_logger()

Open = Callable[[], AbstractAsyncContextManager[Notifying]]
"""Opens the clients for a check, on the calling event loop."""


class StandIn:
    """Asks now and then whether checks are made."""

    def __init__(
        self, open_notifying: Open, pause: timedelta, after: timedelta = STAND_IN_AFTER
    ) -> None:
        """`pause`: between two questions. `after`: how long there may be no check."""
        self._open = open_notifying
        self._pause = pause.total_seconds()
        self._after = after
        self._thread = LoopThread("rowrelay-stand-in", self._attend)

    def start(self) -> None:
        """Begin. Returns at once; no server need be reachable yet."""
        self._thread.start()

    def stop(self) -> None:
        """End. Waits a few seconds at most."""
        self._thread.stop()

    async def _attend(self, thread: LoopThread) -> None:
        while not thread.ending:
            await thread.rest(self._pause)
            if not thread.ending:
                await self._check()

    async def _check(self) -> None:
        """Open clients each time, with the current configuration: a connection would idle for half
        a minute.
        """
        try:
            async with self._open() as notifying:
                if await notifying.check_if_due(self._after):
                    log.warning("stood_in", reason="nobody looked what people must be told of")
        except RowrelayError as error:
            log.debug("stand_in_failed", error=str(error))
        except Exception as error:  # it must go on
            log.exception("stand_in_failed", kind=type(error).__name__)
