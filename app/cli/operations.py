"""`operations`: replays, cancels and acknowledgements of many deliveries, as things of their own: the set is
frozen first, then acted on. The console has the same."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any

import typer

from app.cli.loading import configured_feed, load_config
from app.cli.moving import CONFIRM_ABOVE, DryRun, Yes, progress
from app.cli.operations_shown import fields_of, print_operation, print_preview, print_set, row_of
from app.cli.options import AttemptsMade, Feeds, Ids, KeyPart, Reason, Since, States, Status, Until
from app.cli.servers import Session, operator, session, with_ledger, with_operator
from app.cli.tables import print_table
from app.cli.terminal import FOUND_WRONG, AsJson, console, fail, print_json
from app.core.keys import part_pattern
from app.core.operations import Operation, OperationKind, OperationState, Pace
from app.ledger.selection import Selection
from app.operations.bulk_request import DEFAULT_RATE, NewOperation
from app.operations.by import By
from app.runtime.operator import Operator

operations = typer.Typer(no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The operation's.")]
Reasoned = Annotated[str, typer.Option("--why", help="The reason, for the record.")]


@operations.command("list")
def list_operations(
    *,
    feed: Annotated[str | None, typer.Option(help="Only of this feed.")] = None,
    states: Annotated[
        list[OperationState] | None,
        typer.Option("--state", help="Only in this state. May be given again."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Operations, the newest first."""
    found = with_ledger(
        load_config(),
        lambda ledger: ledger.operations.page(limit, None, states=states or (), feed=feed),
    )
    if as_json:
        print_json({"operations": [fields_of(one) for one in found]})
        return
    columns = ["id", "kind", "feed", "state", "moved", "of", "by", "made", "why"]
    print_table("Operations", columns, [row_of(one) for one in found], whole=1)


@operations.command()
def show(
    operation_id: Id,
    *,
    with_set: Annotated[
        bool, typer.Option("--set", help="Its deliveries too, with what became of each.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Of --set.")] = 100,
    as_json: AsJson = False,
) -> None:
    """One operation: its numbers, its history, its closing sum."""

    async def read(at: Operator) -> tuple[Operation, list[Any]]:
        found = await at.bulk.get(operation_id)
        rows = await at.ledger.operations.in_order(found, limit, "") if with_set else []
        return found, rows

    found, rows = with_operator(load_config(), read)
    if as_json:
        of_set = {"set": [{"id": one.id, "was": one.state, "outcome": one.outcome} for one in rows]}
        print_json(fields_of(found) | (of_set if with_set else {}))
        return
    print_operation(found)
    if with_set:
        print_set(rows)


