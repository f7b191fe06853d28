"""The records and enums that everything else speaks in. They import nothing of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

Position: TypeAlias = "int | str | list[int | str | list[str] | None] | None"
"""How far a feed has been read, in a form that JSON and BSON both hold. `None`: nothing read yet.

`identity`: the id. `rowversion` and `timestamp`: a list of the column's value and the parts of the key, each as
`source.codec` places it; or the column's value alone, where an operator gave it, or the key cannot stand in a position.
"""


Columns: TypeAlias = "tuple[tuple[str, str], ...]"
"""Columns of a source table, in order: name and type, in the database's words."""


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


HOLD_LIMIT = timedelta(days=1)
"""The longest that a partner's wait (Retry-After) is believed. One that means more says so again at the next attempt.
"""


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
    OURS = "ours"
    """Nothing was sent, for want of something of our own: file descriptors, a network, names, an access token. No fault
    of the row, nor of the partner: it costs no attempt."""
    LOST = "lost"
    """No answer, and the request may have been processed."""
    DENIED = "denied"
    """Our credentials are refused."""
    GONE = "gone"
    """The endpoint is no more."""
    REFUSED = "refused"
    """This row will never be accepted."""
    UNDER_WAY = "under_way"
    """The answer speaks of an earlier request for the row: it is being worked at, or was taken."""


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
    content: int | None = None
    """A hash of what the row holds (see `source.content`); `None` where it has no JSON form."""


LONGEST_KEY = 1024
"""Characters of a key that a delivery's id holds; of a longer one it holds a hash."""
_KEY_SHOWN = 64
_HASHED = "%h"
"""Stands before a hash; no percent-encoded text holds it."""


def short_key(key: str) -> str:
    """A key's text as it stands in an id: whole up to `LONGEST_KEY`; else its first characters, and a hash of it all.

    The hash is SHA-256, in hexadecimal digits, so that two keys never meet in one id.
    """
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[:_KEY_SHOWN].rstrip('%')}{_HASHED}{digest}"


def is_short_key(key: str) -> bool:
    """Whether the text was made by `short_key` of a key that is longer."""
    return _HASHED in key


def has_identity(key: str) -> bool:
    """Whether a row can be found by that text: not where it is what stands for a key that the row has not got."""
    return "@" not in key  # percent-encoded in every key


@dataclass(frozen=True, slots=True)
class Gap:
    """Identity values `low..high` (inclusive) that were missing when the range was read."""

    low: int | None
    """`None`: everything up to `high`, for rows that commit below the first one ever read."""
    high: int
    since: datetime


@dataclass(frozen=True, slots=True)
class ReadRange:
    """A stretch of the source that a cursor reads, in the cursor's own order."""

    after: Position = None
    """Exclusive; `None`: from the first row on."""
    upto: Position = None
    """Inclusive; `None`: it is still being read."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a feed's deliveries came from: names in small letters, without quotes."""

    table: str
    key: tuple[str, ...]
    strategy: str
    column: str

    def __str__(self) -> str:
        return f"table {self.table}, key {', '.join(self.key)}, cursor {self.strategy} {self.column}"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a poll came across that a certificate will not be complete over."""

    kind: DiscrepancyKind
    said: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a feed has been read, and what is still missing behind that point."""

    feed: str
    position: Position = None
    gaps: tuple[Gap, ...] = ()
    version: int = 0
    """Counts the moves; the compare-and-set is on it."""
    paused: bool = False
    """The feed is not polled."""
    paused_reason: str | None = None
    sends: bool = True
    """What is owed of it is sent."""
    sending_paused: str | None = None
    """Why it is not sent, where an operator paused that alone."""
    last_poll_at: datetime | None = None
    last_row_at: datetime | None = None
    last_error: str | None = None
    failures: int = 0
    """Polls in a row that found the source unavailable."""
    retry_at: datetime | None = None
    """The feed is not polled before then."""
    spans: tuple[ReadRange, ...] = ()
    """What it was given to read, oldest first: the last one is open, up to `position`. What lies in none of them, an
    operator passed over. Empty: nothing was read yet."""
    columns: Columns = ()
    """What is sent of a table whose feed does not name its columns: agreed for all workers. Empty: not agreed yet."""
    offered: tuple[str, ...] = ()
    """Columns that came since, and are not sent: known, so that nobody needs to be told again."""
    noted: str | None = None
    """What last changed in the table, and what followed."""
    noted_at: datetime | None = None
    held: str | None = None
    """Rows wait beyond the cursor while pages stay empty: how many, and why."""
    held_since: datetime | None = None
    origin: Origin | None = None
    """What the feed's deliveries came from; `None`: not on record yet."""
    lowest: Position = None
    """Where the table's lowest row stood when reading began: rows below it are new."""
    notices: tuple[Notice, ...] = ()
    """What polls came across, one a kind; a certificate that finds it no more forgets it."""

    @property
    def stopped(self) -> str | None:
        """What of the feed is paused, and why; `None`: nothing is."""
        said = []
        if self.paused:
            both = not self.sends and not self.sending_paused
            said.append(f"{'paused' if both else 'polling paused'}: {self.paused_reason}")
        if self.sending_paused:
            said.append(f"sending paused: {self.sending_paused}")
        return "; ".join(said) or None


