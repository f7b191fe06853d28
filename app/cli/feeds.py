"""`feeds list`, `feeds pause` and `feeds resume`."""

from __future__ import annotations

from typing import Annotated

import typer

import config
from app.cli.output import AsJson, console, fail, load_config, print_json, print_table, with_ledger
from app.errors import UnknownFeed
from app.feed import Feed
from app.ledger import Ledger
from app.models import Cursor

feeds = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@feeds.command("list")
def list_feeds(as_json: AsJson = False) -> None:
    """The configured feeds, and whether each is paused."""
    loaded = load_config()

    async def ask(ledger: Ledger) -> list[Cursor]:
        return [await ledger.cursors.get(name) for name in loaded.feeds]

    cursors = with_ledger(loaded, ask)
    if as_json:
        print_json({"feeds": [_described(loaded.feeds[cursor.feed], cursor) for cursor in cursors]})
        return
    rows = [list(_described(loaded.feeds[cursor.feed], cursor).values()) for cursor in cursors]
    print_table("Feeds", ["feed", "table", "cursor", "partner", "position", "paused"], rows)


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


def _with_feed(name: str) -> config.Config:
    loaded = load_config()
    try:
        loaded.feed(name)
    except UnknownFeed as error:
        fail(str(error))
    return loaded


def _described(feed: Feed, cursor: Cursor) -> dict[str, object]:
    return {
        "feed": feed.name,
        "table": feed.table,
        "cursor": f"{feed.cursor.strategy.value} {feed.cursor.column}",
        "partner": f"{feed.partner.url.scheme}://{feed.partner.url.host}:{feed.partner.url.port}{feed.partner.url.path}",
        "position": cursor.position,
        "paused": cursor.paused_reason if cursor.paused else None,
    }
