"""Which deliveries an operator means: the keys that were typed looked up, and nothing selected by
accident.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from app.ledger import Ledger
from app.ledger.selection import Selection
from app.operations.account import Preview
from app.reads.lookup import ids_meant, require_feeds

SAMPLE = 10
"""Deliveries that a preview shows."""


class Previewing(Protocol):
    """An operation on many deliveries."""

    async def preview(self, selection: Selection) -> Preview:
        """Count what would move, and move nothing. Raises the ledger's errors."""


def narrows(selection: Selection) -> bool:
    """Whether anything but a state is selected: else it is every delivery of that state, which must
    be meant.
    """
    return any(
        (
            selection.ids,
            selection.feeds,
            selection.since,
            selection.until,
            selection.reason,
            selection.text,
            selection.reason_kind,
            selection.status,
            selection.without_status,
            selection.attempts,
            selection.key_pattern,
        )
    )


async def meant(ledger: Ledger, feeds: Collection[str], selection: Selection) -> Selection:
    """The selection with the ids that are meant by the keys typed. `feeds`: those that are
    configured.

    Raises `UnknownFeed` for a feed that nobody knows, `AmbiguousKey` for a key that means several
    deliveries, and the ledger's errors.
    """
    named = selection.feeds or ()
    await require_feeds(ledger, feeds, named)
    ids = await ids_meant(ledger, selection.ids, feeds, named[0] if len(named) == 1 else None)
    return replace(selection, ids=tuple(ids))


async def preview_with_sample(
    operation: Previewing, ledger: Ledger, selection: Selection
) -> Preview:
    """What the operation would do, and a few of what is selected. Raises the ledger's errors."""
    previewed = await operation.preview(selection)
    return replace(previewed, sample=await ledger.selections.sample(selection, SAMPLE))
