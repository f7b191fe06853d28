"""Sees to it that events are looked for, where nobody else does.

The installation looks for them where `NOTIFY_…` is set: beat has a worker check. It records them in the
ledger, from which users are told. Where it is not set, the console makes the very same check, by the same
turns in the ledger, so that two never make it at once. A console that does not know of the installation's
ways of sending must not take its turns: it begins after `AFTER` without a check, longer than beat and
workers wait, and goes on for as long as nobody else checks.
"""

from __future__ import annotations

from datetime import datetime

from app.core.clock import Clock, utc_now
from app.ledger import Ledger
from app.notifications.notify import CHECK_EVERY, STAND_IN_AFTER, Notifying

AFTER = 2 * STAND_IN_AFTER


class Detection:
    """Looks for events in the installation's place."""

    def __init__(self, ledger: Ledger, notifying: Notifying, now: Clock = utc_now) -> None:
        self._ledger = ledger
        self._notifying = notifying
        self._now = now
        self._mine: datetime | None = None
        """When this console made the last check."""

    async def check(self) -> bool:
        """Look, if nobody else does; returns whether it did. Raises the ledger's errors."""
        last = await self._ledger.notifications.looked_at()
        alone = last is not None and last == self._mine
        if not await self._notifying.check_if_due(CHECK_EVERY / 2 if alone else AFTER):
            return False
        self._mine = await self._ledger.notifications.looked_at()
        return True
