"""`acknowledge`: takes dead letters for settled."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.loading import load_config
from app.cli.moving import (
    DryRun,
    Everything,
    Why,
    Yes,
    confirm,
    meant_in,
    print_done,
    print_dry_run,
    progress,
    required,
)
from app.cli.options import Feeds, Ids, Reason, Since, Status, Until
from app.cli.servers import operator, session
from app.cli.terminal import AsJson
from app.core.states import State
from app.ledger.selection import Selection
from app.operations.acknowledge import Acknowledging
from app.operations.by import By
from app.operations.selection import preview_with_sample


def acknowledge(
    *,
    ids: Ids = None,
    feeds: Feeds = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    status: Status = None,
    everything: Everything = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take it back: ordinary dead letters again.")
    ] = False,
    why: Why = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take dead letters for settled: they will not be delivered, and replay leaves them alone.

    Purge keeps every dead letter but these: their payload and record go when the feed's retention
    says, counted from now. Times are when they died. Letters that die while the command runs are
    left alone.
    """
    chosen = Selection(
        states=(State.DEAD,), ids=tuple(ids or ()), feeds=tuple(feeds) if feeds else None,
        since=since, until=until, reason=reason, status=status,
    )  # fmt: skip
    chosen, done = required(chosen, everything=everything), "taken back" if undo else "acknowledged"
    with session(load_config()) as opened:
        selection = meant_in(opened, chosen)
        acknowledging = Acknowledging(opened.operating.ledger, undo=undo)
        previewed = opened.run(lambda at: preview_with_sample(acknowledging, at.ledger, selection))
        if dry_run:
            print_dry_run(done, previewed, as_json)
            return
        confirm("Take back the acknowledgement of" if undo else "Acknowledge", previewed, yes)
        with progress("acknowledging", previewed.account, as_json) as tell:
            by = By(operator(), why)
            account = opened.run(lambda _: acknowledging.acknowledge(selection, by, tell))
    print_done(done, account, as_json)
