"""`feeds list`, `pause`, `resume`, `adopt`, `explain`, `rewind`; from files of their own, `preview` and `test`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated

import typer

import config
from app.cli.output import (
    WRONG_USAGE,
    AsJson,
    console,
    fail,
    load_config,
    own_feeds,
    print_json,
    print_table,
    run,
    with_ledger,
)
from app.cli.preview import preview_request
from app.cli.trial import try_row
from app.clock import utc_now
from app.configured import Differs, differing
from app.errors import ConfigError, SourceRefused, SourceUnavailable, UnknownFeed
from app.feed import Feed, parse_position
from app.ledger import Ledger
from app.models import Cursor
from app.partner.masking import feed_secrets, masked
from app.rewind import Rewinding
from app.source.catalogue import origin_of, other_source
from app.source.engine import open_engine
from app.source.explain import PRODUCTS, Explained, explain_unseen
from app.source.reader import Source
from app.unconfigured import Unconfigured, unconfigured

feeds = typer.Typer(no_args_is_help=True)
feeds.command("preview")(preview_request)
feeds.command("test")(try_row)

COUNTED = 10_000
"""Rows that a dry run counts, at most and a page."""

Name = Annotated[str, typer.Argument(metavar="NAME")]


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
    rows = [list(_described(loaded.feeds[cursor.feed], cursor).values()) for cursor in cursors]
    print_table("Feeds", ["feed", "table", "cursor", "partner", "position", "paused"], rows)
    for other in others:
        console.print(f"{other.feed}: {other.said(utc_now())}", soft_wrap=True)
    for process in processes:
        console.print(f"{process.process}: {process.said}", soft_wrap=True)


@feeds.command("pause")
def pause_feed(name: Name, reason: Annotated[str, typer.Option(help="Shown by status.")] = "by an operator") -> None:
    """Stop polling and sending a feed. What is owed stays owed."""
    loaded = _with_feed(name)
    with_ledger(loaded, lambda ledger: ledger.cursors.pause(name, reason))
    console.print(f"{name}: paused")


@feeds.command("resume")
def resume_feed(name: Name) -> None:
    """Go on with a paused feed."""
    loaded = _with_feed(name)
    resumed = with_ledger(loaded, lambda ledger: ledger.cursors.resume(name))
    console.print(f"{name}: {'resumed' if resumed else 'was not paused'}")


@feeds.command("adopt")
def adopt_feed(name: Name) -> None:
    """Say that a feed whose table, key or cursor was changed in feeds.toml still reads the source of its deliveries.

    A renamed table, for instance. What is another source needs a feed of another name. Resumes the feed where it was
    paused for this.
    """
    loaded = _with_feed(name)
    feed = loaded.feed(name)

    async def adopt(ledger: Ledger) -> list[str]:
        before, now = await ledger.cursors.get(name), origin_of(feed)
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
    for line in lines:
        console.print(line)


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
    to: Annotated[str, typer.Option(help="beginning, now, or a position: an id, 0x… or a moment.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be read; move nothing.")] = False,
) -> None:
    """Move a feed's cursor, so that rows are read again. Rows that the ledger has are not delivered again."""
    loaded = _with_feed(name)
    feed = loaded.feed(name)
    try:
        position = to if to in ("beginning", "now") else parse_position(feed.cursor.strategy, to)
    except ValueError as error:
        fail(f"--to: found {to!r}; {error}", WRONG_USAGE)
    for line in with_ledger(loaded, lambda ledger: _rewound(loaded, feed, ledger, position, dry_run=dry_run)):
        console.print(line)


async def _rewound(loaded: config.Config, feed: Feed, ledger: Ledger, to: int | str, *, dry_run: bool) -> Sequence[str]:
    """Rewind, or with `dry_run` only look. Returns what to tell."""
    async with _source(loaded) as source:
        rewinding = Rewinding(source, ledger)
        target = await rewinding.target(feed, to)
        if not dry_run:
            before = await rewinding.rewind(feed, target)
            return [f"{feed.name}: moved from {before.position} to {target.position}"]
        stands = (await ledger.cursors.get(feed.name)).position
        reread = await rewinding.reread(feed, target, COUNTED)
    rows = f"{'' if reread.complete else 'at least '}{reread.rows}"
    return [
        f"{feed.name}: stands at {stands}; would move to {target.position}; nothing was moved",
        f"rows to read from there: {rows}; of these {reread.known} are in the ledger (read again, not delivered again) "
        f"and {reread.rows - reread.known} are not",
    ]


async def _explained(loaded: config.Config, feed: Feed, product: str | None) -> tuple[str | None, list[Explained]]:
    """The statements, and what to know about them where the source could not be asked."""
    if product is not None:
        return f"not asked: the columns are those that the feed names; {product}", explain_unseen(feed, product)
    known = "mssql"
    try:
        async with _source(loaded) as source:
            known = source.product
            return None, await source.explain(feed)
    except (ConfigError, SourceUnavailable, SourceRefused) as error:
        told = str(error).replace("\n", " ")
        return f"not seen ({told}): the columns are those that the feed names; {known}", explain_unseen(feed, known)


@asynccontextmanager
async def _source(loaded: config.Config) -> AsyncIterator[Source]:
    settings = loaded.settings
    source = Source(
        open_engine(settings.source_url.get_secret_value(), settings.connect_timeout, settings.statement_timeout)
    )
    try:
        yield source
    finally:
        await source.close()


def _with_feed(name: str) -> config.Config:
    loaded = load_config()
    try:
        loaded.feed(name)
    except UnknownFeed as error:
        fail(str(error))
    return loaded


def _described(feed: Feed, cursor: Cursor) -> dict[str, object]:
    url = feed.partner.url
    path = masked(url.path, feed_secrets(feed))
    return {
        "feed": feed.name,
        "table": feed.table,
        "cursor": f"{feed.cursor.strategy.value} {feed.cursor.column}",
        "partner": f"{url.scheme}://{url.host}:{url.port}{path}",
        "position": cursor.position,
        "paused": cursor.paused_reason if cursor.paused else None,
    }
