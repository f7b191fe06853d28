"""Searches of deliveries that a person waits for: bounded in what they look at and in time, a page at
a time in both directions, and frank about what they left out.

What no index knows (reason, status, attempts, a part of the key) is looked for among the
`LOOKED_AT` newest deliveries of each state behind the place where a page begins; then the page says
how far it got, and the next one goes on from there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from app.core.errors import LedgerUnavailable
from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document, within
from app.ledger.listing import Count, Order, Place, moment_of
from app.ledger.selection import Selection
from app.reads.lookup import look_up, require_feeds

LOOKED_AT = 10_000
"""Deliveries of each state."""
COUNTED = 10_000
"""Deliveries that are counted; then there are "10,000 and more"."""
SECONDS, COUNT_SECONDS = 3.0, 0.5
"""What finding a page may take, and what counting the list may."""
_BEHIND_ALL = "\U0010ffff"


class Matched(StrEnum):
    """How the text of the search box was read."""

    ID = "id"
    """A delivery's id, which is also its Idempotency-Key."""
    KEY = "key"
    BEGINNING = "beginning of a key"
    PART = "part"
    """Nothing has that id or key: a part of a key, a reason or an error."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page of which search."""

    selection: Selection
    """Its ids are those of the ledger."""
    text: str | None = None
    """What stands in the search box."""
    order: Order = Order.NEWEST
    size: int = 50
    place: Place | None = None
    """Behind it the page begins; or ends, `backwards`."""
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One page."""

    selection: Selection
    """What was looked for, once the search box's text was read."""
    matched: Matched | None
    """How that was; `None`: it is empty."""
    documents: Sequence[Document]
    """Without their payloads."""
    count: Count | None = None
    """`None`: counting took too long, or not all was looked at."""
    looked_to: datetime | None = None
    """How far was looked; `None`: at all of it."""
    too_slow: bool = False
    """The ledger did not find the page in time."""
    before: Place | None = None
    """Where the page before ends; `None`: this is the first."""
    after: Place | None = None
    """Where the next page begins; `None`: this is the last."""


async def search(ledger: Ledger, feeds: Collection[str], asked: Asked) -> Found:
    """One page. `feeds`: those that are configured.

    Raises `UnknownFeed` for one that neither `feeds` nor the ledger knows, and the ledger's errors.
    """
    await require_feeds(ledger, feeds, asked.selection.feeds or ())
    selection, matched = await read_text(ledger, feeds, asked)
    selection = _worth_asking(selection)
    try:
        with within(SECONDS):
            edge = await _edge(ledger, replace(asked, selection=selection))
            found = await _page(ledger, replace(asked, selection=selection), matched, edge)
    except LedgerUnavailable as error:
        if not error.too_slow:
            raise
        return Found(selection, matched, (), too_slow=True)
    if edge:
        return found
    count = await ledger.listing.count(selection, most=COUNTED, seconds=COUNT_SECONDS)
    return replace(found, count=count)


async def walk(
    ledger: Ledger, selection: Selection, size: int, *, payloads: bool = False
) -> AsyncIterator[list[Document]]:
    """All that is selected, the newest first, in pages of at most `size`, of which some may be empty
    where much is looked at for little. Raises the ledger's errors."""
    selection = _worth_asking(selection)
    order = Order.ID if selection.ids else Order.NEWEST
    asked: Asked | None = Asked(selection, order=order, size=size)
    while asked:
        edge = await _edge(ledger, asked)
        page = await ledger.listing.page(
            selection, order, asked.place, size, edge=edge, payloads=payloads
        )
        yield [document for document in page if selection.takes(document)]
        last = _place(page[-1]) if len(page) == size else _at_edge(edge, order)
        asked = replace(asked, place=last) if last else None


async def read_text(
    ledger: Ledger, feeds: Collection[str], asked: Asked
) -> tuple[Selection, Matched | None]:
    """What is selected with what the search box's text means: an id or Idempotency-Key, a key as
    people write it, how keys begin, or, where the ledger has none of these, a part of a key, a reason or
    an error."""
    selection, text = asked.selection, asked.text
    if not text:
        return selection, None
    named = selection.feeds or ()
    meant = await look_up(ledger, text, feeds, named[0] if len(named) == 1 else None)
    if not meant.ids:
        return replace(selection, text=text), Matched.PART
    ids = [one for one in meant.ids if not selection.ids or one in selection.ids]
    matched = Matched.ID if meant.ids == (text,) else Matched.KEY
    return replace(selection, ids=tuple(ids) or meant.ids), (
        matched if meant.exact else Matched.BEGINNING
    )


def _worth_asking(selection: Selection) -> Selection:
    """Without states in which nothing can be as selected: what is delivered has no reason, no error,
    and an HTTP status of 2xx."""
    never_delivered = (
        selection.reason or selection.reason_kind or (selection.status or 0) >= 300
        or selection.without_status
    )  # fmt: skip
    others = tuple(state for state in selection.states if state is not State.DELIVERED)
    return replace(selection, states=others) if never_delivered and others else selection


def _scans(selection: Selection) -> bool:
    """Whether something is selected that no index knows."""
    return not selection.ids and bool(
        selection.reason
        or selection.text
        or selection.reason_kind is not None
        or selection.status
        or selection.without_status
        or selection.attempts
        or selection.key_pattern
    )


async def _edge(ledger: Ledger, asked: Asked) -> datetime | None:
    """How far the page looks; `None`: as far as there is anything."""
    if not _scans(asked.selection):
        return None
    return await ledger.listing.edge(asked.selection, _direction(asked), asked.place, LOOKED_AT)


async def _page(
    ledger: Ledger, asked: Asked, matched: Matched | None, edge: datetime | None
) -> Found:
    selection, order = asked.selection, _direction(asked)
    read = await ledger.listing.page(selection, order, asked.place, asked.size + 1, edge=edge)
    page = read[: asked.size]
    more = _place(page[-1]) if len(read) > asked.size else _at_edge(edge, order)
    kept = [document for document in page if selection.takes(document)]
    looked_to = edge if len(read) <= asked.size else None
    if asked.backwards:
        kept.reverse()
        here = _place(page[0]) if page else asked.place
        return Found(selection, matched, kept, looked_to=looked_to, before=more, after=here)
    before = None if order is Order.ID else asked.place
    before = before and (_place(page[0]) if page else before)
    return Found(selection, matched, kept, looked_to=looked_to, before=before, after=more)


def _direction(asked: Asked) -> Order:
    """In which order the ledger is asked. Ids that are named are read in the order of ids."""
    if asked.selection.ids:
        return Order.ID
    if not asked.backwards:
        return asked.order
    return Order.OLDEST if asked.order is Order.NEWEST else Order.NEWEST


def _place(document: Document) -> Place:
    return Place(moment_of(document), document["_id"])


def _at_edge(edge: datetime | None, order: Order) -> Place | None:
    """Behind all of that moment."""
    if edge is None:
        return None
    return Place(edge, "" if order is Order.NEWEST else _BEHIND_ALL)
