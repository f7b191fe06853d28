"""The status of every feed, read from the ledger, Redis and the source; and what fails beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import config
from app.broker.depths import Broker
from app.configuration.configured import HEARD_OF, Own, said_of_configuration
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import BrokerUnavailable, RowrelayError
from app.core.states import OPEN_STATES, State
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.heartbeats import KEPT, Heartbeat, Role
from app.ledger.state_counts import FeedCounts
from app.ledger.unconfigured import Unconfigured, unconfigured
from app.monitoring.health import Bounds, failing_tasks, held_back, jobs, judge_feed
from app.partner.throttle.view import EndpointView, view_endpoints
from app.reads.feed_state import FeedState, Stand, state_of
from app.reads.flow import Flow, read_flow

LAG_LIMIT = 100_000
"""Rows waiting in the source are counted up to this."""


class Waiting(Protocol):
    """What tells how many rows wait in the source: `app.source.reader.Source`, or what remembers
    its answers.
    """

    async def waiting(self, feed: Feed, cursor: Cursor, limit: int) -> int | None:
        """Rows beyond the cursor, counted up to `limit`; `None`: not known yet. Raises the
        source's errors."""


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How one feed is doing."""

    feed: str
    state: FeedState
    states: dict[str, int]
    about: list[str]
    """The states whose number is about right: what was settled earlier is remembered and not
    counted again.
    """
    logged: int
    """The sum of the states; about right where one of them is."""
    open: int
    sending: int
    """Of those, rows that workers have in hand now, as they last said."""
    oldest_open: datetime | None
    lag_rows: int | None
    """Rows in the source past the cursor, up to `LAG_LIMIT`; `None` where the source cannot be
    asked.
    """
    flow: Flow
    """What came and went in the last minute, and what failed last."""
    done_in_seconds: float | None
    """Until nothing is open nor waits in the source, at that pace; `None`: never, as it stands."""
    gaps: int
    paused: bool
    paused_reason: str | None
    stopped: str | None
    """What of it is paused, polling, sending or both, and why."""
    position: object
    last_poll_at: datetime | None
    last_error: str | None
    """Of its polls."""
    noted: str | None
    """What last changed in the feed's table, and what followed."""
    noted_at: datetime | None
    notices: list[str]
    """What polls came across that the certificate will not vouch for."""
    configured: bool = True
    """Whether feeds.toml names it."""


@dataclass(frozen=True, slots=True)
class Status:
    """How the whole installation is doing."""

    feeds: list[FeedStatus]
    failing: list[Failing]
    untold: str | None
    """Why nothing is known of breakers and cooldowns: Redis does not answer."""


@dataclass(frozen=True, slots=True)
class Failing:
    """What fails besides a feed's polls."""

    where: str
    """A process, or a periodic job."""
    said: str


async def read_status(
    read: config.Partly,
    ledger: Ledger,
    source: Waiting,
    broker: Broker,
    *,
    recount: bool = False,
    settled: bool = True,
) -> Status:
    """The status of the feeds that are right, as far as feeds.toml can be read, and of every other
    that owes something; and what is wrong with feeds.toml.

    `recount`: counts every delivery anew. `settled`: whether to count what is delivered, cancelled
    and skipped, which takes up to a second for a million; else these are 0, and `logged` is what is
    open or dead. Raises the ledger's errors; Redis and the source may be away.
    """
    loaded, now = read.config, utc_now()
    endpoints, untold = await _endpoints(broker, list(loaded.feeds))
    heartbeats = await ledger.heartbeats.since(now - KEPT)
    lately = [one for one in heartbeats if one.marked_at >= now - HEARD_OF]
    feeds: list[FeedStatus] = []
    if read.named is not None:
        bounds = Bounds.of(loaded.feeds.values(), loaded.settings)
        asking = _Asking(ledger, source, bounds, _rows_in_hand(lately), endpoints)
        counts = (
            await ledger.state_counts.by_feed(now, recount=recount)
            if settled
            else await ledger.state_counts.unsettled()
        )
        feeds = await _feeds(asking, loaded.feeds, read.named, counts)
    failing = [
        Failing(one.where, f"{one.field}: found {one.found}; {one.allowed}") for one in read.wrong
    ]
    failing += [Failing(one.name, said) for one in heartbeats for said in failing_tasks(one, now)]
    own = Own.of(loaded)
    failing += [
        Failing(one.name, said) for one in lately for said in said_of_configuration(one, own, now)
    ]
    failing += [Failing(job.name, said) for job in await jobs(ledger) for said in job.waits_for]
    return Status(feeds, failing, untold)


