"""The records and enums that everything else speaks in. They import nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

Position: TypeAlias = "int | str | list[int | str | None] | None"
"""How far a feed has been read, in a form that JSON and BSON both hold. `None`: nothing read yet.

`identity`: the id. `rowversion` and `timestamp`: a list of the column's value as text and the parts of the key; or that
text alone, where an operator gave it.
"""


class State(StrEnum):
    """Where a delivery stands. `docs/architecture.md` draws the moves between them."""

    QUEUED = "queued"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


OPEN_STATES = (State.QUEUED, State.RETRYING)
"""A delivery in one of these is still owed to the partner."""


class Outcome(StrEnum):
    """What came of one attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """The request may have been processed; its answer was lost, on the way or with the worker."""


class Ruling(StrEnum):
    """What an answer says, before attempts and age are looked at."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    """Likely to pass: the same request may succeed later."""
    LOST = "lost"
    """No answer, and the request may have been processed."""
    DENIED = "denied"
    """Our credentials are refused."""
    GONE = "gone"
    """The endpoint is no more."""
    REFUSED = "refused"
    """This row will never be accepted."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row as read from the source."""

    key: str
    """The row's key as text; parts of a composite key are joined by `:` (see `source.rows.key_text`)."""
    position: Position
    payload: str
    """The row as a JSON object; empty when `error` is set."""
    error: str | None = None
    """Why the row has no payload: it becomes a dead letter with this reason."""
    change: str | None = None
    """With `capture = "changes"`: which change of the row this is. Part of the delivery's id."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Identity values `low..high` (inclusive) that were missing when the range was read."""

    low: int | None
    """`None`: everything up to `high`, for rows that commit below the first one ever read."""
    high: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a feed has been read, and what is still missing behind that point."""

    feed: str
    position: Position = None
    gaps: tuple[Gap, ...] = ()
    version: int = 0
    """Counts the moves; the compare-and-set is on it."""
    paused: bool = False
    paused_reason: str | None = None
    last_poll_at: datetime | None = None
    last_row_at: datetime | None = None
    last_error: str | None = None
    failures: int = 0
    """Polls in a row that found the source unavailable."""
    retry_at: datetime | None = None
    """The feed is not polled before then."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A cursor that stands beyond the newest row of its table."""

    reason: str
    certain: bool
    """The source went back, so rows may be passed over: the feed is paused. Else rows may just have been deleted."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one read of the source gave, and where the cursor stands after it."""

    rows: tuple[SourceRow, ...]
    position: Position
    gaps: tuple[Gap, ...]
    full: bool
    """More rows are likely waiting: read again at once."""
    expired: tuple[Gap, ...] = ()
    """Gaps given up on because `gap_timeout` passed."""
    ahead: Ahead | None = None
    """Nothing new was found, and the cursor stands beyond the table."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to send a batch."""

    token: str
    until: datetime
    worker: str


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that nobody holds: ids of deliveries of one feed."""

    id: str
    feed: str
    delivery_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """A claimed batch: the unit of work, at most `batch_size` deliveries of one feed."""

    id: str
    feed: str
    delivery_ids: tuple[str, ...]
    lease: Lease
    first: Lease
    """The lease under which what was not fenced since may have been sent: this one, or the first that lapsed."""
    tries: int
    """How often the batch has been claimed, this time included."""
    previous: Lease | None = None
    """The lease that ran out before this claim: what it left unsettled has an unknown outcome."""
    inherited: str | None = None
    """The fence that deliveries carried when the batch was last given back."""

    @property
    def fence(self) -> str | None:
        """What this claim's deliveries carry as `token`; `None` where the batch was never taken over.

        A later claim's fence is the greater text, so a holder that comes late cannot fence out the one after it.
        """
        return f"{self.tries:010d}-{self.lease.token}" if self.previous else self.inherited


@dataclass(frozen=True, slots=True)
class Delivery:
    """One source row on its way to the partner."""

    id: str
    feed: str
    key: str
    payload: str
    """The row as a JSON object."""
    created_at: datetime
    attempts: int = 0
    """Attempts made so far; since the last replay, where there was one."""
    replayed_at: datetime | None = None
    in_doubt: bool = False
    """An attempt before may have reached the partner, and nothing since has told."""

    @property
    def owed_since(self) -> datetime:
        """When its age starts: when it was logged, or last replayed."""
        return self.replayed_at or self.created_at


@dataclass(frozen=True, slots=True)
class Answer:
    """What one HTTP request came to: a status, or an error in its place."""

    at: datetime
    """When the request was started."""
    duration_ms: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    """The start of the response's body: at most `RESPONSE_LIMIT` bytes."""
    error: str | None = None
    """Without a status, or with one that was not enough: the kind of failure and its text, on one line."""
    ruling: Ruling | None = None
    """What the client knows that the status does not say; `None` where the status says it all."""
    note: str | None = None
    """What else happened in the attempt: a status URL that answered in its place, a token that was renewed."""


RESPONSE_LIMIT = 2048
"""Bytes of a response kept with an attempt."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens next with a delivery, decided from one answer."""

    outcome: Outcome
    reason: str
    """One line: `200`, `503 Service Unavailable`, `ConnectError: …`, `attempts spent: 500 …`."""
    next_attempt_at: datetime | None = None
    """Set exactly when the outcome is `RETRY` or `UNKNOWN`."""
    hold_until: datetime | None = None
    """The partner asked for quiet until then (Retry-After): it holds for the whole endpoint."""
    pause_reason: str | None = None
    """Set when the answer speaks of the endpoint, not of this row: the feed is paused."""


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt made and judged: what the ledger records."""

    delivery: Delivery
    answer: Answer
    verdict: Verdict
