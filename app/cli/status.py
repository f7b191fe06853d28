"""`status`: where each feed stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

import typer

import config
from app.cli.output import (
    AsJson,
    ago,
    console,
    load_config,
    open_source,
    own_feeds,
    print_json,
    print_table,
    with_ledger,
)
from app.clock import utc_now
from app.configured import HEARD_OF, Own, differing
from app.errors import RowrelayError
from app.feed import Feed
from app.health import failing_tasks, held_back, jobs
from app.ledger import Ledger
from app.ledger.progress import KEPT, Role
from app.ledger.tally import Standing
from app.models import OPEN_STATES, Cursor, State
from app.source.reader import Source
from app.unconfigured import Unconfigured, unconfigured

LAG_LIMIT = 100_000
"""Rows waiting in the source are counted up to this."""

NOTED_FOR = timedelta(days=1)
"""How long a change of a feed's table is shown; `--json` always has it."""


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """One feed's line."""

    feed: str
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
    gaps: int
    paused: bool
    paused_reason: str | None
    position: object
    last_poll_at: datetime | None
    last_error: str | None
    noted: str | None
    """What last changed in the feed's table, and what followed."""
    noted_at: datetime | None
    notices: list[str]
    """What polls came across that the certificate will not vouch for."""
    configured: bool = True
    """Whether feeds.toml names it."""


Recount = Annotated[bool, typer.Option("--recount", help="Count every delivery anew, however many there are.")]


def status(as_json: AsJson = False, recount: Recount = False) -> None:
    """Per feed: states, backlog, oldest open, lag, gaps, last poll and error.

    Counts are exact while the ledger holds up to a million deliveries. With more, those delivered, cancelled or skipped
    are counted once and remembered; such a number is about right, and marked with ~ (JSON: "about").
    """
    loaded = load_config()
    lines, failing = with_ledger(loaded, lambda ledger: _read(loaded, ledger, recount=recount))
    if as_json:
        print_json({"feeds": lines, "failing": failing})
        return
    columns = [
        "feed",
        *(state.value for state in State),
        "open",
        "sending",
        "oldest open",
        "lag",
        "gaps",
        "last poll",
        "note",
    ]
    if not print_table("Feeds", columns, [_row(line) for line in lines]):
        for feed in lines:
            if note := _note(feed):
                console.print(f"{feed.feed}: {note}", soft_wrap=True)
    if any(line.about for line in lines):
        console.print("~ about: remembered, and what was settled since. status --recount counts all anew.")
    for line in failing:
        console.print(f"{line.where}: {line.said}", soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Failing:
    """What fails besides a feed's polls."""

    where: str
    """A process, or a periodic job."""
    said: str


async def _read(loaded: config.Config, ledger: Ledger, *, recount: bool) -> tuple[list[FeedStatus], list[Failing]]:
    return await read_status(loaded, ledger, recount=recount), await read_failing(ledger, own_feeds(loaded))


async def read_failing(ledger: Ledger, own: Own) -> list[Failing]:
    """What fails now in the processes that were heard of, or is not as it should be, and among the periodic jobs.
    `own`: the feeds.toml that they should run with. Raises the ledger's errors."""
    now = utc_now()
    marks = await ledger.progress.since(now - KEPT)
    of_processes = [Failing(mark.name, said) for mark in marks for said in failing_tasks(mark, now)]
    of_processes += [Failing(one.process, one.said) for one in await differing(ledger, own)]
    return of_processes + [Failing(job.name, said) for job in await jobs(ledger) for said in job.waits_for]


async def read_status(loaded: config.Config, ledger: Ledger, *, recount: bool = False) -> list[FeedStatus]:
    """The state of every configured feed, read from the ledger and the source, and of every other that owes something.

    Raises the ledger's errors.
    """
    sending = await read_sending(ledger)
    standing, nothing = await ledger.tally.standing(utc_now(), recount=recount), Standing({})
    source = open_source(loaded)
    try:
        feeds = loaded.feeds.values()
        found = [
            await _feed_status(feed, ledger, source, standing.get(feed.name, nothing), sending[feed.name])
            for feed in feeds
        ]
    finally:
        await source.close()
    others = await unconfigured(ledger, loaded.feeds)
    return found + [await _other_status(other, ledger, standing.get(other.feed, nothing)) for other in others]


async def read_sending(ledger: Ledger) -> Counter[str]:
    """Feed → rows that workers have in hand: what each of them that was heard of lately said. Raises the ledger's
    errors."""
    marks = await ledger.progress.since(utc_now() - HEARD_OF, Role.WORKER)
    sending: Counter[str] = Counter()
    for held in (held for mark in marks for held in mark.holds):
        sending[held.feed] += held.rows
    return sending


async def _feed_status(feed: Feed, ledger: Ledger, source: Source, standing: Standing, sending: int) -> FeedStatus:
    cursor = await ledger.cursors.get(feed.name)
    lag, problem = await _lag(feed, cursor, source)
    return replace(
        _on_record(standing, cursor),
        sending=sending,
        oldest_open=await ledger.deliveries.oldest_open(feed.name),
        lag_rows=lag,
        last_error=cursor.last_error or problem or held_back(feed, cursor, utc_now()),
    )


async def _other_status(other: Unconfigured, ledger: Ledger, standing: Standing) -> FeedStatus:
    """Of a feed that feeds.toml does not name: nobody knows its source."""
    return replace(
        _on_record(standing, await ledger.cursors.get(other.feed)),
        open=other.open,
        oldest_open=other.oldest,
        last_error=other.said(utc_now()),
        noted=None,
        noted_at=None,
        notices=[],
        configured=False,
    )


def _on_record(standing: Standing, cursor: Cursor) -> FeedStatus:
    """What counts and cursor say, before anybody else is asked."""
    states = standing.states
    return FeedStatus(
        feed=cursor.feed,
        states={state.value: states.get(state, 0) for state in State},
        about=[state.value for state in State if state in standing.about],
        logged=sum(states.values()),
        open=sum(states.get(state, 0) for state in OPEN_STATES),
        sending=0,
        oldest_open=None,
        lag_rows=None,
        gaps=len(cursor.gaps),
        paused=cursor.paused,
        paused_reason=cursor.paused_reason,
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


def _row(line: FeedStatus) -> list[object]:
    return [
        line.feed,
        *(f"~{count}" if state in line.about else count for state, count in line.states.items()),
        line.open,
        line.sending,
        ago(line.oldest_open) if line.oldest_open else None,
        line.lag_rows,
        line.gaps,
        ago(line.last_poll_at),
        _note(line),
    ]


def _note(line: FeedStatus) -> str | None:
    """The most pressing of what is to be said of a feed, and what polls came across."""
    return "; ".join([*filter(None, [_pressing(line)]), *line.notices]) or None


def _pressing(line: FeedStatus) -> str | None:
    if line.paused and line.configured:
        return f"paused: {line.paused_reason}"
    if line.last_error or line.noted is None or line.noted_at is None or utc_now() - line.noted_at > NOTED_FOR:
        return line.last_error
    return f"{ago(line.noted_at)} ago: {line.noted}"
