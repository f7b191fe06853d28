"""The commands of `feeds`, and `feeds list`; each of the others has a file of its own."""

from __future__ import annotations

from dataclasses import asdict

import typer

from app.cli.feeds_adopt import adopt_feed
from app.cli.feeds_explain import explain_feed
from app.cli.feeds_pause import pause_feed, resume_feed
from app.cli.feeds_preview import preview_feed
from app.cli.feeds_rewind import rewind_feed
from app.cli.feeds_trial import try_row
from app.cli.loading import load_config
from app.cli.servers import with_ledger
from app.cli.tables import print_table
from app.cli.terminal import AsJson, console, print_json
from app.configuration.configured import Own
from app.core.clock import utc_now
from app.reads.feeds import read_feeds

feeds = typer.Typer(no_args_is_help=True)
feeds.command("preview")(preview_feed)
feeds.command("test")(try_row)


@feeds.command("list")
def list_feeds(as_json: AsJson = False) -> None:
    """The configured feeds, and whether each is paused; and those that feeds.toml does not name and
    that owe rows.

    Below them, the workers and beat that run another feeds.toml.
    """
    loaded = load_config()
    found = with_ledger(loaded, lambda ledger: read_feeds(ledger, loaded.feeds, Own.of(loaded)))
    if as_json:
        summaries = [asdict(one) for one in found.feeds]
        print_json(
            {
                "feeds": summaries,
                "not_configured": found.not_configured,
                "processes": found.processes,
            }
        )
        return
    columns = ["feed", "table", "cursor", "partner", "position", "paused"]
    rows = [
        [one.feed, one.table, one.cursor, one.partner, one.position, one.paused]
        for one in found.feeds
    ]
    if not print_table("Feeds", columns, rows):
        for one in found.feeds:
            if one.paused:
                console.print(f"{one.feed}: {one.paused}", soft_wrap=True)
    for other in found.not_configured:
        console.print(f"{other.feed}: {other.said(utc_now())}", soft_wrap=True)
    for process in found.processes:
        console.print(f"{process.process}: {process.said}", soft_wrap=True)


feeds.command("pause")(pause_feed)
feeds.command("resume")(resume_feed)
feeds.command("adopt")(adopt_feed)
feeds.command("explain")(explain_feed)
feeds.command("rewind")(rewind_feed)