async def _endpoints(
    broker: Broker, feeds: Sequence[str]
) -> tuple[dict[str, EndpointView], str | None]:
    """Feed → its endpoint's breaker and cooldown; none, and why, where Redis does not answer."""
    try:
        return await broker.ask(lambda redis: view_endpoints(redis, list(feeds))), None
    except BrokerUnavailable as error:
        return {}, str(error)


def _rows_in_hand(lately: Sequence[Heartbeat]) -> Counter[str] | None:
    """Feed → rows that workers have in hand, as each that was heard of lately said; `None`: none
    was.
    """
    workers = [one for one in lately if one.role is Role.WORKER]
    if not workers:
        return None
    in_hand: Counter[str] = Counter()
    for held in (held for one in workers for held in one.holds):
        in_hand[held.feed] += held.rows
    return in_hand


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who is asked about each feed, and what is known of all of them."""

    ledger: Ledger
    source: Waiting
    bounds: Bounds
    in_hand: Counter[str] | None
    endpoints: Mapping[str, EndpointView]


async def _feeds(
    asking: _Asking,
    feeds: Mapping[str, Feed],
    named: Collection[str],
    counts: Mapping[str, FeedCounts],
) -> list[FeedStatus]:
    """Each of `feeds`, then every feed that is not `named` in feeds.toml and owes something."""
    ledger, nothing = asking.ledger, FeedCounts({})
    found = [
        await _feed_status(feed, asking, counts.get(feed.name, nothing)) for feed in feeds.values()
    ]
    others = await unconfigured(ledger, named)
    return found + [
        await _other_status(other, ledger, counts.get(other.feed, nothing)) for other in others
    ]


async def _feed_status(feed: Feed, asking: _Asking, counts: FeedCounts) -> FeedStatus:
    ledger, now = asking.ledger, utc_now()
    cursor = await ledger.cursors.get(feed.name)
    lag, problem = await _lag(feed, cursor, asking.source)
    flow = await read_flow(ledger, feed.name, now)
    found = _on_record(counts, cursor)
    sending = (asking.in_hand or Counter())[feed.name]
    done_in = flow.done_in(found.open, lag or 0)
    return replace(
        found,
        state=state_of(
            cursor,
            asking.endpoints.get(feed.name),
            now,
            workers=asking.in_hand is not None,
            polled=not judge_feed(feed, cursor, asking.bounds, now).problems,
            moving=bool(sending or flow.logged or flow.settled),
        ),
        sending=sending,
        oldest_open=await ledger.backlog.oldest_open(feed.name),
        lag_rows=lag,
        flow=flow,
        done_in_seconds=None if done_in is None else done_in.total_seconds(),
        last_error=cursor.last_error or problem or held_back(feed, cursor, now),
    )


async def _other_status(other: Unconfigured, ledger: Ledger, counts: FeedCounts) -> FeedStatus:
    """Of a feed that feeds.toml does not name: nobody knows its source."""
    return replace(
        _on_record(counts, await ledger.cursors.get(other.feed)),
        state=FeedState(Stand.NOT_CONFIGURED),
        open=other.open,
        oldest_open=other.oldest,
        done_in_seconds=None,
        last_error=other.said(utc_now()),
        noted=None,
        noted_at=None,
        notices=[],
        configured=False,
    )


def _on_record(counts: FeedCounts, cursor: Cursor) -> FeedStatus:
    """What counts and cursor say, before anybody else is asked."""
    states = counts.states
    return FeedStatus(
        feed=cursor.feed,
        state=FeedState(Stand.IDLE),
        states={state.value: states.get(state, 0) for state in State},
        about=[state.value for state in State if state in counts.about],
        logged=sum(states.values()),
        open=sum(states.get(state, 0) for state in OPEN_STATES),
        sending=0,
        oldest_open=None,
        lag_rows=None,
        flow=Flow(),
        done_in_seconds=0.0,
        gaps=len(cursor.gaps),
        paused=cursor.paused,
        paused_reason=cursor.paused_reason,
        stopped=cursor.stopped,
        position=cursor.position,
        last_poll_at=cursor.last_poll_at,
        last_error=cursor.last_error,
        noted=cursor.noted,
        noted_at=cursor.noted_at,
        notices=[notice.said for notice in cursor.notices],
    )


async def _lag(feed: Feed, cursor: Cursor, source: Waiting) -> tuple[int | None, str | None]:
    try:
        return await source.waiting(feed, cursor, LAG_LIMIT), None
    except RowrelayError as error:
        return None, str(error)
