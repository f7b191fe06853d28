"""Deliveries as a person asks for them: listed a page at a time, or one with all that happened to
it.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from app.core.keys import part_pattern, shown_id
from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.listing import Count, Order, Place, moment_of
from app.ledger.selection import Selection
from app.reads.lookup import ids_meant, look_up, require_feeds
from app.reads.timeline import Timeline, timeline_of


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where a page ended, and so where the next one begins. `str` of it is URL-safe text, and
    `parse` reads that.
    """

    order: Order
    place: Place
    shown: int
    """How many deliveries are listed up to there."""

    def __str__(self) -> str:
        fields = [self.order.value, self.place.at.isoformat(), self.place.id, self.shown]
        return urlsafe_b64encode(orjson.dumps(fields)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> PageToken:
        """The token of that text. Raises `ValueError` for any other."""
        try:
            order, at, last, shown = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return cls(Order(order), Place(datetime.fromisoformat(at), str(last)), int(shown))
        except (ValueError, TypeError) as error:
            raise ValueError("not what a page of this command ended with") from error


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page of which list."""

    selection: Selection
    """Its ids are keys as people type them."""
    order: Order
    limit: int
    after: PageToken | None = None
    contains: str | None = None
    """Text within the key, as people write it."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a token of a list in another order."""
        if self.after and self.after.order is not self.order:
            raise ValueError(f"a page of --sort {self.after.order.value}; say so too")


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One delivery in a list."""

    id: str
    """As a person reads it; every command takes it."""
    feed: str
    state: State
    attempts: int
    at: datetime
    """When it was settled, when its retry is due, or, of a queued one, when it was logged."""
    said: str | int | None
    """Why it is where it is, or what its last attempt came to: a reason, an error or an HTTP
    status.
    """


def line_of(delivery: Document) -> DeliveryLine:
    """A stored delivery as a line of a list."""
    last = delivery.get("last") or {}
    said = delivery.get("reason") or last.get("error") or last.get("status")
    state = State(delivery["state"])
    return DeliveryLine(
        shown_id(delivery), delivery["feed"], state, delivery["attempts"], moment_of(delivery), said
    )


@dataclass(frozen=True, slots=True)
class Page:
    """What was asked for, and found."""

    asked: Asked
    documents: Sequence[Document]
    """As the ledger has them, without their payloads."""
    count: Count | None
    """Of the whole list; `None` where counting took too long."""
    unknown: Sequence[str]
    """Keys that mean nothing in the ledger."""

    @property
    def lines(self) -> list[DeliveryLine]:
        """The deliveries of this page."""
        return [line_of(document) for document in self.documents]

    @property
    def before(self) -> int:
        """How many are listed on the pages before."""
        return self.asked.after.shown if self.asked.after else 0

    @property
    def end(self) -> int:
        """How many are listed, this page included."""
        return self.before + len(self.documents)

    @property
    def following(self) -> PageToken | None:
        """Where the next page begins; `None` where this one is the last."""
        whole = self.count is not None and self.count.exact and self.end >= self.count.number
        if len(self.documents) < self.asked.limit or whole:
            return None
        last = self.documents[-1]
        return PageToken(self.asked.order, Place(moment_of(last), last["_id"]), self.end)


async def read_page(ledger: Ledger, feeds: Collection[str], asked: Asked) -> Page:
    """One page. `feeds`: those that are configured.

    Raises `UnknownFeed` for one that neither `feeds` nor the ledger knows, and the ledger's errors.
    """
    selection, unknown = asked.selection, list[str]()
    named = selection.feeds or ()
    await require_feeds(ledger, feeds, named)
    if asked.contains:
        selection = replace(selection, key_pattern=part_pattern(asked.contains))
    if selection.ids:
        found: dict[str, None] = {}
        for text in selection.ids:
            ids = (await look_up(ledger, text, feeds, named[0] if len(named) == 1 else None)).ids
            found |= dict.fromkeys(ids)
            unknown += [] if ids else [text]
        if not found:
            return Page(asked, (), Count(0), unknown)
        selection = replace(selection, ids=tuple(found))
    after = asked.after.place if asked.after else None
    documents = await ledger.listing.page(selection, asked.order, after, asked.limit)
    return Page(asked, documents, await ledger.listing.count(selection), unknown)


@dataclass(frozen=True, slots=True)
class DeliveryFound:
    """One delivery, and every attempt of it, as the ledger has them."""

    document: Document
    attempts: Sequence[Document]

    @property
    def timeline(self) -> Timeline:
        """What it is, what happened to it and what comes next."""
        return timeline_of(self.document, self.attempts)


async def read_delivery(
    ledger: Ledger, feeds: Collection[str], key: str, feed: str | None = None
) -> DeliveryFound | None:
    """The delivery of that id, or of that key as people type it; `None` where there is none.
    `feeds`: those that are configured; `feed`: of this one alone.

    Raises `AmbiguousKey`, `UnknownFeed` and the ledger's errors.
    """
    await require_feeds(ledger, feeds, [feed] if feed else [])
    (known,) = await ids_meant(ledger, [key], feeds, feed)
    document = await ledger.deliveries.get(known)
    return DeliveryFound(document, await ledger.attempts.of_delivery(known)) if document else None
