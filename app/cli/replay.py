"""`replay`: puts deliveries back on their way."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.loading import configured_feed, load_config
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
from app.cli.terminal import AsJson, warn
from app.configuration.configured import Own, differing
from app.core.states import State
from app.feeds.feed import Rate, parse_rate
from app.operations.account import Account, Tell
from app.operations.by import By
from app.operations.selection import preview_with_sample

DEFAULT_RATE = Rate(count=50, per_seconds=1)

REPLAYABLE = (State.DEAD, State.CANCELLED, State.DELIVERED)


def _rate(text: str) -> Rate:
    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise typer.BadParameter(
            f'{text!r}: not a rate such as "200/second" or "10000/hour", above 0'
        ) from error
    assert isinstance(rate, Rate)  # noqa: S101 - what it makes of text
    return rate


PerTime = Annotated[
    Rate, typer.Option(parser=_rate, show_default="50/second", help="200/second, 1000/minute, …")
]


def replay(
    *,
    ids: Ids = None,
    feeds: Feeds = None,
    states: States = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    status: Status = None,
    rate: PerTime = DEFAULT_RATE,
    everything: Everything = False,
    why: Why = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put dead deliveries back to queued; cancelled or delivered ones too, where --state says so.

    Times are when they died, were cancelled or were delivered. Attempts and age start anew; the key
    stays. Dead ones whose rows could not be read are read from the source again.

    Stopped half-way, the same command goes on with what is left.
    """
    taken = states_of(states, (State.DEAD,), REPLAYABLE)
    chosen = selected(
        taken, ids, feeds,
        since=since, until=until, reason=reason, status=status, everything=everything,
    )  # fmt: skip
    loaded = load_config()
    for feed in feeds or ():
        configured_feed(loaded, feed)
    with session(loaded) as opened:
        selection = meant_in(opened, chosen)
        previewed = opened.run(lambda at: preview_with_sample(at.replaying, at.ledger, selection))
        for process in opened.run(lambda at: differing(at.ledger, Own.of(loaded))):
            warn(f"warning: {process}")

        def act(tell: Tell) -> Account:
            by = By(operator(), why)
            return opened.run(lambda at: at.replaying.replay(selection, rate, by, tell))

        words = Words("Replay", "replaying", "replayed", again=True)
        carry_out(words, previewed, act, dry_run=dry_run, yes=yes, as_json=as_json)
