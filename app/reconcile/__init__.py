"""Reconcile a feed: look each source row's delivery up, log what is missing, and certify what became of every row.

The walk goes over what the cursor has read, from above the retention floor up to where the cursor stood when the walk
began (P), a window at a time, in the cursor's own order. Nothing is locked and nobody waits: polls and deliveries go
on. The sums are right all the same:

- each row is counted once, in the state that its delivery was in when its window was looked at. The sum balances by
  construction: a row adds one to the source's rows and one to a state, or is missing;
- a row at or below P was logged before the cursor came to P. So a row without a delivery is missing, but for

  1. a row in an open gap: the cursor itself still asks for it. The gaps are read after the deliveries were looked up,
     and the deliveries once more after the gaps, because a poll logs a late row before it closes its gap;
  2. a row whose delivery retention has purged. The floor is read last, because it is raised before a record goes;

- what is missing is read whole from the source by key, and logged as a poll would log it (see `app.intake.intake`):
  under the id that the row always has, so that logging it again, or two at once, changes nothing;
- a row that is updated meanwhile may leave what is walked for a place above P. A poll reads it there.

A reconciliation may die anywhere. What it logged is in the ledger; the next run goes on from the window that was saved
last, or begins anew, and finds those rows there.

In the end the deliveries are compared with the source, but only where their number tells that some have no row: a row
that was deleted is no loss, and is counted by the state that its delivery is in.
"""

from __future__ import annotations

from app.reconcile.reconciling import Reconciling
from app.reconcile.run import Progress, Since

__all__ = ["Progress", "Reconciling", "Since"]