@dataclass(frozen=True, slots=True)
class Ahead:
    """A cursor that stands beyond the newest row of its table."""

    reason: str
    certain: bool
    """The source went back, so rows may be passed over: the feed is paused. Else rows may just have been deleted."""


POLL_WAIT_LIMIT = timedelta(minutes=5)
"""The longest that an unavailable source is left alone."""
LONGEST_FOLLOW_UP = timedelta(seconds=30)
"""The longest that a look is sent ahead: a worker keeps it until then."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A poll that does not wait for beat, because rows are coming."""

    after: timedelta
    """How long after the poll before it."""
    until: datetime
    """When beat's next poll comes, and goes on."""


@dataclass(frozen=True, slots=True)
class NewForm:
    """Which columns are sent from a page on."""

    columns: Columns
    offered: tuple[str, ...] = ()
    """Columns that the table has besides, and that are not sent."""
    said: str | None = None
    """What changed in the table; `None`: nothing did, it is agreed for the first time."""


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
    held: str | None = None
    """Nothing new was found, though rows lie beyond the cursor: how many, and why."""
    began: Position = None
    """On a feed's first page: after which position reading began; `None`: at the first row."""
    form: NewForm | None = None
    """To be agreed with the cursor's next move; `None`: nothing changes."""
    lowest: Position = None
    """Where the table's lowest row stands; `None` where that is on record already, or there is no row."""


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
    """The lease under which what was not fenced since may have been sent: this one, or the first that lapsed."""
    tries: int
    """How often the batch has been claimed, this time included."""
    previous: Lease | None = None
    """The lease that ran out before this claim: what it left unsettled has an unknown outcome."""
    inherited: str | None = None
    """The fence that deliveries carried when the batch was last given back."""
    due_since: datetime | None = None
    """From when on it was due. Before the moment of the claim: it waited in the ledger, and others may."""
    content_bytes: int | None = None
    """What its rows held when it was made; `None`: not known."""

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
    refused_at: datetime | None = None
    """When the partner first answered 403 to it."""

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

    @property
    def made(self) -> bool:
        """Whether there was an attempt: a request to the partner. None was made for want of something of our own, of a
        row that no request can be made of, nor where the token endpoint refuses our credentials.
        """
        return self.status is not None or self.ruling not in (Ruling.OURS, Ruling.REFUSED, Ruling.DENIED)


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
    in_doubt: bool = False
    """See `Delivery.in_doubt`: an attempt may have reached the partner, and this answer does not tell."""


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt made and judged: what the ledger records."""

    delivery: Delivery
    answer: Answer
    verdict: Verdict


class DiscrepancyKind(StrEnum):
    """Why a certificate is not complete though each row may have a delivery."""

    SHARED_KEY = "shared_key"
    """Rows under a key that another row has, too: one delivery stands for all."""
    CHANGED = "changed"
    """Rows that hold something else than what was logged: updated since, or new under a key that was used before."""
    NO_CURSOR_VALUE = "no_cursor_value"
    """Rows whose cursor column is NULL: no poll reads them."""
    BELOW_START = "below_start"
    """Rows below the lowest one there was when reading began: no poll reads them."""
    AHEAD = "ahead"
    """The cursor stands beyond what the source has reached: it went back, and rows may be passed over."""
    WAITING = "waiting"
    """Rows beyond the cursor of a feed that is not read."""
    OTHER_SOURCE = "other_source"
    """Deliveries that came from another table, or under another key or cursor, than `feeds.toml` names."""
    REMOVED = "removed"
    """Deliveries still owed of a feed that `feeds.toml` does not name any more."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Rows, or deliveries, that a certificate cannot vouch for."""

    kind: DiscrepancyKind
    count: int
    ids: tuple[str, ...] = ()
    """Of deliveries, or what the rows' would be: the first `MISSING_NAMED`."""
    note: str = ""
    """What was found besides, on one line."""
    more: bool = False
    """They were counted up to `count` only: there may be more."""

    @property
    def said(self) -> str:
        """In a plain sentence, with what to do."""
        count = f"{self.count:,}{' or more' if self.more else ''}"
        shown = ", ".join(self.ids[:10]) + (", …" if self.count > 10 else "")
        said = _SAID[self.kind].format(count=count, note=self.note)
        return f"{said}: {shown}" if shown else said


