"""`feeds pause` and `feeds resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.loading import configured_feed, load_config
from app.cli.options import FeedName, Why
from app.cli.servers import operator, with_ledger
from app.cli.terminal import AsJson, console, print_json
from app.core.cursors import Cursor
from app.operations.by import By
from app.operations.pause import NO_REASON, Part, pause, resume

Polling = Annotated[bool, typer.Option("--polling", help="Polling alone: no new rows are read.")]
Sending = Annotated[
    bool, typer.Option("--sending", help="Sending alone: rows are read and logged, and wait.")
]


def pause_feed(
    name: FeedName,
    reason: Annotated[str, typer.Option(help="Shown by status.")] = NO_REASON,
    polling: Polling = False,
    sending: Sending = False,
    as_json: AsJson = False,
) -> None:
    """Stop polling and sending a feed, or one of the two. What is owed stays owed.

    A pause is kept in the ledger and holds for all workers. What a worker has in hand is still
    sent.
    """
    loaded, by, part = (
        load_config(),
        By(operator(), reason),
        _part(polling=polling, sending=sending),
    )
    configured_feed(loaded, name)
    _print_pause(with_ledger(loaded, lambda ledger: pause(ledger, name, by, part)), as_json)


def resume_feed(
    name: FeedName,
    why: Why = None,
    polling: Polling = False,
    sending: Sending = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a paused feed, or with its polling or sending alone."""
    loaded, by, part = load_config(), By(operator(), why), _part(polling=polling, sending=sending)
    configured_feed(loaded, name)
    resumed = with_ledger(loaded, lambda ledger: resume(ledger, name, by, part))
    what = "" if part is Part.BOTH else f"{part.value} "
    done = f"{what}{'resumed' if resumed.changed else 'was not paused'}"
    _print_pause(resumed.cursor, as_json, resumed.changed, done)


def _part(*, polling: bool, sending: bool) -> Part:
    """Both options are as none."""
    if polling == sending:
        return Part.BOTH
    return Part.POLLING if polling else Part.SENDING


def _print_pause(cursor: Cursor, as_json: bool, changed: bool = True, done: str = "") -> None:
    """Where the feed stands after a pause or a resume."""
    if as_json:
        pauses = {"polled": not cursor.paused, "sent": cursor.sends, "paused": cursor.stopped}
        print_json({"feed": cursor.feed, "changed": changed, **pauses})
    else:
        console.print(
            f"{cursor.feed}: {'; '.join(filter(None, [done, cursor.stopped]))}", soft_wrap=True
        )
