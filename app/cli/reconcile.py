"""`reconcile` and `certificate`: compare the source with the ledger, log what is missing, and
certify the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

import config
from app.cli.loading import load_config
from app.cli.servers import open_queue, operator, run, with_ledger
from app.cli.terminal import (
    FOUND_WRONG,
    WRONG_USAGE,
    AsJson,
    PlainConsole,
    console,
    fail,
    fail_feeds,
    print_json,
    warn,
)
from app.core.certificates import Certificate
from app.core.errors import RowrelayError, Unavailable, UnknownFeed
from app.feeds.duration import parse_duration
from app.feeds.feed import Feed
from app.reads.certificates import read_certificates
from app.reconcile import Progress as Tell
from app.reconcile import Since
from app.runtime.operator import open_operator

Feeds = Annotated[
    list[str] | None, typer.Argument(metavar="FEED", help="Feeds by name; all where none is named.")
]
From = Annotated[
    str,
    typer.Option(
        "--since", help="beginning, so long ago (7d, 12h), or a position: an id, 0x… or a moment."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Compare, and change nothing.")]

Acknowledge = Annotated[
    bool,
    typer.Option(
        "--acknowledge-changes",
        help="Take rows that changed since they were sent as they are; name a FEED.",
    ),
]


def reconcile(
    feeds: Feeds = None,
    since: From = "beginning",
    dry_run: DryRun = False,
    acknowledge_changes: Acknowledge = False,
    as_json: AsJson = False,
) -> None:
    """Find source rows that have no delivery, and log them, so that they are delivered.

    Ends with a certificate of completeness for each feed, and, where no feed is named, for each
    that left feeds.toml and owes rows. Exit code 1 where one is not complete, or a feed could not
    be compared; one that the source refuses does not keep the others from it.

    Polls and deliveries go on meanwhile. Stopped half-way, what was logged is logged; run it again.
    """
    if acknowledge_changes and not feeds:
        fail("--acknowledge-changes: name the feeds whose changed rows are known", WRONG_USAGE)
    loaded = load_config("ERROR")
    chosen = _chosen(loaded, feeds)
    wanted = [(feed, _since(feed, since)) for feed in chosen]
    certificates, failed = run(
        _reconciled(
            loaded,
            wanted,
            dry_run=dry_run,
            as_json=as_json,
            others=not feeds,
            acknowledge=acknowledge_changes,
        )
    )
    if as_json:
        found = [_as_fields(one) for one in certificates]
        print_json({"dry_run": dry_run, "certificates": found, "failed": failed})
    if failed:
        fail_feeds(failed)
    if not all(one.complete for one in certificates):
        raise typer.Exit(FOUND_WRONG)


def certificate(feeds: Feeds = None, as_json: AsJson = False) -> None:
    """The last certificate of completeness of each feed, over all of it.

    Exit code 1 where one is not complete, or there is none.
    """
    loaded = load_config()
    chosen = [feed.name for feed in _chosen(loaded, feeds)]

    found = with_ledger(loaded, lambda ledger: read_certificates(ledger, chosen, removed=not feeds))
    made = [one.certificate for one in found if one.certificate]
    if as_json:
        print_json({"certificates": [_as_fields(one) for one in made]})
    for feed in (one.feed for one in found if one.certificate is None):
        warn(f"feed {feed}: never reconciled: python -m app reconcile {feed}")
    for certified in () if as_json else made:
        _print(certified, f"{certified.at:%Y-%m-%d %H:%M:%S} UTC")
    if not all(one.complete for one in found):
        raise typer.Exit(FOUND_WRONG)


def _chosen(loaded: config.Config, names: Sequence[str] | None) -> list[Feed]:
    try:
        return [loaded.feed(name) for name in dict.fromkeys(names or loaded.feeds)]
    except UnknownFeed as error:
        fail(str(error), WRONG_USAGE)


def _since(feed: Feed, text: str) -> Since:
    """Where to compare from; exit code 2 for what is neither a duration nor a position of the
    feed's strategy.
    """
    if text == "beginning":
        return None
    if not text.strip().isdigit():  # a number alone is a position
        with suppress(ValueError):
            ago = parse_duration(text)
            assert isinstance(ago, timedelta)  # noqa: S101 - what it makes of text
            return ago
    try:
        return feed.cursor.parse_position(text)
    except ValueError as error:
        problem = str(error).replace(
            '"beginning", "now" or ', '"beginning", a duration such as "7d", or '
        )
        fail(f"--since: found {text!r}; feed {feed.name}: {problem}", WRONG_USAGE)


async def _reconciled(
    loaded: config.Config,
    wanted: Sequence[tuple[Feed, Since]],
    *,
    dry_run: bool,
    as_json: bool,
    others: bool,
    acknowledge: bool,
) -> tuple[list[Certificate], dict[str, str]]:
    """Reconcile one feed after the other, and print each certificate as it is there; with `others`
    also of feeds that left feeds.toml.

    Returns them, and what kept a feed from being compared, by feed: the next is taken, unless a
    server is away.
    """
    certificates: list[Certificate] = []
    failed: dict[str, str] = {}
    by = operator() if acknowledge else ""
    async with open_operator(loaded, lambda: open_queue(loaded)) as operating:
        reconciling = operating.reconciling(heal_at_most=sys.maxsize)
        for feed, since in wanted:
            try:
                with _progress(feed, as_json=as_json) as tell:
                    made = await reconciling.reconcile(
                        feed,
                        since=since,
                        dry_run=dry_run,
                        resume=False,
                        acknowledge=by,
                        progress=tell,
                    )
            except RowrelayError as error:
                failed[feed.name] = str(error)
                if isinstance(error, Unavailable):  # for the others too
                    break
            else:
                certificates.append(made)
                if not as_json:
                    _print(made, "nothing was changed" if dry_run else "")
        removed = await reconciling.removed(loaded.feeds, dry_run=dry_run) if others else []
        for made in () if as_json else removed:
            _print(made, "not in feeds.toml")
        certificates += removed
    return certificates, failed


@contextmanager
def _progress(feed: Feed, *, as_json: bool) -> Iterator[Tell]:
    """A bar on a terminal; where it is not known how many rows there are, it only moves."""
    errors = PlainConsole(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
    )
    hidden = as_json or not errors.is_terminal
    with Progress(
        *columns, TimeRemainingColumn(), console=errors, disable=hidden, transient=True
    ) as bar:
        task = bar.add_task(feed.name, total=None)

        def tell(doing: str, done: int, of: int | None) -> None:
            bar.update(
                task,
                description=f"{feed.name}: {doing}",
                completed=done,
                total=max(of, done) if of else None,
            )

        yield tell


def _print(made: Certificate, note: str) -> None:
    verdict = "complete" if made.complete else "NOT COMPLETE"
    lines = [f"{made.feed}: {verdict}{f' ({note})' if note else ''}", f"  {made.account}"]
    for line in [*lines, *(f"  {remark}" for remark in _remarks(made))]:
        console.print(line, soft_wrap=True)


def _remarks(made: Certificate) -> Iterator[str]:
    yield from made.remarks
    if made.missing > made.healed:
        yield f"to log what is missing: python -m app reconcile {made.feed}"


def _as_fields(made: Certificate) -> dict[str, Any]:
    fields = asdict(made) | {"open": made.open, "complete": made.complete, "account": made.account}
    fields["states"] = {state.value: count for state, count in made.states.items()}
    fields["deleted_states"] = {state.value: count for state, count in made.deleted_states.items()}
    return fields
