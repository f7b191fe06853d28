"""What `replay`, `cancel` and `acknowledge` share: what is selected, the question before many move,
progress, and the account at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.servers import Session
from app.cli.tables import ago, print_fields, print_table
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, PlainConsole, fail, print_json, warn
from app.core.keys import shown_id
from app.core.states import State
from app.ledger.picking import Counted
from app.ledger.selection import Selection
from app.operations.account import Account, Preview, Tell
from app.operations.selection import meant, narrows
from app.reads.deliveries import line_of

CONFIRM_ABOVE = 100

Everything = Annotated[
    bool, typer.Option("--all", help="Needed where nothing but a state is selected.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, and show a few; move nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def states_of(
    given: Sequence[State] | None, default: Sequence[State], allowed: Sequence[State]
) -> tuple[State, ...]:
    """The states selected; exit code 2 for one that the command does not take."""
    for state in given or ():
        if state not in allowed:
            fail(f"--state {state.value}: takes {', '.join(allowed)}", WRONG_USAGE)
    return tuple(dict.fromkeys(given or default))


@dataclass(frozen=True, slots=True)
class Words:
    """How a command speaks of what it does."""

    verb: str
    """Before a number, as "Replay"."""
    doing: str
    done: str
    again: bool = False
    """Whether it sends again what a partner may have: then it asks before any of these."""


def selected(
    states: Sequence[State],
    ids: Sequence[str] | None,
    feeds: Sequence[str] | None,
    *,
    since: datetime | None,
    until: datetime | None,
    reason: str | None,
    status: int | None,
    everything: bool,
) -> Selection:
    """What the options select; exit code 2 where nothing narrows it and `--all` is not said."""
    selection = Selection(
        states=tuple(states), ids=tuple(dict.fromkeys(ids or ())), feeds=tuple(feeds) if feeds else None,
        since=since, until=until, reason=reason, status=status,
    )  # fmt: skip
    if not (narrows(selection) or everything):
        fail(
            "nothing is selected: name ids, --feed, --since, --until, --reason or --status, or say --all",
            WRONG_USAGE,
        )
    return selection


def meant_in(opened: Session, selection: Selection) -> Selection:
    """The selection with the ids that are meant by the keys typed."""
    if not (selection.ids or selection.feeds):
        return selection
    return opened.run(lambda operating: meant(operating.ledger, opened.loaded.feeds, selection))


def carry_out(
    words: Words,
    previewed: Preview,
    act: Callable[[Tell], Account],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask where many move, do it with a progress bar, and print the account; or, `dry_run`, print
    what would move. `act` does it."""
    if dry_run:
        _print_dry_run(words.done, previewed, as_json)
        return
    _confirm(words.verb, previewed, yes, again=words.again)
    with progress(words.doing, previewed.account.movable, as_json=as_json) as tell:
        account = act(tell)
    _print_done(words.done, account, as_json)


def _confirm(verb: str, previewed: Preview, yes: bool, *, again: bool) -> None:
    """Ask a person before many are moved, or, with `again`, any that a partner has. A program is
    not asked, but must say `--yes` for these."""
    account, delivered = previewed.account, previewed.delivered if again else 0
    if yes or not account.movable or (account.movable <= CONFIRM_ABOVE and not delivered):
        return
    note = f" {delivered} of them were delivered: the partner gets them again." if delivered else ""
    if sys.stdin.isatty():
        if not typer.confirm(f"{verb} {account.movable} deliveries?{note}", err=True):
            raise typer.Exit(FOUND_WRONG)
    elif delivered:
        fail(
            f"{verb.lower()}: {account.movable} deliveries, and nobody to ask.{note} To do it: --yes",
            WRONG_USAGE,
        )


@contextmanager
def progress(doing: str, total: int | None, *, as_json: bool) -> Iterator[Tell]:
    """A progress bar on a terminal; elsewhere one line on stderr, the first time that something is
    waited for. `total`: `None` where it is not known yet.
    """
    errors = PlainConsole(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    told: set[str] = set()
    with Progress(
        *columns, console=errors, disable=as_json or not errors.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(doing, total=total)

        def tell(moved: int, waits: str) -> None:
            bar.update(task, completed=moved, description=f"{doing}: {waits}" if waits else doing)
            if waits and not told and bar.disable:
                told.add(waits)
                warn(f"waiting: {waits}")

        yield tell


def _print_dry_run(done: str, previewed: Preview, as_json: bool) -> None:
    """What would be done; nothing has moved."""
    account = previewed.account
    if as_json:
        dry = {"dry_run": True, "movable": account.movable, "sample": previewed.sample}
        print_json(_fields(account) | dry)
        return
    print_table("Selected", ["feed", "state", "count"], _by_feed(previewed.counted))
    rows = [
        [shown_id(d), d["state"], d["attempts"], ago(d["created_at"]), line_of(d).said]
        for d in previewed.sample
    ]
    print_table("A few of them", ["id", "state", "attempts", "logged", "last"], rows)
    _print_account(account, {f"would be {done}": account.movable})


def _print_done(done: str, account: Account, as_json: bool) -> None:
    """What was done."""
    if as_json:
        print_json(_fields(account))
    else:
        _print_account(account, {done: account.moved})


def _fields(account: Account) -> dict[str, object]:
    return {"selected": account.selected, "moved": account.moved, "skipped": dict(account.skipped)}


def _print_account(account: Account, result: dict[str, int]) -> None:
    skipped = {f"skipped: {why}": count for why, count in account.skipped.items()}
    print_fields({"selected": account.selected, **skipped, **result})


def _by_feed(counted: Sequence[Counted]) -> list[list[object]]:
    """One row a feed and state; what has no payload, or is acknowledged, apart."""
    ordered = sorted(
        counted, key=lambda one: (one.feed, one.state, one.acknowledged, one.has_payload)
    )
    return [[one.feed, _kind(one), one.count] for one in ordered]


def _kind(one: Counted) -> str:
    payload = "" if one.has_payload else ", to be read again" if one.never_read else ", no payload"
    return f"{one.state.value}{', acknowledged' if one.acknowledged else ''}{payload}"
