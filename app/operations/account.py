"""What an operation on many deliveries would move, what it has moved, and what it left as it was,
and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.persistence import Waiting
from app.ledger.picking import Counted
from app.ledger.selection import Selection

CHUNK_LIMIT = 1000
"""Deliveries that are moved together, at most."""
CHANGED = "changed meanwhile"

Tell: TypeAlias = Callable[[int, str], None]
"""Told of progress: how many have moved so far, and what is being waited for, if anything."""


@dataclass(slots=True)
class Account:
    """What was selected, and what became of it."""

    selected: int = 0
    """Ids that were named count as selected, whatever is found under them."""
    moved: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Why it stayed as it was → how many."""

    @property
    def movable(self) -> int:
        """How many of the selected can be moved."""
        return self.selected - sum(self.skipped.values())

    def leave(self, why: str, count: int) -> None:
        """So many stay as they are."""
        self.skipped += Counter({why: count})


@dataclass(frozen=True, slots=True)
class Preview:
    """What an operation would do; nothing has moved."""

    account: Account
    counted: Sequence[Counted]
    """The selected deliveries by feed, state and whether there is a payload."""
    sample: Sequence[Document] = ()
    """A few of the selected, without their payloads, where that was asked for."""

    @property
    def delivered(self) -> int:
        """How many of those that would move a partner has already."""
        return sum(
            group.count
            for group in self.counted
            if group.state is State.DELIVERED and group.has_payload
        )


async def account_of(ledger: Ledger, selection: Selection, counted: Sequence[Counted]) -> Account:
    """The account before anything has moved; ids that are in none of the selected states are
    skipped.
    """
    beside = await ledger.selections.beside(selection)
    selected = sum(group.count for group in counted) + sum(beside.values())
    return Account(selected, skipped=Counter(beside))


def waits(account: Account, tell: Tell) -> Waiting:
    """Tells that the ledger is waited for."""
    return lambda seconds, error: tell(account.moved, f"waiting {seconds:g} s: {error}")
