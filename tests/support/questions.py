"""Every question of the ledger's repositories, as it is asked of `busy_ledger`, and what a server
may read for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

from app.core.batches import Batch, Lease, NewBatch
from app.core.rows import SourceRow
from app.core.states import OPEN_STATES, State
from app.ledger import Ledger
from app.ledger.listing import Order, Place
from app.ledger.picking import Picked
from app.ledger.selection import Between, Selection
from app.ledger.stamp import Stamp
from tests.support.busy_ledger import (
    BATCH,
    BIG,
    DAY,
    PAUSED,
    RESTORED,
    batch_name,
    name_of,
    open_ones,
)
from tests.support.ledger import FEED, LEASE, NOW, failed, loaded

Asking: TypeAlias = Callable[[Ledger], Awaitable[Any]]
LATER = NOW + timedelta(hours=1)
STAMP = Stamp("me", NOW)
KEPT_DEAD = 100
UNREAD = SourceRow("gone", 1, "{}")


@dataclass(frozen=True, slots=True)
class Ask:
    """One way to ask, and how much the server may read beside what it returns and what is named by
    id.
    """

    ask: Asking
    within: int = 0
    """Documents, and keys: of a sum, what it adds up."""
    sorts_ties: bool = False
    """What it sorts in memory is of one moment, and it may."""


def ids(state: State, *numbers: int, feed: str = FEED) -> list[str]:
    return [name_of(feed, state, number) for number in numbers]


def new_batch(state: State, *numbers: int) -> NewBatch:
    return NewBatch("orders-ffffffffffffffff", FEED, tuple(ids(state, *numbers)))


def held(number: int, *, taken_over: bool = False) -> Batch:
    """The batch that a queued delivery of that number is in, as somebody claimed it."""
    lease, first = Lease("token", LATER, "w1"), number // BATCH * BATCH
    named = tuple(ids(State.QUEUED, *range(first, first + BATCH)))
    before = Lease("before", NOW, "w0") if taken_over else None
    return Batch(
        batch_name(FEED, number),
        FEED,
        named,
        lease,
        first=before or lease,
        tries=2,
        previous=before,
    )


def dead(*feeds: str, **narrowed: Any) -> Selection:
    return Selection((State.DEAD,), feeds=feeds or None, **narrowed)


def behind(state: State, number: int, feed: str = FEED) -> Picked:
    """That delivery, as the last of a page."""
    at = DAY + timedelta(seconds=number)
    return Picked(
        name_of(feed, state, number), feed, None, at - LEASE if state is State.QUEUED else at
    )


async def _fail(ledger: Ledger) -> None:
    batch = held(40)
    await ledger.deliveries.fail(
        batch, [failed(row) for row in (await loaded(ledger, batch)).values()], NOW
    )


async def _to_cancel(ledger: Ledger, state: State) -> None:
    await ledger.selections.to_cancel(Selection((state,)), state, LATER, None, 100)


async def _cancel(ledger: Ledger, state: State) -> None:
    named = ids(state, *range(200, 300))
    await ledger.selections.cancel(Selection((state,)), state, named, Stamp("me", LATER))


async def _to_acknowledge(ledger: Ledger, *, undo: bool) -> None:
    await ledger.selections.to_acknowledge(dead(), LATER, None, 50, undo=undo)


async def _acknowledge(ledger: Ledger, *, undo: bool) -> None:
    await ledger.selections.acknowledge(dead(), ids(State.DEAD, *range(20, 40)), STAMP, undo=undo)


def of_deliveries() -> dict[str, list[Ask]]:
    """Deliveries one by one and in batches, and the attempts of them."""
    queued, hundred = held(0), ids(State.DELIVERED, *range(100))
    waiting = open_ones(State.QUEUED) + 100  # a few more, once other questions have changed theirs
    everything = max(waiting, open_ones(State.RETRYING))
    return {
        "attempts.delivered_under": [
            Ask(lambda at: at.attempts.delivered_under(dict.fromkeys(hundred, "aa")))
        ],
        "attempts.of_delivery": [Ask(lambda at: at.attempts.of_delivery(hundred[0]))],
        "audit.acknowledge": [
            Ask(lambda at: at.audit.acknowledge(dict.fromkeys(hundred[:10], (1, 2)), "me", NOW))
        ],
        "audit.count_states": [Ask(lambda at: at.audit.count_states(hundred))],
        "audit.facts_of": [Ask(lambda at: at.audit.facts_of(hundred))],
        "audit.ids_after": [Ask(lambda at: at.audit.ids_after(FEED, hundred[0], 500))],
        "audit.keys_of": [Ask(lambda at: at.audit.keys_of(hundred))],
        "audit.states_of": [Ask(lambda at: at.audit.states_of(hundred))],
        "audit.total": [Ask(lambda at: at.audit.total(FEED, 2000), within=2000)],
        "deliveries.accepted_since": [
            Ask(lambda at: at.deliveries.accepted_since(FEED, NOW - timedelta(days=1))),
            Ask(lambda at: at.deliveries.accepted_since("nobody", NOW - timedelta(days=1))),
        ],
        "requeueing.adopt": [
            Ask(lambda at: at.requeueing.adopt(new_batch(State.QUEUED, 50, 51), ["gone"]))
        ],
        "deliveries.fail": [Ask(_fail)],
        "deliveries.fence": [Ask(lambda at: at.deliveries.fence(held(20, taken_over=True), NOW))],
        "deliveries.get": [Ask(lambda at: at.deliveries.get(hundred[0]))],
        "deliveries.ids": [Ask(lambda at: at.deliveries.ids(FEED))],
        "deliveries.known": [Ask(lambda at: at.deliveries.known(hundred), within=len(hundred))],
        "deliveries.load": [Ask(lambda at: at.deliveries.load(queued))],
        "deliveries.sizes": [Ask(lambda at: at.deliveries.sizes(queued))],
        "deliveries.note_seen": [
            Ask(
                lambda at: at.deliveries.note_seen(
                    FEED, [SourceRow("delivered-00001", 7, "{}")], NOW
                )
            )
        ],
        "requeueing.requeue_due": [
            Ask(lambda at: at.requeueing.requeue_due(new_batch(State.RETRYING, *range(50)), LATER))
        ],
        "deliveries.succeed": [
            Ask(lambda at: at.deliveries.succeed(queued, {200: ids(State.QUEUED, 1, 2)}, NOW)),
        ],
        "deliveries.succeed_before": [
            Ask(
                lambda at: at.deliveries.succeed_before(
                    held(10, taken_over=True), {200: ids(State.QUEUED, 11)}, NOW
                )
            ),
        ],
        "deliveries.unsettled": [Ask(lambda at: at.deliveries.unsettled(queued))],
        "requeueing.due_retries": [
            Ask(lambda at: at.requeueing.due_retries(LATER, 100)),
            Ask(lambda at: at.requeueing.due_retries(LATER, 100, [PAUSED])),
            Ask(lambda at: at.requeueing.due_retries(LATER, 100, [PAUSED, BIG, FEED])),
            Ask(lambda at: at.requeueing.due_retries(LATER, 100, [PAUSED], among=[FEED])),
        ],
        "requeueing.hasten": [Ask(lambda at: at.requeueing.hasten(NOW, timedelta(days=1)))],
        "requeueing.hasten_failed_later": [
            Ask(lambda at: at.requeueing.hasten_failed_later(NOW), within=open_ones(State.RETRYING))
        ],
        "backlog.oldest_open": [
            Ask(lambda at: at.backlog.oldest_open(FEED), within=open_ones(State.RETRYING, FEED)),
            Ask(lambda at: at.backlog.oldest_open("nobody")),
        ],
        "backlog.open_ids": [Ask(lambda at: at.backlog.open_ids(FEED, 100))],
        "backlog.open_by_feed": [
            Ask(lambda at: at.backlog.open_by_feed(), within=everything),
            Ask(lambda at: at.backlog.open_by_feed(without=[PAUSED, BIG, FEED])),
        ],
        "requeueing.queued_batches": [
            Ask(lambda at: at.requeueing.queued_batches(NOW), within=waiting)
        ],
        "requeueing.queued_in": [
            Ask(lambda at: at.requeueing.queued_in(["gone"], 100), within=waiting)
        ],
        "backlog.retrying": [Ask(lambda at: at.backlog.retrying(FEED, 50), within=50)],
        "state_counts.deliveries": [Ask(lambda at: at.state_counts.deliveries())],
        "state_counts.settled_feeds": [Ask(lambda at: at.state_counts.settled_feeds())],
        "state_counts.by_feed": [
            Ask(lambda at: at.state_counts.by_feed(NOW), within=open_ones(State.DELIVERED))
        ],
        "state_counts.unacknowledged": [
            Ask(lambda at: at.state_counts.unacknowledged(FEED, 0, 100), within=100 + KEPT_DEAD),
            Ask(
                lambda at: at.state_counts.unacknowledged(FEED, 10_000, 20_000),
                within=open_ones(State.DEAD, FEED),
            ),
            Ask(
                lambda at: at.state_counts.unacknowledged(PAUSED, 0, 100),
                within=RESTORED + KEPT_DEAD,
            ),
            Ask(lambda at: at.state_counts.unacknowledged("nobody", 0, 100)),
        ],
        "state_counts.indexed": [Ask(lambda at: at.state_counts.indexed(), within=everything)],
        "state_counts.unsettled": [Ask(lambda at: at.state_counts.unsettled(), within=everything)],
    }


def of_an_operator() -> dict[str, list[Ask]]:
    """Selections: a page is no more than itself, whatever feeds are meant, and wherever it begins."""
    named = Selection((State.DEAD,), ids=tuple(ids(State.DEAD, *range(100))))
    selections: list[tuple[State, tuple[str, ...] | None]] = [
        (state, feeds) for state in State for feeds in (None, (FEED,), (FEED, PAUSED))
    ]

    def replay(state: State, feeds: tuple[str, ...] | None, after: Picked | None) -> Ask:
        selection = Selection((state,), feeds=feeds)
        return Ask(
            lambda at: at.selections.to_replay(selection, state, LATER, after, 100),
            within=KEPT_DEAD,
        )

    return {
        **_of_a_list(named),
        "selections.counts": [
            Ask(lambda at: at.selections.counts(dead()), within=open_ones(State.DEAD)),
            Ask(lambda at: at.selections.counts(dead(FEED)), within=open_ones(State.DEAD, FEED)),
            Ask(lambda at: at.selections.counts(dead(FEED, since=NOW)), within=0),
            Ask(lambda at: at.selections.counts(named), within=100),
        ],
        "selections.sample": [Ask(lambda at: at.selections.sample(dead(FEED, PAUSED), 10))],
        "selections.beside": [Ask(lambda at: at.selections.beside(named))],
        "selections.to_replay": [
            *(replay(state, feeds, None) for state, feeds in selections),
            *(replay(state, feeds, behind(state, 100)) for state, feeds in selections),
            Ask(lambda at: at.selections.to_replay(named, State.DEAD, LATER, None, 100)),
        ],
        "selections.to_reread": [
            Ask(
                lambda at: at.selections.to_reread(dead(FEED), LATER, None, 100, without=()),
                within=open_ones(State.DEAD, FEED),
            ),
            Ask(
                lambda at: at.selections.to_reread(named, LATER, None, 100, without=["gone"]),
                within=100,
            ),
        ],
        "selections.give_payload": [
            Ask(lambda at: at.selections.give_payload(FEED, [UNREAD], STAMP))
        ],
        "selections.give_reason": [
            Ask(lambda at: at.selections.give_reason({f"{FEED}:gone": "why"}, STAMP))
        ],
        "selections.replay": [
            Ask(
                lambda at: at.selections.replay(
                    dead(FEED), State.DEAD, NOW, new_batch(State.DEAD, 1, 2, 3), STAMP
                )
            )
        ],
        "selections.to_cancel": [Ask(partial(_to_cancel, state=state)) for state in OPEN_STATES],
        "selections.cancel": [Ask(partial(_cancel, state=state)) for state in OPEN_STATES],
        "selections.let_go": [
            Ask(lambda at: at.selections.let_go(ids(State.CANCELLED, 1, 2), ["gone"]))
        ],
        "selections.to_acknowledge": [
            Ask(partial(_to_acknowledge, undo=undo), within=4 * KEPT_DEAD) for undo in (False, True)
        ],
        "selections.acknowledge": [Ask(partial(_acknowledge, undo=undo)) for undo in (False, True)],
    }


async def _edge(ledger: Ledger, *, selection: Selection, order: Order) -> None:
    await ledger.listing.edge(selection, order, None, 20)


async def _dead_by_reason(ledger: Ledger, *, selection: Selection) -> None:
    await ledger.listing.dead_by_reason(selection, 200, 50)


def _of_a_list(named: Selection) -> dict[str, list[Ask]]:
    """A page reads no more than itself of each state, wherever it begins; what no index knows, all
    that is selected.
    """
    everything = Selection(tuple(State))
    some = [
        Selection((state,), feeds=feeds)
        for state in State
        for feeds in (None, (PAUSED,), (FEED, BIG))
    ]
    tied = Place(NOW, f"{FEED}:a")

    def page(
        selection: Selection, order: Order, after: Place | None = None, within: int = 0
    ) -> Ask:
        return Ask(
            lambda at: at.listing.page(selection, order, after, 20), within=within, sorts_ties=True
        )

    def count(selection: Selection, within: int) -> Ask:
        return Ask(lambda at: at.listing.count(selection), within=within)

    rare = {"reason": "nothing", "status": 500, "key_pattern": "nothing", "attempts": Between(7)}
    return {
        "listing.page": [
            *(
                page(one, order)
                for one in (everything, *some)
                for order in (Order.NEWEST, Order.OLDEST)
            ),
            *(
                page(one, order, _place(one, 150))
                for one in some
                for order in (Order.NEWEST, Order.OLDEST)
            ),
            page(everything, Order.NEWEST, tied),
            page(everything, Order.ID),
            page(everything, Order.ID, Place(NOW, f"{BIG}:delivered-07000")),
            page(named, Order.NEWEST, within=100),
            *(
                page(dead(FEED, **{name: value}), Order.NEWEST, within=open_ones(State.DEAD, FEED))
                for name, value in rare.items()
            ),
            page(dead(FEED, since=NOW), Order.NEWEST),
        ],
        "listing.edge": [
            Ask(partial(_edge, selection=one, order=order), within=21 * 8)
            for one in (everything, dead(FEED, reason="nothing"))
            for order in (Order.NEWEST, Order.OLDEST)
        ],
        "listing.dead_by_reason": [
            Ask(partial(_dead_by_reason, selection=one), within=2 * open_ones(State.DEAD) + 400)
            for one in (Selection((State.DEAD,)), dead(FEED))
        ],
        "listing.count": [
            *(count(Selection((state,)), open_ones(state) + 100) for state in State),
            *(
                count(Selection((state,), feeds=(FEED, PAUSED)), open_ones(state) + 100)
                for state in State
            ),
            count(dead(FEED, since=NOW), 0),
            count(dead(FEED, reason="nothing"), open_ones(State.DEAD, FEED)),
            count(named, 100),
        ],
        "listing.there": [Ask(lambda at: at.listing.there(named.ids), within=100)],
        "listing.beginning": [Ask(lambda at: at.listing.beginning([FEED, "nobody"]))],
        "listing.any_of": [
            Ask(lambda at: at.listing.any_of(FEED)),
            Ask(lambda at: at.listing.any_of("nobody")),
        ],
    }


def _place(selection: Selection, number: int) -> Place:
    last = behind(selection.states[0], number, (selection.feeds or (FEED,))[0])
    return Place(last.place, last.id)
