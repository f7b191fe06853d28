"""What a reconciliation found: a certificate, and each discrepancy that it cannot vouch for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.core.position import Position
from app.core.states import OPEN_STATES, State


class DiscrepancyKind(StrEnum):
    """Why a certificate is not complete though each row may have a delivery."""

    SHARED_KEY = "shared_key"
    """Rows under a key that another row has, too: one delivery stands for all."""
    CHANGED = "changed"
    """Rows that hold something else than what was logged: updated since, or new under a key that
    was used before.
    """
    NO_CURSOR_VALUE = "no_cursor_value"
    """Rows whose cursor column is NULL: no poll reads them."""
    BELOW_START = "below_start"
    """Rows below the lowest one there was when reading began: no poll reads them."""
    AHEAD = "ahead"
    """The cursor stands beyond what the source has reached: it went back, and rows may be passed
    over.
    """
    WAITING = "waiting"
    """Rows beyond the cursor of a feed that is not read."""
    UNSENT_COLUMNS = "unsent_columns"
    """Columns that came to the table of a feed that is not read: no row was sent with what they
    hold.
    """
    OTHER_SOURCE = "other_source"
    """Deliveries that came from another table, or under another key or cursor, than `feeds.toml`
    names.
    """
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
    DiscrepancyKind.UNSENT_COLUMNS: "{count} columns of the table are not sent yet, and the feed is not read: {note}",
    DiscrepancyKind.OTHER_SOURCE: "{count} deliveries are of another source than feeds.toml names: {note}",
    DiscrepancyKind.REMOVED: "{count} deliveries are still owed, of a feed that feeds.toml does not name any more",
}


MISSING_NAMED = 100
"""Ids that a certificate names of what was missing."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What became of each source row of a feed: `source_rows` = the sum of `states`, or the
    difference by key.

    A row counts once, in the state that its delivery had when it was compared.
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
    """Source rows left out, because they lie in an open gap: the cursor itself still asks for them.
    """
    superseded: int = 0
    """With `capture = "changes"`: deliveries of an older change of a row that is still in the
    source.
    """
    since: Position = None
    """Compared from after this position on; `None`: from where the feed began, or retention has
    purged to.
    """
    begun_at: datetime | None = None
    """When the comparison began; each row was compared between this and `at`."""
    discrepancies: tuple[Discrepancy, ...] = ()
    """What it cannot vouch for, one a kind. Where there is any, it is not complete."""
    by_key: int = 0
    """Of the source rows: compared by key alone, because no hash of their content was kept when
    they were logged.
    """
    acknowledged: int = 0
    """Of the source rows: changed since they were sent, and taken as they are by this run, for an
    operator.
    """

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
        return sum(
            found.count for found in self.discrepancies if found.kind is DiscrepancyKind.SHARED_KEY
        )

    @property
    def complete(self) -> bool:
        """Every source row has a delivery of its own, of what it holds, the sum balances, and
        nothing is left open.
        """
        return self.missing == self.healed and self.unaccounted == 0 and not self.discrepancies

    @property
    def account(self) -> str:
        """The sum in words: `10,000 source rows = 9,990 delivered + 7 dead + … + 0 open, up to
        position 10000`.
        """
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
            said.append(
                f"{self.missing:,} had no delivery, and {healed} logged by this run: {shown}"
            )
        said += [found.said for found in self.discrepancies]
        if self.by_key:
            said.append(
                f"{self.by_key:,} source rows were compared by key alone: no hash of what was sent was kept"
            )
        if self.acknowledged:
            said.append(
                f"{self.acknowledged:,} source rows had changed since they were sent, and are acknowledged as they are"
            )
        if self.awaited:
            said.append(
                f"{self.awaited:,} source rows committed late and are left out: the cursor still asks for them"
            )
        if self.purged:
            said.append(
                f"{self.purged:,} source rows are left out: retention may have purged their deliveries"
            )
        if self.deleted:
            states = ", ".join(
                f"{count:,} {state}" for state, count in sorted(self.deleted_states.items())
            )
            said.append(
                f"{self.deleted:,} deliveries are of rows deleted from the source since: {states}"
            )
        if self.superseded:
            said.append(
                f"{self.superseded:,} deliveries are of earlier changes of rows that are still in the source"
            )
        if self.since is not None:
            said.append("deleted rows were not looked for: only a part of the feed was compared")
        return tuple(said)


def _shown(position: Position) -> str:
    """A position for a person: of several parts, the cursor column's; `none` where nothing was
    read.
    """
    leading = position[0] if isinstance(position, list) else position
    return "none" if leading is None else f"{leading}"
