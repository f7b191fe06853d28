"""Deliveries: found, looked at, revealed, and one of them acted on."""

from __future__ import annotations

from collections.abc import Callable

from app.console.audit.service import Audit
from app.console.deliveries.acting import Acting, obstacles
from app.console.deliveries.masking import masks_personal, masks_row
from app.console.deliveries.ref import read_ref
from app.console.deliveries.schemas import DeliveryFilter, DeliverySearch
from app.console.deliveries.shown import (
    Action,
    ActionShown,
    DeliveryLine,
    DeliveryPage,
    DeliveryShown,
    Done,
    RequestShown,
    event_of,
    fields_of,
    timeline_fields,
)
from app.console.errors import Conflict, Forbidden, Invalid, NotFound
from app.console.masked import masked_body
from app.console.schemas import cursor_of, read_cursor, read_cursor_moment
from app.console.security.roles import Permission, Principal
from app.core.clock import Clock, utc_now
from app.core.errors import ConfigError
from app.ledger.client import Document
from app.ledger.listing import Order, Place
from app.ledger.selection import Selection
from app.partner.request import prepare
from app.reads.deliveries import DeliveryFound
from app.reads.preview import preview_request
from app.reads.search import Asked, Found, read_text, search
from app.reads.subject import find_subject
from app.runtime.operator import Operator

EVENTS = 200
"""Events that are shown of one delivery: the latest."""

Mask = Callable[[str], str]


