"""What `status` reads, and from where: the ledger, Redis and the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

import config
from app.cli.output import open_source, own_feeds
from app.configuration.configured import HEARD_OF, Own, differing
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import BrokerUnavailable, RowrelayError
from app.core.states import OPEN_STATES, State
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.heartbeats import KEPT, Role
from app.ledger.state_counts import FeedCounts
from app.ledger.unconfigured import Unconfigured, unconfigured
from app.monitoring.health import Bounds, failing_tasks, held_back, jobs, judge_feed
from app.partner.throttle.view import EndpointView, view_endpoints
from app.reads.feed_state import FeedState, Stand, state_of
from app.reads.flow import Flow, read_flow
from app.runtime.clients import open_broker
from app.source.reader import Source

LAG_LIMIT = 100_000
"""Rows waiting in the source are counted up to this."""


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """One feed's line."""

    feed: str
    state: FeedState
    states: dict[str, int]
    about: list[str]
    """The states whose number is about right: what was settled earlier is remembered and not counted again."""
    logged: int
    """The sum of the states; about right where one of them is."""
    open: int
    sending: int
    """Of those, rows that workers have in hand now, as they last said."""
    oldest_open: datetime | None
    lag_rows: int | None
    """Rows in the source past the cursor, up to `LAG_LIMIT`; `None` where the source cannot be asked."""
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
    """What `status` tells."""

    feeds: list[FeedStatus]
    failing: list[Failing]
    untold: str | None
    """Why nobody can tell about breakers and cooldowns: Redis does not answer."""


@dataclass(frozen=True, slots=True)
class Failing:
    """What fails besides a feed's polls."""

    where: str
    """A process, or a periodic job."""
    said: str


async def read_all(read: config.Partly, ledger: Ledger, *, recount: bool = False) -> Status:
    """Of the feeds that are right, as far as feeds.toml can be read; and what is wrong with it. Raises the
    ledger's errors; Redis and the source may be away."""
    loaded, feeds = read.config, list[FeedStatus]()
    endpoints, untold = await read_endpoints(loaded)
    if read.named is not None:
        feeds = await read_status(loaded, ledger, recount=recount, endpoints=endpoints, named=read.named)
    wrong = [Failing(one.where, f"{one.field}: found {one.found}; {one.allowed}") for one in read.wrong]
    return Status(feeds, [*wrong, *await read_failing(ledger, own_feeds(loaded))], untold)


async def read_endpoints(loaded: config.Config) -> tuple[dict[str, EndpointView], str | None]:
    """Feed → its endpoint's breaker and cooldown; none, and why, where Redis does not answer."""
    broker = open_broker(loaded.settings)
    try:
        return await broker.ask(lambda redis: view_endpoints(redis, list(loaded.feeds))), None
    except BrokerUnavailable as error:
        return {}, str(error)
    finally:
        await broker.close()


async def read_failing(ledger: Ledger, own: Own | None) -> list[Failing]:
    """What fails now in the processes that were heard of, or is not as it should be, and among the periodic jobs.
    `own`: the feeds.toml that they should run with. Raises the ledger's errors."""
    now = utc_now()
    marks = await ledger.heartbeats.since(now - KEPT)
    of_processes = [Failing(mark.name, said) for mark in marks for said in failing_tasks(mark, now)]
    of_processes += [Failing(one.process, one.said) for one in await differing(ledger, own)]
    return of_processes + [Failing(job.name, said) for job in await jobs(ledger) for said in job.waits_for]


async def read_status(
    loaded: config.Config,
    ledger: Ledger,
    *,
    recount: bool = False,
    endpoints: Mapping[str, EndpointView] = MappingProxyType({}),
    named: Collection[str] | None = None,
) -> list[FeedStatus]:
    """The state of every configured feed, read from the ledger and the source, and of every other that owes something.

    `endpoints`: of feeds of which they are known. `named`: the feeds that feeds.toml names, where it is wrong about
    some. Raises the ledger's errors.
    """
    sending = await read_sending(ledger)
    standing, nothing = await ledger.state_counts.standing(utc_now(), recount=recount), FeedCounts({})
    source = open_source(loaded)
    asking = _Asking(ledger, source, Bounds.of(loaded.feeds.values(), loaded.settings), sending, endpoints)
    try:
        found = [await _feed_status(feed, asking, standing.get(feed.name, nothing)) for feed in loaded.feeds.values()]
    finally:
        await source.close()
    others = await unconfigured(ledger, loaded.feeds if named is None else named)
    return found + [await _other_status(other, ledger, standing.get(other.feed, nothing)) for other in others]


async def read_sending(ledger: Ledger) -> Counter[str] | None:
    """Feed → rows that workers have in hand: what each of them that was heard of lately said. `None`: none was. Raises
    the ledger's errors."""
    marks = await ledger.heartbeats.since(utc_now() - HEARD_OF, Role.WORKER)
    if not marks:
        return None
    sending: Counter[str] = Counter()
    for held in (held for mark in marks for held in mark.holds):
        sending[held.feed] += held.rows
    return sending


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who is asked about each feed, and what is known of all of them."""

    ledger: Ledger
    source: Source
    bounds: Bounds
    sending: Counter[str] | None
    endpoints: Mapping[str, EndpointView]


async def _feed_status(feed: Feed, asking: _Asking, standing: FeedCounts) -> FeedStatus:
    ledger, now = asking.ledger, utc_now()
    cursor = await ledger.cursors.get(feed.name)
    lag, problem = await _lag(feed, cursor, asking.source)
    flow = await read_flow(ledger, feed.name, now)
    found = _on_record(standing, cursor)
    sending = (asking.sending or Counter())[feed.name]
    done_in = flow.done_in(found.open, lag or 0)
    return replace(
        found,
        state=state_of(
            cursor,
            asking.endpoints.get(feed.name),
            now,
            workers=asking.sending is not None,
            polled=not judge_feed(feed, cursor, asking.bounds, now).problems,
            moving=bool(sending or flow.logged or flow.settled),
        ),
        sending=sending,
        oldest_open=await ledger.deliveries.oldest_open(feed.name),
        lag_rows=lag,
        flow=flow,
        done_in_seconds=None if done_in is None else done_in.total_seconds(),
        last_error=cursor.last_error or problem or held_back(feed, cursor, now),
    )


async def _other_status(other: Unconfigured, ledger: Ledger, standing: FeedCounts) -> FeedStatus:
    """Of a feed that feeds.toml does not name: nobody knows its source."""
    return replace(
        _on_record(standing, await ledger.cursors.get(other.feed)),
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


def _on_record(standing: FeedCounts, cursor: Cursor) -> FeedStatus:
    """What counts and cursor say, before anybody else is asked."""
    states = standing.states
    return FeedStatus(
        feed=cursor.feed,
        state=FeedState(Stand.IDLE),
        states={state.value: states.get(state, 0) for state in State},
        about=[state.value for state in State if state in standing.about],
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


async def _lag(feed: Feed, cursor: Cursor, source: Source) -> tuple[int | None, str | None]:
    try:
        return await source.waiting(feed, cursor, LAG_LIMIT), None
    except RowrelayError as error:
        return None, str(error)