_SAID = {
    DiscrepancyKind.SHARED_KEY: (
        "{count} source rows share their key with another row and have no delivery of their own; "
        "the feed's key must be unique"
    ),
    DiscrepancyKind.CHANGED: (
        "{count} source rows hold something else than what was logged and sent: "
        "they were updated since, or are new under a key that was used before"
    ),
    DiscrepancyKind.NO_CURSOR_VALUE: "{count} source rows are read by no poll: the cursor column is NULL in them",
    DiscrepancyKind.BELOW_START: (
        "{count} source rows are read by no poll: they lie below the lowest that was there when reading began ({note})"
    ),
    DiscrepancyKind.AHEAD: "{note}",
    DiscrepancyKind.WAITING: "{count} source rows wait for the cursor, and the feed is not read: {note}",
    DiscrepancyKind.OTHER_SOURCE: "{count} deliveries are of another source than feeds.toml names: {note}",
    DiscrepancyKind.REMOVED: "{count} deliveries are still owed, of a feed that feeds.toml does not name any more",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What became of each source row of a feed: `source_rows` = the sum of `states`, or the difference by key.

    A row counts once, in the state that its delivery was in when it was looked at.
    """

    feed: str
    at: datetime
    """When the comparison ended."""
    position: Position
    """The source was compared up to here: where the cursor stood when the comparison began."""
    source_rows: int
    """Rows found in the source: not those left out as `purged` or `awaited`."""
    states: Mapping[State, int]
    """Source rows by the state of their delivery; a healed one by the state it was logged in."""
    missing: int = 0
    """Source rows that had no delivery."""
    missing_ids: tuple[str, ...] = ()
    """Their deliveries' ids, the first `MISSING_NAMED`."""
    healed: int = 0
    """Of the missing: logged, and queued where they are to be sent, by this run."""
    deleted: int = 0
    """Deliveries whose row is no longer in the source."""
    deleted_states: Mapping[State, int] = field(default_factory=dict)
    """The deleted, by state."""
    purged: int = 0
    """Source rows left out, because retention may have purged their deliveries."""
    awaited: int = 0
    """Source rows left out, because they lie in an open gap: the cursor itself still asks for them."""
    superseded: int = 0
    """With `capture = "changes"`: deliveries of an older change of a row that is still in the source."""
    since: Position = None
    """Compared from after this position on; `None`: from where the feed began, or retention has purged to."""
    begun_at: datetime | None = None
    """When the comparison began; a row's state was looked at between this and `at`."""
    discrepancies: tuple[Discrepancy, ...] = ()
    """What it cannot vouch for, one a kind. Where there is any, it is not complete."""
    by_key: int = 0
    """Of the source rows: compared by key alone, because no hash of their content was kept when they were logged."""
    acknowledged: int = 0
    """Of the source rows: changed since they were sent, and taken as they are by this run, for an operator."""

    @property
    def open(self) -> int:
        """Source rows that are still owed to the partner."""
        return sum(self.states.get(state, 0) for state in OPEN_STATES)

    @property
    def unaccounted(self) -> int:
        """Source rows that no state accounts for: missing, or without a delivery of their own."""
        return self.source_rows - sum(self.states.values())

    @property
    def sharing(self) -> int:
        """Source rows that share their key with another one, and have no delivery of their own."""
        return sum(found.count for found in self.discrepancies if found.kind is DiscrepancyKind.SHARED_KEY)

    @property
    def complete(self) -> bool:
        """Every source row has a delivery of its own, of what it holds, the sum balances, and nothing is left open."""
        return self.missing == self.healed and self.unaccounted == 0 and not self.discrepancies

    @property
    def account(self) -> str:
        """The sum in words: `10,000 source rows = 9,990 delivered + 7 dead + … + 0 open, up to position 10000`."""
        settled = (State.DELIVERED, State.DEAD, State.SKIPPED, State.CANCELLED)
        parts = [f"{self.states.get(state, 0):,} {state}" for state in settled]
        parts.append(f"{self.open:,} open")
        if self.sharing:
            parts.append(f"{self.sharing:,} sharing a key")
        if self.unaccounted > self.sharing:
            parts.append(f"{self.unaccounted - self.sharing:,} missing")
        since = "" if self.since is None else f"after position {_shown(self.since)} "
        rows = f"{self.source_rows:,} source row{'' if self.source_rows == 1 else 's'}"
        return f"{rows} = {' + '.join(parts)}, {since}up to position {_shown(self.position)}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else to know, in plain sentences; nothing where there is nothing to say."""
        said: list[str] = []
        if self.missing:
            shown = ", ".join(self.missing_ids[:10]) + (", …" if self.missing > 10 else "")
            healed = "all were" if self.healed == self.missing else f"{self.healed:,} were"
            said.append(f"{self.missing:,} had no delivery, and {healed} logged by this run: {shown}")
        said += [found.said for found in self.discrepancies]
        if self.by_key:
            said.append(f"{self.by_key:,} source rows were compared by key alone: no hash of what was sent was kept")
        if self.acknowledged:
            said.append(
                f"{self.acknowledged:,} source rows had changed since they were sent, and are acknowledged as they are"
            )
        if self.awaited:
            said.append(f"{self.awaited:,} source rows committed late and are left out: the cursor still asks for them")
        if self.purged:
            said.append(f"{self.purged:,} source rows are left out: retention may have purged their deliveries")
        if self.deleted:
            states = ", ".join(f"{count:,} {state}" for state, count in sorted(self.deleted_states.items()))
            said.append(f"{self.deleted:,} deliveries are of rows deleted from the source since: {states}")
        if self.superseded:
            said.append(f"{self.superseded:,} deliveries are of earlier changes of rows that are still in the source")
        if self.since is not None:
            said.append("deleted rows were not looked for: only a part of the feed was compared")
        return tuple(said)


def _shown(position: Position) -> str:
    """A position for a person: of several parts, the cursor column's; `none` where nothing was read."""
    leading = position[0] if isinstance(position, list) else position
    return "none" if leading is None else f"{leading}"


MISSING_NAMED = 100
"""Ids that a certificate names of what was missing."""
