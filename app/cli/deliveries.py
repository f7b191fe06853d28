"""`deliveries list` and `deliveries show`."""

from __future__ import annotations

import shlex
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import orjson
import typer

import config
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
from app.cli.output import (
    FOUND_WRONG,
    WRONG_USAGE,
    AsJson,
    ago,
    console,
    fail,
    load_config,
    print_json,
    print_table,
    warn,
    with_ledger,
)
from app.cli.timeline import print_delivery
from app.core.clock import rough, utc_now
from app.core.keys import part_pattern, shown_id
from app.core.shown import plain
from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.listing import Count, Order, Place, moment_of
from app.ledger.selection import Selection
from app.reads.lookup import ids_meant, look_up, require_feeds

deliveries = typer.Typer(no_args_is_help=True)

PAGE = 50


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a page ended, as `--after` takes it."""

    order: Order
    place: Place
    shown: int
    """How many deliveries are listed up to there."""

    def __str__(self) -> str:
        fields = [self.order.value, self.place.at.isoformat(), self.place.id, self.shown]
        return urlsafe_b64encode(orjson.dumps(fields)).decode().rstrip("=")


def parse_mark(text: str) -> Mark:
    """The mark of that text, as a page gave it."""
    try:
        order, at, last, shown = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return Mark(Order(order), Place(datetime.fromisoformat(at), str(last)), int(shown))
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"{text!r}: not what a page of this command ended with") from error


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page of which list."""

    selection: Selection
    order: Order
    limit: int
    after: Mark | None = None
    contains: str | None = None
    """The text that the selection's pattern was made of."""


@dataclass(frozen=True, slots=True)
class Page:
    """What was asked for, and found."""

    asked: Asked
    documents: Sequence[Document]
    count: Count | None
    unknown: Sequence[str]
    """Keys that mean nothing in the ledger."""

    @property
    def before(self) -> int:
        """How many are listed on the pages before."""
        return self.asked.after.shown if self.asked.after else 0

    @property
    def end(self) -> int:
        """How many are listed, this page included."""
        return self.before + len(self.documents)

    @property
    def following(self) -> Mark | None:
        """Where the next page begins; `None` where this one is the last."""
        whole = self.count is not None and self.count.exact and self.end >= self.count.number
        if len(self.documents) < self.asked.limit or whole:
            return None
        last = self.documents[-1]
        return Mark(self.asked.order, Place(moment_of(last), last["_id"]), self.end)


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
        Mark | None,
        typer.Option(parser=parse_mark, metavar="MARK", help="The next page: what the last one ended with."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliveries a page at a time, the newest first, without their payloads.

    Their time is when they were settled, when their retry is due, or, for queued ones, when they were logged. --since
    and --until go by when they were settled, or, for open ones, logged.
    """
    if after and after.order is not sort:
        fail(f"--after: a page of --sort {after.order.value}; say so too", WRONG_USAGE)
    selection = Selection(
        states=tuple(dict.fromkeys(states or State)),
        ids=tuple(keys or ()),
        feeds=tuple(dict.fromkeys(feeds)) if feeds else None,
        since=since,
        until=until,
        reason=reason,
        status=status,
        attempts=attempts,
        key_pattern=part_pattern(contains) if contains else None,
    )
    loaded, asked = load_config(), Asked(selection, sort, limit, after, contains)
    page = with_ledger(loaded, lambda ledger: _page(ledger, loaded, asked))
    if as_json:
        _print_json(page)
    else:
        print_table("Deliveries", ["id", "state", "attempts", "time", "last"], [*map(_row, page.documents)], whole=1)
        print(_counted(page))
        if page.following:
            console.print(f"the next: {_again(page.asked)} --after {page.following}", soft_wrap=True)
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
    """One delivery with its payload, and all that happened to it, what the partner answered included."""
    loaded = load_config()

    async def ask(ledger: Ledger) -> tuple[Document | None, list[Document]]:
        await require_feeds(ledger, loaded.feeds, [feed] if feed else [])
        (known,) = await ids_meant(ledger, [key], loaded.feeds, feed)
        return await ledger.deliveries.get(known), await ledger.attempts.of_delivery(known)

    delivery, attempts = with_ledger(loaded, ask)
    if delivery is None:
        of_feed = f" of feed {feed}" if feed else ""
        fail(f"{key!r}: no delivery{of_feed} in the ledger; ids read <feed>:<key>, of feeds {', '.join(loaded.feeds)}")
    if as_json:
        print_json({"delivery": delivery, "attempts": attempts})
    else:
        print_delivery(delivery, attempts)


async def _page(ledger: Ledger, loaded: config.Config, asked: Asked) -> Page:
    selection, unknown = asked.selection, list[str]()
    feeds = selection.feeds or ()
    await require_feeds(ledger, loaded.feeds, feeds)
    if selection.ids:
        found: dict[str, None] = {}
        for text in selection.ids:
            ids = (await look_up(ledger, text, loaded.feeds, feeds[0] if len(feeds) == 1 else None)).ids
            found |= dict.fromkeys(ids)
            unknown += [] if ids else [text]
        if not found:
            return Page(asked, (), Count(0), unknown)
        selection = replace(selection, ids=tuple(found))
    documents = await ledger.listing.page(
        selection, asked.order, asked.after.place if asked.after else None, asked.limit
    )
    return Page(asked, documents, await ledger.listing.count(selection), unknown)


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
    listed = f"{page.before + 1} to {page.end}" if page.before and page.documents else f"{len(page.documents)}"
    if page.count is None:
        return f"{listed} of more than were counted in time; --state, --feed and --since narrow them"
    return f"{listed} of {page.count.number:,}{'' if page.count.exact else ' or more'}"


def _row(delivery: Document) -> list[object]:
    state, now = State(delivery["state"]), utc_now()
    moment = moment_of(delivery)
    at = f"in {rough(moment - now)}" if moment > now else f"{ago(moment)} ago"
    said = delivery.get("reason") or _last(delivery)
    return [shown_id(delivery), state, delivery["attempts"], at, said]


def _last(delivery: Document) -> str | None:
    last = delivery.get("last") or {}
    return last.get("error") or last.get("status")


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
