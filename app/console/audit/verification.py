"""Verifies the audit log: finds the first entry that was changed, removed, slipped in or cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.console.audit.chain import FIRST, link_of
from app.console.audit.repository import AuditRepository
from app.console.store.tables import AuditEntry

AT_ONCE = 1000
"""Entries that are held at once."""


@dataclass(frozen=True, slots=True)
class Known:
    """An entry's hash, as somebody noted it where the console's database does not reach."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it."""

    entries: int
    """That are as they were written, from the first on."""
    wrong: int | None
    """The number of the first entry that is not what was written, or is missing; `None`: none is."""
    said: str
    last_hash: str
    """Of the last entry that is as it was written: noted elsewhere, it shows later that nobody wrote
    the whole chain anew."""


class Walk:
    """One walk along the chain, in one transaction."""

    def __init__(self, audit: AuditRepository, known: Known | None = None) -> None:
        self._audit = audit
        self._known = known
        self._number, self._hash = 0, FIRST

    async def verify(self) -> Verified:
        """Walk from the first entry to the last. Raises the store's errors."""
        outermost = await self._audit.outermost()  # before the head: no later entry is among them
        head = await self._audit.head()
        if outermost[0] is not None and outermost[0] < 1:
            return self._wrong(
                outermost[0], f"entry {outermost[0]} was slipped in before the first"
            )
        if head is None:
            return self._wrong(self._number + 1, "the record of where the log ends was deleted")
        end, end_hash = head.number, head.hash
        while self._number < end:
            entries = await self._next(min(AT_ONCE, end - self._number))
            if found := self._checked(entries):
                return found
            if not entries:
                said = f"entry {self._number + 1} is missing: the log ends at {self._number}, and {end} were written"
                return self._wrong(self._number + 1, said)
        return self._at_the_end(end, end_hash, outermost[1])

    async def _next(self, limit: int) -> Sequence[AuditEntry] | None:
        """The next entries; one alone where the database holds what cannot be read."""
        try:
            return await self._audit.in_order(self._number + 1, limit)
        except (TypeError, ValueError):  # no date any more, for one
            if limit == 1:
                return None
        return await self._next(1)

    def _checked(self, entries: Sequence[AuditEntry] | None) -> Verified | None:
        """The first that is wrong among the next; `None`: none is."""
        expected = self._number + 1
        if entries is None:
            return self._wrong(expected, f"entry {expected} is not what was written")
        for entry in entries:
            expected = self._number + 1
            if entry.number != expected:
                return self._wrong(expected, f"entry {expected} is missing")
            if not _is_as_written(entry, self._hash) or not self._is_as_noted(entry):
                return self._wrong(expected, f"entry {expected} is not what was written")
            self._number, self._hash = expected, entry.hash
        return None

    def _at_the_end(self, end: int, end_hash: str, greatest: int | None) -> Verified:
        if self._hash != end_hash:
            return self._wrong(end, f"entry {end} is not what was written")
        if greatest is not None and greatest > end:
            return self._wrong(end + 1, f"entry {end + 1} was slipped in after the last")
        if self._known and self._known.number > end:
            said = (
                f"entry {end + 1} is missing: {self._known.number} were written when it was noted"
            )
            return self._wrong(end + 1, said)
        return Verified(end, None, f"{end} entries, each as it was written", self._hash)

    def _is_as_noted(self, entry: AuditEntry) -> bool:
        known = self._known
        return known is None or known.number != entry.number or known.hash == entry.hash

    def _wrong(self, number: int, said: str) -> Verified:
        return Verified(self._number, number, said, self._hash)


def _is_as_written(entry: AuditEntry, previous: str) -> bool:
    try:
        return entry.previous_hash == previous and entry.hash == link_of(entry)
    except (AttributeError, TypeError):  # the database holds another type than was written
        return False
