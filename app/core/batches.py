"""The unit of work: a batch of deliveries, and a worker's lease on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to send a batch."""

    token: str
    until: datetime
    worker: str


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that no worker holds: ids of deliveries of one feed."""

    id: str
    feed: str
    delivery_ids: tuple[str, ...]
    content_bytes: int | None = None
    """What its rows hold; `None`: not known."""
    count: int | None = None
    """How many deliveries it holds, where their ids were not read."""

    @property
    def rows(self) -> int:
        """How many deliveries it holds."""
        return len(self.delivery_ids) if self.count is None else self.count


@dataclass(frozen=True, slots=True)
class Batch:
    """A claimed batch: the unit of work, at most `batch_size` deliveries of one feed."""

    id: str
    feed: str
    delivery_ids: tuple[str, ...]
    lease: Lease
    first: Lease
    """The lease under which what was not fenced since may have been sent: this one, or the first
    that lapsed.
    """
    tries: int
    """How often the batch has been claimed, this time included."""
    previous: Lease | None = None
    """The lease that ran out before this claim: what it left unsettled has an unknown outcome."""
    inherited: str | None = None
    """The fence that deliveries carried when the batch was last given back."""
    due_since: datetime | None = None
    """From when on it was due. Before the moment of the claim: it waited in the ledger, and others
    may.
    """
    content_bytes: int | None = None
    """What its rows held when it was made; `None`: not known."""
    changed: bool = False
    """An operator may have moved some of its deliveries."""

    @property
    def as_logged(self) -> bool:
        """Whether its deliveries are as they were when it was made: nobody else has held it, and
        no operator has moved any.
        """
        return self.tries == 1 and not self.changed

    @property
    def fence(self) -> str | None:
        """What this claim's deliveries carry as `token`; `None` where the batch was never taken
        over.

        A later claim's fence is the greater text, so a holder that comes late cannot fence out the
        one after it.
        """
        return f"{self.tries:010d}-{self.lease.token}" if self.previous else self.inherited
