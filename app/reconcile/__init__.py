"""Reconciles a feed: looks up each source row's delivery, logs what is missing, and certifies what
became of every row.

The scan covers what the cursor has read, from above the purge watermark up to the cursor's position
when the scan began (P), a window at a time, in the cursor's own order. Nothing is locked and
nothing waits: polls and deliveries go on. The sums are right all the same:

- each row is counted once, in the state that its delivery had when its window was compared. The sum
  balances by construction: a row adds one to the source's rows and one to a state, or is missing;
- a row at or below P was logged before the cursor reached P. So a row without a delivery is
  missing, except

  1. a row in an open gap: the cursor itself still asks for it. The gaps are read after the
     deliveries, and then the deliveries again, because a poll logs a late row before it closes its
     gap;
  2. a row whose delivery was purged. The purge watermark is read last, because it is raised before
     a record goes;

- missing rows are read whole from the source by key, and logged as a poll would log them (see
  `app.intake.intake`): under the id that the row always has, so that logging it twice changes
  nothing;
- a row that is updated meanwhile may move from the scanned range to above P. A poll reads it there.

A reconciliation may die anywhere. What it logged is in the ledger; the next run continues from the
window saved last, or begins anew, and finds those rows.

Finally the deliveries are compared with the source, but only where their number shows that some
have no row: a deleted row is no loss, and is counted by the state of its delivery.
"""

from __future__ import annotations

from app.reconcile.reconciling import Reconciling
from app.reconcile.run import Progress, Since

__all__ = ["Progress", "Reconciling", "Since"]
