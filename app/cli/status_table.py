"""What `status` prints for people: a line a feed, and below it in full what a line has no room for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from app.cli.tables import ago, print_table
from app.cli.terminal import console
from app.core.clock import rough, utc_now
from app.core.states import State
from app.reads.feed_state import FeedState, Stand

if TYPE_CHECKING:
    from app.reads.status import FeedStatus, Status

NOTED_FOR = timedelta(days=1)
"""How long a change of a feed's table is shown; `--json` always has it."""

SPARE = (
    "cancelled", "skipped", "queued", "retrying", "gaps", "sending", "delivered", "last poll", "lag", "dead",
)  # fmt: skip
"""Columns that a narrow terminal goes without, the first of them first."""

_NEAR = timedelta(hours=12)
"""How far away a time of day can be that is said without its date."""

_SLOWEST = 0.1
"""Rows a second that are shown as a number."""


def show(found: Status, zone: ZoneInfo) -> None:
    """Print the table, and what is to be read below it. Times are on the clock of `zone`."""
    now = utc_now().astimezone(zone)
    columns = [
        "feed", "state", *(state.value for state in State), "open", "sending", "oldest", "rows/s", "done in", "lag",
        "gaps", "last poll", "error",
    ]  # fmt: skip
    rows = [_row(line, now) for line in found.feeds]
    whole = print_table(f"Feeds, {now:%Y-%m-%d %H:%M:%S} {now:%Z}", columns, rows, SPARE, whole=2)
    for line in found.feeds:
        for note in _notes(line, whole=whole):
            console.print(f"{line.feed}: {note}", soft_wrap=True)
    if any(line.about for line in found.feeds):
        console.print(
            "~ about: remembered, and what was settled since. Counted anew by: python -m app status --recount"
        )
    for failing in found.failing:
        console.print(f"{failing.where}: {failing.said}", soft_wrap=True)
    if any(line.state.stand is Stand.NO_WORKER for line in found.feeds):
        hint = "python -m app health says how to start one"
        console.print(
            f"no worker was heard of for a minute: nothing is polled or sent. {hint}.",
            soft_wrap=True,
        )
    if found.untold is not None:
        console.print(f"breakers and cooldowns are not known: {found.untold}", soft_wrap=True)


def _row(line: FeedStatus, now: datetime) -> list[object]:
    return [
        line.feed,
        said_of(line.state, now),
        *(f"~{count}" if state in line.about else count for state, count in line.states.items()),
        line.open,
        line.sending,
        ago(line.oldest_open) if line.oldest_open else None,
        _pace(line.flow.delivered),
        _done_in(line),
        line.lag_rows,
        line.gaps,
        ago(line.last_poll_at),
        _error(line),
    ]


def said_of(state: FeedState, now: datetime) -> str:
    """The state, and until when, on the clock that `now` is of; with the date where that is half a
    day away or more, since a date takes the room of another column.
    """
    if state.until is None:
        return state.stand.value
    until = state.until.astimezone(now.tzinfo)
    stand = state.stand.value.removesuffix(" open")  # each column of a terminal counts
    return (
        f"{stand} until {until:%H:%M:%S}"
        if until - now < _NEAR
        else f"{stand} until {until:%d %b %H:%M}"
    )


def _pace(rows: float) -> str:
    """Rows a second, to a figure that can be read: `0`, `<0.1`, `4.2`, `1250`."""
    if rows < _SLOWEST:
        return "<0.1" if rows else "0"
    return f"{rows:.1f}" if rows < 10 else f"{rows:.0f}"


def _done_in(line: FeedStatus) -> str | None:
    """How long until the backlog is gone; nothing where there is none."""
    if not line.configured:
        return "never"
    if line.done_in_seconds is None:
        return "grows" if line.flow.settled else "never"
    return rough(timedelta(seconds=line.done_in_seconds)) if line.done_in_seconds else None


def _error(line: FeedStatus) -> str | None:
    """What keeps the feed, or what its attempts last failed of."""
    if line.stopped and line.configured:
        return line.stopped
    if line.last_error:
        return line.last_error
    failure = line.flow.failure
    return f"{failure.text} ({ago(failure.minute)} ago)" if failure else None


def _notes(line: FeedStatus, *, whole: bool) -> list[str]:
    """What is said of a feed below the table; its error too, where the table had no room for the
    whole of it.
    """
    error = None if whole else _error(line)
    noted = None
    if (
        line.noted is not None
        and line.noted_at is not None
        and utc_now() - line.noted_at <= NOTED_FOR
    ):
        noted = f"{ago(line.noted_at)} ago: {line.noted}"
    return [*filter(None, [error, noted]), *line.notices]