class Deliveries:
    """What the console does with deliveries."""

    def __init__(self, operator: Operator, audit: Audit, now: Clock = utc_now) -> None:
        self._operator = operator
        self._audit = audit
        self._acting = Acting(operator, audit)
        self._now = now

    async def search(self, actor: Principal, asked: DeliverySearch) -> DeliveryPage:
        """A page of what is asked for. Raises `Forbidden`, `Invalid` for a cursor of another list,
        `UnknownFeed`, and the ledger's errors."""
        actor.require(Permission.LOOK)
        place, backwards = _place_of(asked)
        found = await search(
            self._operator.ledger,
            self._operator.feeds,
            Asked(asked.selection(), asked.q, asked.in_order, asked.limit, place, backwards),
        )
        return self._page(actor, found, asked.in_order)

    async def meant(self, actor: Principal, asked: DeliveryFilter) -> Selection:
        """What a filter selects, its `q` looked up. Raises `Forbidden` and the ledger's errors."""
        actor.require(Permission.LOOK)
        wanted = Asked(asked.selection(), asked.q)
        selection, _ = await read_text(self._operator.ledger, self._operator.feeds, wanted)
        return selection

    async def show(self, actor: Principal, ref: str) -> DeliveryShown:
        """One delivery and all that happened to it, its row masked. Raises `Forbidden`, `NotFound`
        and the ledger's errors."""
        actor.require(Permission.LOOK)
        document = await self._document(ref)
        attempts = await self._operator.ledger.attempts.of_delivery(document["_id"])
        timeline = DeliveryFound(document, attempts).timeline
        mask = self._mask(actor, document)
        return DeliveryShown(
            **fields_of(document, mask),
            **timeline_fields(timeline),
            row=timeline.payload and masked_body(timeline.payload),
            answers_masked=not actor.may(Permission.REVEAL),
            events=[event_of(event, mask) for event in timeline.events[-EVENTS:]],
            events_left_out=max(0, len(timeline.events) - EVENTS),
            actions=self._actions(actor, document),
        )

    async def reveal(self, actor: Principal, ref: str, why: str) -> str:
        """The row of a delivery as it is sent; on record before it is given. Raises `Forbidden`,
        `NotFound`, `Conflict` where there is none, and the ledger's errors."""
        delivery_id = read_ref(ref)
        await self._audit.require(actor, Permission.REVEAL, "delivery.reveal", delivery_id, why=why)
        payload: str | None = (await self._document(ref)).get("payload")
        if not payload:
            raise Conflict("there is no payload: retention has dropped it, or it was never read")
        await self._audit.note(actor, "delivery.revealed", delivery_id, why=why)
        return payload

    async def request(self, actor: Principal, ref: str) -> RequestShown:
        """The request that would be sent now, values of the row and secrets masked. Raises
        `Forbidden`, `NotFound`, `Conflict` for a feed that is not configured, and the errors of the
        ledger and the source."""
        return await self.request_of(actor, await self._document(ref))

    async def request_of(self, actor: Principal, document: Document) -> RequestShown:
        """The same of a stored delivery."""
        actor.require(Permission.LOOK)
        feed = self._operator.feeds.get(document["feed"])
        if feed is None:
            raise Conflict(f"feed {document['feed']} is not in feeds.toml: nothing is sent for it")
        try:
            prepared = prepare(feed)
        except ConfigError as error:
            raise Conflict(f"no request of feed {feed.name} can be sent: {error}") from error
        subject = await find_subject(
            feed, self._operator.ledger, self._operator.source, document["_id"], self._now()
        )
        if subject is None:
            raise Conflict("neither the ledger nor the source has its row any more")
        previewed = preview_request(prepared, subject)
        mask = masks_row(subject.delivery.payload, document["key"])
        return RequestShown(
            sent=previewed.sent,
            why_not=mask(previewed.unsent) if previewed.unsent else None,
            row_from=subject.found_in,
            method=previewed.method,
            url=mask(previewed.url),
            headers={name: _header(name, value, mask) for name, value in previewed.headers.items()},
            body=_body_masked(previewed.body, mask),
        )

    async def act(
        self, actor: Principal, ref: str, action: Action, why: str, *, again: bool = False
    ) -> Done:
        """Replay, cancel or acknowledge one delivery; on record before and after. `again`: also one
        that was delivered. Raises `Forbidden`, which is on record too, `NotFound`, `Conflict` where it
        cannot be done, and the ledger's errors."""
        delivery_id = read_ref(ref)
        await self._audit.require(
            actor, Permission.OPERATE, f"delivery.{action}", delivery_id, why=why
        )
        document = await self._document(ref)
        state = await self._acting.act(actor, document, action, why, again=again)
        return Done(ref=ref, action=action, state=state)

    async def _document(self, ref: str) -> Document:
        document = await self._operator.ledger.deliveries.get(read_ref(ref))
        if document is None:
            raise NotFound("the ledger has no such delivery, or retention has deleted it")
        return document

    def _mask(self, actor: Principal, document: Document) -> Mask:
        if actor.may(Permission.REVEAL):
            return str
        return masks_row(document.get("payload"), document["key"])

    def _line(self, actor: Principal, document: Document) -> DeliveryLine:
        mask = str if actor.may(Permission.REVEAL) else masks_personal(document["key"])
        return DeliveryLine(**fields_of(document, mask))

    def _page(self, actor: Principal, found: Found, order: Order) -> DeliveryPage:
        return DeliveryPage(
            items=[self._line(actor, document) for document in found.documents],
            next=_cursor("next", order, found.after),
            previous=_cursor("previous", order, found.before),
            count=found.count.number if found.count else None,
            count_exact=bool(found.count and found.count.exact),
            matched=found.matched,
            complete=found.looked_to is None and not found.too_slow,
            looked_to=found.looked_to,
        )

    def _actions(self, actor: Principal, document: Document) -> list[ActionShown]:
        found = obstacles(document, self._operator.feeds)
        if not actor.may(Permission.OPERATE):
            found = dict.fromkeys(found, _why_not(actor))
        return [ActionShown(action=action, why_not=why) for action, why in found.items()]


def _why_not(actor: Principal) -> str | None:
    try:
        actor.require(Permission.OPERATE)
    except Forbidden as error:
        return str(error)
    return None


def _header(name: str, value: str, mask: Mask) -> str:
    return value if name.lower() == "idempotency-key" else mask(value)


def _body_masked(body: str, mask: Mask) -> str:
    """A body of JSON without its values, another with those of the row masked."""
    return masked_body(body) if body[:1] in ("{", "[") else mask(body)


def _cursor(way: str, order: Order, place: Place | None) -> str | None:
    return cursor_of(way, order.value, place.at.isoformat(), place.id) if place else None


def _place_of(asked: DeliverySearch) -> tuple[Place | None, bool]:
    """Where the page begins, and whether it goes backwards. Raises `Invalid`."""
    fields = read_cursor(asked.after, str, str, str, str)
    if fields is None:
        return None, False
    way, order, at, last = fields
    moment = read_cursor_moment(at)
    if order != asked.order or way not in ("next", "previous"):
        raise Invalid(f"of a list in another order: {order}", "query.after")
    return Place(moment, last), way == "previous"
