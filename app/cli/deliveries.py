"""`deliveries list` and `deliveries show`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from app.cli.loading import load_config
from app.cli.options import (
    KEY_HELP,
    AttemptsMade,
    Feeds,
    Ids,
    KeyPart,
    Reason,
    Since,
    States,
    Status,
    Until,
)
from app.cli.servers import with_ledger
from app.cli.tables import ago, print_table
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, console, fail, print_json, warn
from app.cli.timeline import print_timeline
from app.core.clock import rough, utc_now
from app.core.shown import plain
from app.core.states import State
from app.ledger.listing import Order
from app.ledger.selection import Selection
from app.reads.deliveries import Asked, DeliveryLine, Page, PageToken, read_delivery, read_page

deliveries = typer.Typer(no_args_is_help=True)

PAGE = 50


def parse_token(text: str) -> PageToken:
    """The token of that text, as a page gave it."""
    try:
        return PageToken.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from error


@deliveries.command("list")
def list_deliveries(
    keys: Ids = None,
    *,
    feeds: Feeds = None,
    states: States = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    status: Status = None,
    attempts: AttemptsMade = None,
    contains: KeyPart = None,
    sort: Annotated[Order, typer.Option(help="By time, or by id.")] = Order.NEWEST,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Deliveries on a page.")] = PAGE,
    after: Annotated[
        PageToken | None,
        typer.Option(
            parser=parse_token, metavar="TOKEN", help="The next page: what the last one ended with."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliveries a page at a time, the newest first, without their payloads.

    Their time is when they were settled, when their retry is due, or, for queued ones, when they
    were logged. --since and --until go by when they were settled, or, for open ones, logged.
    """
    selection = Selection(
        states=tuple(dict.fromkeys(states or State)),
        ids=tuple(keys or ()),
        feeds=tuple(dict.fromkeys(feeds)) if feeds else None,
        since=since,
        until=until,
        reason=reason,
        status=status,
        attempts=attempts,
    )
    try:
        asked = Asked(selection, sort, limit, after, contains)
    except ValueError as error:
        fail(f"--after: {error}", WRONG_USAGE)
    loaded = load_config()
    page = with_ledger(loaded, lambda ledger: read_page(ledger, loaded.feeds, asked))
    if as_json:
        _print_json(page)
    else:
        print_table(
            "Deliveries",
            ["id", "state", "attempts", "time", "last"],
            [*map(_row, page.lines)],
            whole=1,
        )
        print(_counted(page))
        if page.following:
            console.print(
                f"the next: {_again(page.asked)} --after {page.following}", soft_wrap=True
            )
    for text in page.unknown:
        warn(f"{text!r}: nothing of that key in the ledger")
    if page.unknown:
        raise typer.Exit(FOUND_WRONG)


@deliveries.command("show")
def show_delivery(
    key: Annotated[str, typer.Argument(metavar="KEY", help=KEY_HELP)],
    feed: Annotated[str | None, typer.Option(help="Of this feed.")] = None,
    as_json: AsJson = False,
) -> None:
    """One delivery with its payload, and all that happened to it, what the partner answered
    included.
    """
    loaded = load_config()
    found = with_ledger(loaded, lambda ledger: read_delivery(ledger, loaded.feeds, key, feed))
    if found is None:
        of_feed = f" of feed {feed}" if feed else ""
        fail(
            f"{key!r}: no delivery{of_feed} in the ledger; ids read <feed>:<key>, of feeds {', '.join(loaded.feeds)}"
        )
    if as_json:
        print_json({"delivery": found.document, "attempts": found.attempts})
    else:
        print_timeline(found.timeline)


def _print_json(page: Page) -> None:
    print_json(
        {
            "deliveries": page.documents,
            "count": page.count.number if page.count else None,
            "count_exact": bool(page.count and page.count.exact),
            "next": str(page.following) if page.following else None,
            "unknown": [plain(text) for text in page.unknown],
        }
    )


def _counted(page: Page) -> str:
    """`50 of 205`; of a later page `51 to 100 of 205`."""
    listed = (
        f"{page.before + 1} to {page.end}"
        if page.before and page.documents
        else f"{len(page.documents)}"
    )
    if page.count is None:
        return (
            f"{listed} of more than were counted in time; --state, --feed and --since narrow them"
        )
    return f"{listed} of {page.count.number:,}{'' if page.count.exact else ' or more'}"


def _row(line: DeliveryLine) -> list[object]:
    now = utc_now()
    at = f"in {rough(line.at - now)}" if line.at > now else f"{ago(line.at)} ago"
    return [line.id, line.state, line.attempts, at, line.said]


def _again(asked: Asked) -> str:
    """The command that lists the same, as it is typed."""
    selection = asked.selection
    of_all = len(selection.states) == len(State)
    options: list[tuple[str, object]] = [
        *(("--feed", feed) for feed in selection.feeds or ()),
        *(("--state", state.value) for state in (() if of_all else selection.states)),
        ("--since", selection.since.isoformat() if selection.since else None),
        ("--until", selection.until.isoformat() if selection.until else None),
        ("--reason", selection.reason),
        ("--status", selection.status),
        ("--attempts", selection.attempts),
        ("--contains", asked.contains),
        ("--sort", None if asked.order is Order.NEWEST else asked.order.value),
        ("--limit", None if asked.limit == PAGE else asked.limit),
    ]
    given = [word for name, value in options if value is not None for word in (name, str(value))]
    return shlex.join(["python", "-m", "app", "deliveries", "list", *selection.ids, *given])
