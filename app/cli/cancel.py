"""`cancel`: takes deliveries off their way."""

from __future__ import annotations

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
    states_of,
)
from app.cli.options import Feeds, Ids, Reason, Since, States, Status, Until
from app.cli.servers import operator, session
from app.cli.terminal import AsJson
from app.core.states import OPEN_STATES
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.operations.selection import preview_with_sample


def cancel(
    *,
    ids: Ids = None,
    feeds: Feeds = None,
    states: States = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    status: Status = None,
    everything: Everything = False,
    why: Why = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take queued and retrying deliveries off their way. What is being sent right now may still
    arrive.

    Times are when they were logged. Rows logged while the command runs are left alone.
    """
    chosen = Selection(
        states=states_of(states, OPEN_STATES, OPEN_STATES), ids=tuple(ids or ()), feeds=tuple(feeds) if feeds else None,
        since=since, until=until, reason=reason, status=status,
    )  # fmt: skip
    chosen = required(chosen, everything=everything)
    with session(load_config()) as opened:
        selection = meant_in(opened, chosen)
        previewed = opened.run(
            lambda at: preview_with_sample(Cancelling(at.ledger), at.ledger, selection)
        )
        if dry_run:
            print_dry_run("cancelled", previewed, as_json)
            return
        confirm("Cancel", previewed, yes)
        with progress("cancelling", previewed.account, as_json) as tell:
            by = By(operator(), why)
            account = opened.run(lambda at: Cancelling(at.ledger).cancel(selection, by, tell))
    print_done("cancelled", account, as_json)
