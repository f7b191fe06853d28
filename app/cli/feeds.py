"""`feeds list`, `pause`, `resume`, `adopt`, `explain`, `rewind`; from files of their own, `preview` and `test`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

import config
from app.cli.output import (
    FOUND_WRONG,
    WRONG_USAGE,
    AsJson,
    configured_feed,
    console,
    fail,
    load_config,
    own_feeds,
    print_json,
    print_table,
    run,
    with_ledger,
    with_operator,
)
from app.cli.preview import preview_request
from app.cli.trial import try_row
from app.configuration.configured import Differs, differing
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import ConfigError, SourceRefused, SourceUnavailable
from app.core.position import Position
from app.feeds.cursors import POSITION_FORMS
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.unconfigured import Unconfigured, unconfigured
from app.operations.rewind import Reread, Rewinding, said_position
from app.partner.masking import feed_secrets, masked
from app.runtime.operator import Operator
from app.runtime.reader import open_reader
from app.source.catalogue import origin_of, other_source
from app.source.explain import PRODUCTS, Explained, explain_unseen

feeds = typer.Typer(no_args_is_help=True)
feeds.command("preview")(preview_request)
feeds.command("test")(try_row)

COUNTED = 10_000
"""Rows that a dry run counts, at most and a page."""

Name = Annotated[str, typer.Argument(metavar="NAME")]
Polling = Annotated[bool, typer.Option("--polling", help="Polling alone: no new rows are read.")]
Sending = Annotated[bool, typer.Option("--sending", help="Sending alone: rows are read and logged, and wait.")]


@feeds.command("list")
def list_feeds(as_json: AsJson = False) -> None:
    """The configured feeds, and whether each is paused; and those that feeds.toml does not name and that owe rows.

    Below them, the workers and beat that run another feeds.toml.
    """
    loaded = load_config()

    async def ask(ledger: Ledger) -> tuple[list[Cursor], list[Unconfigured], list[Differs]]:
        cursors = [await ledger.cursors.get(name) for name in loaded.feeds]
        return cursors, await unconfigured(ledger, loaded.feeds), await differing(ledger, own_feeds(loaded))

    cursors, others, processes = with_ledger(loaded, ask)
    if as_json:
        described = [_described(loaded.feeds[cursor.feed], cursor) for cursor in cursors]
        print_json({"feeds": described, "not_configured": others, "processes": processes})
        return
    columns = ["feed", "table", "cursor", "partner", "position", "paused"]
    rows = [[_described(loaded.feeds[cursor.feed], cursor)[name] for name in columns] for cursor in cursors]
    if not print_table("Feeds", columns, rows):
        for cursor in cursors:
            if cursor.stopped:
                console.print(f"{cursor.feed}: {cursor.stopped}", soft_wrap=True)
    for other in others:
        console.print(f"{other.feed}: {other.said(utc_now())}", soft_wrap=True)
    for process in processes:
        console.print(f"{process.process}: {process.said}", soft_wrap=True)


@feeds.command("pause")
def pause_feed(
    name: Name,
    reason: Annotated[str, typer.Option(help="Shown by status.")] = "by an operator",
    polling: Polling = False,
    sending: Sending = False,
    as_json: AsJson = False,
) -> None:
    """Stop polling and sending a feed, or one of the two. What is owed stays owed.

    A pause is kept in the ledger and holds for all workers. What a worker has in hand is still sent.
    """
    loaded = _with_feed(name)

    async def pause(ledger: Ledger) -> Cursor:
        if polling == sending:
            await ledger.cursors.pause(name, reason)
        elif polling:
            await ledger.cursors.pause(name, reason, sending=True)
        else:
            await ledger.cursors.pause_sending(name, reason)
        return await ledger.cursors.get(name)

    _print_pause(with_ledger(loaded, pause), as_json)


@feeds.command("resume")
def resume_feed(name: Name, polling: Polling = False, sending: Sending = False, as_json: AsJson = False) -> None:
    """Go on with a paused feed, or with its polling or sending alone."""
    loaded = _with_feed(name)

    async def resume(ledger: Ledger) -> tuple[bool, Cursor]:
        if polling == sending:
            resumed = await ledger.cursors.resume(name)
        elif polling:
            resumed = await ledger.cursors.resume_polling(name)
        else:
            resumed = await ledger.cursors.resume_sending(name)
        return resumed, await ledger.cursors.get(name)

    resumed, cursor = with_ledger(loaded, resume)
    what = "" if polling == sending else "polling " if polling else "sending "
    _print_pause(cursor, as_json, resumed, f"{what}{'resumed' if resumed else 'was not paused'}")


def _print_pause(cursor: Cursor, as_json: bool, changed: bool = True, done: str = "") -> None:
    """Where the feed stands after a pause or a resume."""
    if as_json:
        print_json({"feed": cursor.feed, "changed": changed, **_pauses(cursor)})
    else:
        console.print(f"{cursor.feed}: {'; '.join(filter(None, [done, cursor.stopped]))}", soft_wrap=True)


def _pauses(cursor: Cursor) -> dict[str, object]:
    return {"polled": not cursor.paused, "sent": cursor.sends, "paused": cursor.stopped}


@feeds.command("adopt")
def adopt_feed(name: Name, as_json: AsJson = False) -> None:
    """Say that a feed whose table, key or cursor was changed in feeds.toml still reads the source of its deliveries.

    A renamed table, for instance. What is another source needs a feed of another name. Resumes the feed where it was
    paused for this.
    """
    loaded = _with_feed(name)
    feed = loaded.feed(name)
    now = origin_of(feed)

    async def adopt(ledger: Ledger) -> list[str]:
        before = await ledger.cursors.get(name)
        if before.origin == now:
            return [f"{name}: its deliveries came from {now}, as feeds.toml says; nothing was changed"]
        await ledger.cursors.adopt(name, now, anyway=True)
        told = [f"{name}: taken to be the same source: {before.origin or 'none on record'} is now {now}"]
        if before.paused and before.origin and before.paused_reason == other_source(feed, before.origin):
            await ledger.cursors.resume(name)
            told.append(f"{name}: resumed")
        return told

    try:
        lines = with_ledger(loaded, adopt)
    except SourceRefused as error:
        fail(str(error))
    if as_json:
        print_json({"feed": name, "origin": asdict(now), "told": lines})
        return
    for line in lines:
        console.print(line, soft_wrap=True)


@feeds.command("explain")
def explain_feed(
    name: Name,
    product: Annotated[
        str | None, typer.Option("--dialect", help=f"Do not connect; write for {' or '.join(PRODUCTS)}.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The statements that polling and reconciling a feed send, for a database administrator to review."""
    if product is not None and product not in PRODUCTS:
        fail(f"--dialect: found {product!r}; {' or '.join(PRODUCTS)}", WRONG_USAGE)
    loaded = _with_feed(name)
    note, statements = run(_explained(loaded, loaded.feed(name), product))
    if as_json:
        print_json({"feed": name, "note": note, "statements": [asdict(statement) for statement in statements]})
        return
    if note:
        print(f"-- {note}")
    for statement in statements:
        print(f"\n-- {statement.name}: {statement.when}\n{statement.sql};")
        for parameter, value in statement.parameters.items():
            print(f"--   {parameter} = {value!r}")


