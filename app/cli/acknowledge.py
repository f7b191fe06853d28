"""`acknowledge`: takes dead letters for settled."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.loading import load_config
from app.cli.moving import (
    DryRun,
    Everything,
    Words,
    Yes,
    carry_out,
    meant_in,
    selected,
)
from app.cli.options import Feeds, Ids, Reason, Since, Status, Until, Why
from app.cli.servers import operator, session
from app.cli.terminal import AsJson
from app.core.states import State
from app.operations.account import Account, Tell
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
    dead = (State.DEAD,)
    chosen = selected(
        dead, ids, feeds,
        since=since, until=until, reason=reason, status=status, everything=everything,
    )  # fmt: skip
    verb, done = (
        ("Take back the acknowledgement of", "taken back")
        if undo
        else ("Acknowledge", "acknowledged")
    )
    with session(load_config()) as opened:
        selection = meant_in(opened, chosen)
        acknowledging = Acknowledging(opened.operating.ledger, undo=undo)
        previewed = opened.run(lambda at: preview_with_sample(acknowledging, at.ledger, selection))

        def act(tell: Tell) -> Account:
            by = By(operator(), why)
            return opened.run(lambda _: acknowledging.acknowledge(selection, by, tell))

        words = Words(verb, "acknowledging", done)
        carry_out(words, previewed, act, dry_run=dry_run, yes=yes, as_json=as_json)
