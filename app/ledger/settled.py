"""Settled deliveries as retention sees them: in which category each is, and since when its
retention counts.

A delivery's retention counts from one moment, which depends on how it was settled:

    delivered, cancelled, skipped               `finished_at`       index `settled`
    dead and acknowledged, or restored          `kept_from`         index `kept`
    from an archive

Open deliveries, and dead ones that are not acknowledged, are in no category.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.core.clock import LONG_AGO
from app.core.position import Position
from app.core.states import State
from app.ledger.client import Document
from app.ledger.indexes import KEPT, SETTLED


@dataclass(frozen=True, slots=True)
class Category:
    """Deliveries that retention treats alike."""

    name: str
    state: State | None
    """`None`: any settled state."""
    moment: str
    """The field with the moment that retention counts from."""
    index: str


KEPT_ONES = Category("kept", None, "kept_from", KEPT)


CATEGORIES = (
    *(
        Category(state.value, state, "finished_at", SETTLED)
        for state in (State.DELIVERED, State.CANCELLED, State.SKIPPED)
    ),
    KEPT_ONES,
)
"""Every settled delivery is in exactly one."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From one moment, inclusive, to another, exclusive."""

    start: datetime
    end: datetime

    @property
    def condition(self) -> Document:
        """As a condition. A range from `LONG_AGO` excludes that moment: the partial indexes hold
        what is after it.
        """
        return {
            "$gt" if self.start <= LONG_AGO else "$gte": max(self.start, LONG_AGO),
            "$lt": self.end,
        }


@dataclass(frozen=True, slots=True)
class Settled:
    """A settled delivery, as far as retention is concerned."""

    id: str
    category: Category
    state: State
    moment: datetime
    """What its retention counts from."""
    created_at: datetime
    position: Position
    acknowledged_at: datetime | None = None

    @property
    def exactly(self) -> Document:
        """A filter that matches this delivery only as it was read.

        Including its position: if a poll has seen the row elsewhere since, it must not be deleted
        above the purge watermark.
        """
        same: Document = {
            "_id": self.id,
            "state": self.state.value,
            self.category.moment: self.moment,
        }
        same["position"] = self.position
        if self.category is not KEPT_ONES:
            same["kept_from"] = None
        if self.acknowledged_at:
            same["acknowledged.at"] = self.acknowledged_at
        return same


def settled(document: Document) -> Settled | None:
    """The delivery of a document; `None` where it is open, or dead and not acknowledged."""
    state = State(document["state"])
    acknowledged_at = (
        (document.get("acknowledged") or {}).get("at") if state is State.DEAD else None
    )
    if state in (State.QUEUED, State.RETRYING) or (state is State.DEAD and not acknowledged_at):
        return None
    category = _category(state, document)
    return Settled(
        id=document["_id"],
        category=category,
        state=state,
        moment=document[category.moment],
        created_at=document["created_at"],
        position=document.get("position"),
        acknowledged_at=acknowledged_at,
    )


def _category(state: State, document: Document) -> Category:
    if document.get("kept_from"):
        return KEPT_ONES
    return next(category for category in CATEGORIES if category.state is state)
