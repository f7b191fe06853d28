"""`replay`, `cancel` and `acknowledge`: put deliveries back on their way, take them off it, or let dead ones rest."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Annotated, TypeAlias

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import config
from app.cli.options import Feeds, Ids, Reason, Since, States, Status, Until
from app.cli.output import (
    FOUND_WRONG,
    WRONG_USAGE,
    AsJson,
    PlainConsole,
    ago,
    configured_feed,
    fail,
    load_config,
    operator,
    own_feeds,
    print_fields,
    print_json,
    print_table,
    warn,
    with_ledger,
    with_operator,
)
from app.configuration.configured import differing
from app.core.keys import shown_id
from app.core.states import OPEN_STATES, State
from app.feeds.feed import Rate, parse_rate
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.operator_moves import Counted
from app.ledger.selection import Selection
from app.operations.replay import Account, Acknowledging, Cancelling, Tell
from app.reads.lookup import ids_meant, require_feeds

CONFIRM_ABOVE = 100
SAMPLE = 10
DEFAULT_RATE = Rate(count=50, per_seconds=1)

REPLAYABLE = (State.DEAD, State.CANCELLED, State.DELIVERED)

Looking: TypeAlias = Callable[[Selection], Awaitable[tuple[Account, list[Counted]]]]
Looked: TypeAlias = tuple[Account, list[Counted], list[Document]]


def _rate(text: str) -> Rate:
    try:
        rate = parse_rate(text)
    except ValueError as error:
        raise typer.BadParameter(f'{text!r}: not a rate such as "200/second" or "10000/hour", above 0') from error
    assert isinstance(rate, Rate)  # noqa: S101 - what it makes of text
    return rate


PerTime = Annotated[Rate, typer.Option(parser=_rate, show_default="50/second", help="200/second, 1000/minute, …")]
Everything = Annotated[bool, typer.Option("--all", help="Needed where nothing but a state is selected.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, and show a few; move nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


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
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put dead deliveries back to queued; cancelled or delivered ones too, where --state says so.

    Times are when they died, were cancelled or were delivered. Attempts and age start anew; the key stays. Dead ones
    whose rows could not be read are read from the source again.

    Stopped half-way, the same command goes on with what is left.
    """
    chosen = _states(states, (State.DEAD,), REPLAYABLE)
    selection = _selection(
        chosen, ids=ids, feeds=feeds, since=since, until=until, reason=reason, status=status, everything=everything
    )
    loaded = load_config()
    for feed in feeds or ():
        configured_feed(loaded, feed)
    selection = _meant(loaded, selection)

    account, counted, sample = with_operator(
        loaded, lambda operating: _look(operating.replaying.look, operating.ledger, selection)
    )
    for process in with_ledger(loaded, lambda ledger: differing(ledger, own_feeds(loaded))):
        warn(f"warning: {process}")
    if not dry_run:
        _confirm("Replay", account, yes, again=_delivered(counted))
        with _progress("replaying", account, as_json) as tell:
            account = with_operator(
                loaded, lambda operating: operating.replaying.replay(selection, rate, operator(), tell)
            )
    _report("replayed", account, counted, sample if dry_run else None, as_json)


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
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take queued and retrying deliveries off their way. What is being sent right now may still arrive.

    Times are when they were logged. Rows logged while the command runs are left alone.
    """
    chosen = _states(states, OPEN_STATES, OPEN_STATES)
    selection = _selection(
        chosen, ids=ids, feeds=feeds, since=since, until=until, reason=reason, status=status, everything=everything
    )
    loaded = load_config()
    selection = _meant(loaded, selection)
    account, counted, sample = with_ledger(loaded, lambda ledger: _look(Cancelling(ledger).look, ledger, selection))
    if not dry_run:
        _confirm("Cancel", account, yes)
        with _progress("cancelling", account, as_json) as tell:
            account = with_ledger(loaded, lambda ledger: Cancelling(ledger).cancel(selection, operator(), tell))
    _report("cancelled", account, counted, sample if dry_run else None, as_json)


def acknowledge(
    *,
    ids: Ids = None,
    feeds: Feeds = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    status: Status = None,
    everything: Everything = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back: ordinary dead letters again.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take dead letters for settled: they will not be delivered, and replay leaves them alone.

    Purge keeps every dead letter but these: their payload and record go when the feed's retention says, counted from
    now. Times are when they died. Letters that die while the command runs are left alone.
    """
    selection = _selection(
        (State.DEAD,),
        ids=ids,
        feeds=feeds,
        since=since,
        until=until,
        reason=reason,
        status=status,
        everything=everything,
    )
    loaded = load_config()
    selection = _meant(loaded, selection)

    def acknowledging(ledger: Ledger) -> Acknowledging:
        return Acknowledging(ledger, undo=undo)

    account, counted, sample = with_ledger(loaded, lambda ledger: _look(acknowledging(ledger).look, ledger, selection))
    if not dry_run:
        _confirm("Take back the acknowledgement of" if undo else "Acknowledge", account, yes)
        with _progress("acknowledging", account, as_json) as tell:
            account = with_ledger(loaded, lambda ledger: acknowledging(ledger).acknowledge(selection, operator(), tell))
    _report("taken back" if undo else "acknowledged", account, counted, sample if dry_run else None, as_json)


