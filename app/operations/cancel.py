"""Cancel: takes `queued` and `retrying` deliveries off their way.

What a worker has loaded by then it sends all the same: a success makes it `delivered`, since the
partner has the row; a failure is on record, and it stays cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.core.clock import Clock, utc_now
from app.core.states import State
from app.ledger import Ledger
from app.ledger.persistence import persistent
from app.ledger.picking import Picked
from app.ledger.selection import Selection
from app.ledger.stamp import Stamp
from app.operations.account import CHANGED, CHUNK_LIMIT, Account, Preview, Tell, account_of, waits
from app.operations.by import By


class Cancelling:
    """Cancels for one operator."""

    def __init__(
        self,
        ledger: Ledger,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._sleep = sleep

    async def preview(self, selection: Selection) -> Preview:
        """Count what a cancel of the selection would move and skip, and move nothing. Raises the
        ledger's errors.
        """
        counted = await self._ledger.selections.counts(selection)
        return Preview(await account_of(self._ledger, selection, counted), counted)

    async def cancel(self, selection: Selection, by: By, tell: Tell = lambda *_: None) -> Account:
        """Move the selected deliveries to `cancelled`, recorded as done by `by`.

        Deliveries move between `queued` and `retrying` meanwhile, so both are gone through until a
        round finds none. Raises the ledger's errors; running it again goes on.
        """
        with persistent(sleep=self._sleep):
            account = (await self.preview(selection)).account
        movable, stamp, before = account.movable, by.at(self._now()), -1
        with persistent(sleep=self._sleep, tell=waits(account, tell)):
            while account.moved > before:
                before = account.moved
                for state in selection.states:
                    await self._cancel_state(selection, state, stamp, account, tell)
        account.leave(CHANGED, movable - account.moved)
        return account

    async def _cancel_state(
        self, selection: Selection, state: State, stamp: Stamp, account: Account, tell: Tell
    ) -> None:
        after: Picked | None = None
        while picked := await self._ledger.selections.to_cancel(
            selection, state, stamp.at, after, CHUNK_LIMIT
        ):
            after = picked[-1]
            ids = [one.id for one in picked]
            for feed in {one.feed for one in picked}:  # under the moment at which the cancel began
                await self._ledger.counts.mark(feed, [stamp.at], self._now())
            batches = {one.batch for one in picked if one.batch}
            if batches:  # first: who has its rows in memory is to read them anew
                await self._ledger.batches.note_changed(batches)
            account.moved += await self._ledger.selections.cancel(selection, state, ids, stamp)
            await self._ledger.selections.let_go(
                ids, batches - await self._ledger.batches.held(batches)
            )
            tell(account.moved, "")
