"""Rows that this process has logged and may send itself: kept in memory for a while, so that they
need not be read back from the ledger.

They are bounded by a lane of the process's budget of their own, and nothing depends on them: what
was not kept, or is no longer as it was logged, is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.core.batches import Batch, NewBatch
from app.core.budget import Budget, Reservation, cost, once
from app.core.clock import Clock
from app.core.deliveries import Delivery
from app.core.rows import LoggedRows

KEPT_FOR = timedelta(seconds=30)
"""What nobody here has claimed by then, another worker has."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of one batch."""

    batch: NewBatch
    logged: LoggedRows
    reserved: Reservation

    def deliveries(self) -> list[Delivery]:
        """As they would be loaded, if nothing has moved them since. They are no longer kept then."""
        feed, logged_at = self.batch.feed, self.logged.at
        deliveries = [
            Delivery(known_as, feed, row.key, row.payload, logged_at)
            for known_as, row in zip(self.batch.delivery_ids, self.logged.rows, strict=True)
        ]
        self.reserved.release()
        return deliveries


class KeptRows:
    """Those of one process. Used on its event loop."""

    def __init__(self, budget: Budget, now: Clock) -> None:
        self._budget = budget
        self._now = now
        self._of: dict[str, Kept] = {}
        """Batch id → its rows; the oldest first."""

    def keep(self, batch: NewBatch, logged: LoggedRows) -> None:
        """Keep the rows of a batch that was logged a moment ago, if there is memory for them. A
        batch of large rows is not kept: it is loaded in portions.
        """
        self._drop_old()
        content, rows = batch.content_bytes, batch.rows
        if content is None or cost(content, rows) > self._budget.portion:
            return
        reserved = self._budget.keeping(batch.feed)
        if reserved.take(once(content, rows)):
            self._of[batch.id] = Kept(batch, logged, reserved)

    def take(self, batch: Batch) -> Kept | None:
        """What is kept of a batch that was claimed. `None`: nothing is, or somebody has changed or
        held it since.
        """
        kept = self._of.pop(batch.id, None)
        if kept and not batch.as_logged:
            kept.reserved.release()
            return None
        return kept

    def _drop_old(self) -> None:
        before = self._now() - KEPT_FOR
        while self._of and (oldest := next(iter(self._of.values()))).logged.at < before:
            oldest.reserved.release()
            del self._of[oldest.batch.id]