def _states(given: Sequence[State] | None, default: Sequence[State], allowed: Sequence[State]) -> tuple[State, ...]:
    for state in given or ():
        if state not in allowed:
            fail(f"--state {state.value}: takes {', '.join(allowed)}", WRONG_USAGE)
    return tuple(dict.fromkeys(given or default))


def _selection(
    states: tuple[State, ...],
    *,
    ids: Sequence[str] | None,
    feeds: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
    reason: str | None,
    status: int | None,
    everything: bool,
) -> Selection:
    """The selection; exit code 2 where nothing narrows it and `--all` is not said."""
    if not (ids or feeds or since or until or reason or status or everything):
        fail("nothing is selected: name ids, --feed, --since, --until, --reason or --status, or say --all", WRONG_USAGE)
    return Selection(
        states=states,
        ids=tuple(dict.fromkeys(ids or ())),
        feeds=tuple(feeds) if feeds else None,
        since=since,
        until=until,
        reason=reason,
        status=status,
    )


def _meant(loaded: config.Config, selection: Selection) -> Selection:
    """The selection with the ids that are meant by the keys typed. Exit code 2 for a feed that nobody knows, and for a
    key that means several deliveries."""

    async def ask(ledger: Ledger) -> Selection:
        feeds = selection.feeds or ()
        await require_feeds(ledger, loaded.feeds, feeds)
        ids = await ids_meant(ledger, selection.ids, loaded.feeds, feeds[0] if len(feeds) == 1 else None)
        return replace(selection, ids=tuple(ids))

    return with_ledger(loaded, ask) if selection.ids or selection.feeds else selection


async def _look(look: Looking, ledger: Ledger, selection: Selection) -> Looked:
    account, counted = await look(selection)
    return account, counted, await ledger.selections.sample(selection, SAMPLE)


def _confirm(verb: str, account: Account, yes: bool, again: int = 0) -> None:
    """Ask a person before many are moved, or any of those `again` that a partner has. A program is not asked, but must
    say `--yes` for these."""
    if yes or not account.movable or (account.movable <= CONFIRM_ABOVE and not again):
        return
    note = f" {again} of them were delivered: the partner gets them again." if again else ""
    if sys.stdin.isatty():
        if not typer.confirm(f"{verb} {account.movable} deliveries?{note}", err=True):
            raise typer.Exit(FOUND_WRONG)
    elif again:
        fail(f"{verb.lower()}: {account.movable} deliveries, and nobody to ask.{note} To do it: --yes", WRONG_USAGE)


def _delivered(counted: Sequence[Counted]) -> int:
    return sum(group.count for group in counted if group.state is State.DELIVERED and group.has_payload)


@contextmanager
def _progress(doing: str, account: Account, as_json: bool) -> Iterator[Tell]:
    """A progress bar on a terminal; elsewhere one line on stderr, the first time that something is waited for."""
    errors = PlainConsole(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    told: set[str] = set()
    with Progress(*columns, console=errors, disable=as_json or not errors.is_terminal, transient=True) as progress:
        task = progress.add_task(doing, total=account.movable)

        def tell(moved: int, waits: str) -> None:
            progress.update(task, completed=moved, description=f"{doing}: {waits}" if waits else doing)
            if waits and not told and progress.disable:
                told.add(waits)
                warn(f"waiting: {waits}")

        yield tell


def _report(
    done: str, account: Account, counted: Sequence[Counted], sample: Sequence[Document] | None, as_json: bool
) -> None:
    """The result. With a sample it is that of a dry run: nothing has moved."""
    if as_json:
        dry = {"dry_run": True, "movable": account.movable, "sample": sample} if sample is not None else {}
        print_json({"selected": account.selected, "moved": account.moved, "skipped": dict(account.skipped), **dry})
        return
    if sample is not None:
        print_table("Selected", ["feed", "state", "count"], _by_feed(counted))
        rows = [[shown_id(d), d["state"], d["attempts"], ago(d["created_at"]), _last(d)] for d in sample]
        print_table("A few of them", ["id", "state", "attempts", "logged", "last"], rows)
    skipped = {f"skipped: {why}": count for why, count in account.skipped.items()}
    result = {done: account.moved} if sample is None else {f"would be {done}": account.movable}
    print_fields({"selected": account.selected, **skipped, **result})


def _by_feed(counted: Sequence[Counted]) -> list[list[object]]:
    """One row a feed and state; what has no payload, or is acknowledged, apart."""
    ordered = sorted(counted, key=lambda one: (one.feed, one.state, one.acknowledged, one.has_payload))
    return [[one.feed, _kind(one), one.count] for one in ordered]


def _kind(one: Counted) -> str:
    payload = "" if one.has_payload else ", to be read again" if one.never_read else ", no payload"
    return f"{one.state.value}{', acknowledged' if one.acknowledged else ''}{payload}"


def _last(delivery: Document) -> object:
    last = delivery.get("last") or {}
    return delivery.get("reason") or last.get("error") or last.get("status")