@operations.command()
def create(
    kind: Annotated[OperationKind, typer.Argument(help="What is done with each delivery.")],
    *,
    why: Reasoned,
    ids: Ids = None,
    feeds: Feeds = None,
    states: States = None,
    since: Since = None,
    until: Until = None,
    reason: Reason = None,
    status: Status = None,
    attempts: AttemptsMade = None,
    contains: KeyPart = None,
    rate: Annotated[
        str | None, typer.Option(help="50/second by default for a replay, else 1000/second.")
    ] = None,
    canary: Annotated[
        int, typer.Option(help="Of a replay: so many first; the rest once these went well.")
    ] = 0,
    stop_ratio: Annotated[
        float | None,
        typer.Option(
            help="Of a replay: pauses where more than this part of the last failed, as 0.2."
        ),
    ] = None,
    operation_id: Annotated[
        str | None,
        typer.Option("--id", help="One of yours: the same command with it makes one operation."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Look at what is selected, of one feed, and freeze it as a set. Nothing moves before `run`."""
    loaded = load_config()
    for feed in feeds or ():
        configured_feed(loaded, feed)
    selection = Selection(
        states=tuple(dict.fromkeys(states or ())), ids=tuple(dict.fromkeys(ids or ())),
        feeds=tuple(dict.fromkeys(feeds)) if feeds else None, since=since, until=until, reason=reason,
        status=status, attempts=attempts, key_pattern=part_pattern(contains) if contains else None,
    )  # fmt: skip
    pace = Pace(rate or DEFAULT_RATE[kind], canary, stop_ratio)
    new = NewOperation(operation_id or secrets.token_hex(12), kind, selection, pace)
    with session(loaded) as opened:
        previewed = opened.run(lambda at: at.bulk.preview(kind, selection))
        if not as_json or dry_run:
            print_preview(kind, previewed, as_json=as_json)
        if dry_run:
            return
        made = opened.run(lambda at: at.bulk.create(new, By(operator(), why)))
        if made.state is OperationState.FREEZING:
            made = _worked_on(opened, made, as_json=as_json)
    _tell(made, as_json=as_json)
    if made.state is OperationState.ABANDONED:
        raise typer.Exit(FOUND_WRONG)
    if not as_json and made.state is OperationState.FROZEN:
        console.print(f"to act on it: operations run {made.id} --why …", soft_wrap=True)


@operations.command()
def run(operation_id: Id, *, why: Reasoned, yes: Yes = False, as_json: AsJson = False) -> None:
    """Act on a frozen set, until it pauses or ends. A console over the same ledger may do it as well.

    Interrupted, the same command goes on. Exit code 1 where it did not come to its end.
    """
    with session(load_config()) as opened:
        found = opened.run(lambda at: at.bulk.get(operation_id))
        if found.state is not OperationState.RUNNING:
            _confirm(found, yes)
            found = opened.run(lambda at: at.bulk.start(operation_id, By(operator(), why)))
        _end(_worked_on(opened, found, as_json=as_json), as_json=as_json)


@operations.command()
def resume(operation_id: Id, *, why: Reasoned, as_json: AsJson = False) -> None:
    """Go on with what is paused, as `run` does. What failures stopped begins anew, canary first."""
    with session(load_config()) as opened:
        found = opened.run(lambda at: at.bulk.resume(operation_id, By(operator(), why)))
        _end(_worked_on(opened, found, as_json=as_json), as_json=as_json)


@operations.command()
def pause(operation_id: Id, *, why: Reasoned, as_json: AsJson = False) -> None:
    """Have it stand still, at the end of the chunk under way."""
    with session(load_config()) as opened:
        found = opened.run(lambda at: at.bulk.pause(operation_id, By(operator(), why)))
        _tell(_worked_on(opened, found, as_json=as_json), as_json=as_json)


@operations.command()
def abandon(operation_id: Id, *, why: Reasoned, as_json: AsJson = False) -> None:
    """Have it end, at the end of the chunk under way. What it has moved stays moved."""
    with session(load_config()) as opened:
        found = opened.run(lambda at: at.bulk.abandon(operation_id, By(operator(), why)))
        _tell(_worked_on(opened, found, as_json=as_json), as_json=as_json)


def _worked_on(opened: Session, operation: Operation, *, as_json: bool) -> Operation:
    """Work on it here, or wait for who does; returns it once nothing is to be done by itself."""
    with progress(
        f"{operation.kind} {operation.id}", operation.size or None, as_json=as_json
    ) as tell:

        def told(now: Operation) -> None:
            tell(now.gone_through, now.waiting)

        return opened.run(lambda at: at.operation_runner.work_on(operation.id, told))


def _confirm(operation: Operation, yes: bool) -> None:
    """Ask a person before many move."""
    if yes or operation.size <= CONFIRM_ABOVE or not sys.stdin.isatty():
        return
    if not typer.confirm(f"{operation.kind} {operation.size} deliveries?", err=True):
        raise typer.Exit(FOUND_WRONG)


def _end(operation: Operation, *, as_json: bool) -> None:
    """Tell what came of it; exit code 1 where it is not done."""
    _tell(operation, as_json=as_json)
    if operation.paused and operation.state is OperationState.PAUSED:
        fail(f"operation {operation.id} is paused: {operation.paused.because}")
    if operation.closing is None or not operation.closing.balances:
        fail(f"operation {operation.id} is {operation.state}, and its sum does not balance")
    if operation.state is not OperationState.DONE:
        raise typer.Exit(FOUND_WRONG)


def _tell(operation: Operation, *, as_json: bool) -> None:
    if as_json:
        print_json(fields_of(operation))
    else:
        print_operation(operation)