@feeds.command("rewind")
def rewind_feed(
    name: Name,
    to: Annotated[str, typer.Option(help=f"beginning, now, or a position: {POSITION_FORMS}.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be read; move nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move a feed's cursor, so that rows are read again. Rows that the ledger has are not delivered again.

    Those whose records are purged are: a rewind to before them asks, and without a terminal wants --yes.
    """
    loaded = _with_feed(name)
    feed = loaded.feed(name)
    try:
        position = to if to in ("beginning", "now") else feed.cursor.parse_position(to)
    except ValueError as error:
        fail(f"--to: found {to!r}; {error}", WRONG_USAGE)
    if not dry_run and not yes:
        _confirm_again(name, with_operator(loaded, lambda operating: _purged(operating.rewinding, feed, position)))
    rewound = with_operator(loaded, lambda operating: _rewound(operating, feed, position, dry_run=dry_run))
    if as_json:
        print_json({"feed": name, "dry_run": dry_run, **asdict(rewound)})
    else:
        for line in rewound.lines(name):
            console.print(line, soft_wrap=True)


async def _purged(rewinding: Rewinding, feed: Feed, to: int | str) -> str | None:
    """Up to where rows would be delivered again, in words; `None`: none would be."""
    purged = await rewinding.purged(feed, await rewinding.target(feed, to))
    return None if purged is None else said_position(feed, purged, None)


def _confirm_again(name: str, purged: str | None) -> None:
    """Ask a person before rows are read that are delivered again; a program must say `--yes`."""
    if purged is None:
        return
    said = f"{name}: records up to {purged} are purged: of rows up to there, those read again are delivered again"
    if not sys.stdin.isatty():
        fail(f"{said}; to do it: --yes", WRONG_USAGE)
    if not typer.confirm(f"{said}. Rewind?", err=True):
        raise typer.Exit(FOUND_WRONG)


@dataclass(frozen=True, slots=True)
class Rewound:
    """Where a cursor stood, and where a rewind moved it, or would."""

    stood: Position
    stands: Position
    stood_said: str
    stands_said: str
    reread: Reread | None
    """Of a dry run: what would be read."""

    def lines(self, name: str) -> Iterator[str]:
        """In words."""
        if self.reread is None:
            yield f"{name}: moved from {self.stood_said} to {self.stands_said}"
            return
        rows, known = self.reread.rows, self.reread.known
        yield f"{name}: stands at {self.stood_said}; would move to {self.stands_said}; nothing was moved"
        yield (
            f"rows to read from there: {'' if self.reread.complete else 'at least '}{rows}; of these {known} are in "
            f"the ledger (read again, not delivered again) and {rows - known} are not"
        )


async def _rewound(operating: Operator, feed: Feed, to: int | str, *, dry_run: bool) -> Rewound:
    """Rewind, or with `dry_run` only look."""
    rewinding = operating.rewinding
    target, lowest = await rewinding.target(feed, to), await rewinding.lowest(feed)
    reread = None
    if dry_run:
        before = await operating.ledger.cursors.get(feed.name)
        reread = await rewinding.reread(feed, target, COUNTED)
    else:
        before = await rewinding.rewind(feed, target)
    said = [said_position(feed, cursor.position, lowest) for cursor in (before, target)]
    return Rewound(before.position, target.position, said[0], said[1], reread)


async def _explained(loaded: config.Config, feed: Feed, product: str | None) -> tuple[str | None, list[Explained]]:
    """The statements, and what to know about them where the source could not be asked."""
    if product is not None:
        return f"not asked: the columns are those that the feed names; {product}", explain_unseen(feed, product)
    known = "mssql"
    try:
        async with open_reader(loaded) as reader:
            known = reader.source.product
            return None, await reader.source.explain(feed)
    except (ConfigError, SourceUnavailable, SourceRefused) as error:
        told = str(error).replace("\n", " ")
        return f"not seen ({told}): the columns are those that the feed names; {known}", explain_unseen(feed, known)


def _with_feed(name: str) -> config.Config:
    loaded = load_config()
    configured_feed(loaded, name)
    return loaded


def _described(feed: Feed, cursor: Cursor) -> dict[str, object]:
    url = feed.partner.url
    path = masked(url.path, feed_secrets(feed))
    return {
        "feed": feed.name,
        "table": feed.table,
        "cursor": f"{feed.cursor.strategy} {feed.cursor.order}",
        "partner": f"{url.scheme}://{url.host}:{url.port}{path}",
        "position": cursor.position,
        **_pauses(cursor),
    }
