"""`cancel`: takes deliveries off their way."""

from __future__ import annotations

from app.cli.loading import load_config
from app.cli.moving import (
    DryRun,
    Everything,
    Words,
    Yes,
    carry_out,
    meant_in,
    selected,
    states_of,
)
from app.cli.options import Feeds, Ids, Reason, Since, States, Status, Until, Why
from app.cli.servers import operator, session
from app.cli.terminal import AsJson
from app.core.states import OPEN_STATES
from app.operations.account import Account, Tell
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
    taken = states_of(states, OPEN_STATES, OPEN_STATES)
    chosen = selected(
        taken, ids, feeds,
        since=since, until=until, reason=reason, status=status, everything=everything,
    )  # fmt: skip
    with session(load_config()) as opened:
        selection = meant_in(opened, chosen)
        previewed = opened.run(
            lambda at: preview_with_sample(Cancelling(at.ledger), at.ledger, selection)
        )

        def act(tell: Tell) -> Account:
            by = By(operator(), why)
            return opened.run(lambda at: Cancelling(at.ledger).cancel(selection, by, tell))

        words = Words("Cancel", "cancelling", "cancelled")
        carry_out(words, previewed, act, dry_run=dry_run, yes=yes, as_json=as_json)
