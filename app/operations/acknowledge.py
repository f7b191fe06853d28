"""Acknowledge: takes a dead letter for settled. It will not be delivered, and somebody has seen
that.

It stays dead, replay leaves it alone, and retention, which keeps every other dead letter, drops it
in time. Undoing it makes it an ordinary dead letter again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.core.clock import Clock, utc_now
from app.ledger import Ledger
from app.ledger.persistence import persistent
from app.ledger.selection import Selection
from app.operations.account import CHANGED, CHUNK_LIMIT, Account, Preview, Tell, account_of, waits
from app.operations.by import By

ACKNOWLEDGED, NOT_ACKNOWLEDGED = "acknowledged", "not acknowledged"


class Acknowledging:
    """Acknowledges dead letters for one operator, or with `undo` takes that back."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        undo: bool = False,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._undo = undo
        self._now = now
        self._sleep = sleep

    async def preview(self, selection: Selection) -> Preview:
        """Count what would change and what not, and change nothing. Raises the ledger's errors."""
        counted = await self._ledger.selections.counts(selection)
        account = await account_of(self._ledger, selection, counted)
        for group in counted:
            if group.acknowledged is not self._undo:
                account.skipped[NOT_ACKNOWLEDGED if self._undo else ACKNOWLEDGED] += group.count
        return Preview(account, counted)

    async def acknowledge(
        self, selection: Selection, by: By, tell: Tell = lambda *_: None
    ) -> Account:
        """Take the selected dead letters for settled, or no longer, recorded as done by `by`.

        Raises the ledger's errors; running it again goes on.
        """
        with persistent(sleep=self._sleep):
            account = (await self.preview(selection)).account
        movable, stamp, after = account.movable, by.at(self._now()), None
        selections, undo = self._ledger.selections, self._undo
        with persistent(sleep=self._sleep, tell=waits(account, tell)):
            while picked := await selections.to_acknowledge(
                selection, stamp.at, after, CHUNK_LIMIT, undo=undo
            ):
                after = picked[-1]
                account.moved += await selections.acknowledge(
                    selection, [one.id for one in picked], stamp, undo=undo
                )
                tell(account.moved, "")
        account.leave(CHANGED, movable - account.moved)
        return account
