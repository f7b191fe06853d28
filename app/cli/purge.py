"""`purge`: let what a feed's retention says is over leave the ledger, now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import config
from app.cli.loading import load_config
from app.cli.servers import with_operator
from app.cli.tables import print_table
from app.cli.terminal import WRONG_USAGE, AsJson, PlainConsole, fail, fail_feeds, print_json, warn
from app.core.errors import LedgerUnavailable, RowrelayError, UnknownFeed
from app.feeds.feed import Feed
from app.retention.purge import ANOTHER, ReportsPurged
from app.retention.purge_lock import Tell
from app.retention.run import Purged
from app.runtime.operator import Operator

PATIENCE_LEASES = 1.5
"""How long a purge that is under way, or was killed, is waited for, in leases."""

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Count what would be purged, but for attempts and reports."),
]


def purge(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="FEED", help="All feeds, and reports, if none.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Drop payloads and delete records that are kept for long enough, as each feed's retention
    says.

    With ARCHIVE_DIR set records go to verified archive files first. Workers do the same every hour
    by themselves.

    Stopped half-way, the same command goes on.
    """
    loaded = load_config("ERROR")
    feeds = _feeds(loaded, names)
    purged: list[Purged] = []
    with progress_bar(as_json) as bar:
        for feed in feeds:
            total = _total(loaded, feed) if bar.shown and not dry_run else None
            purged.append(_run(loaded, feed, dry_run=dry_run, tell=bar.of(feed.name, total)))
        reports = None if names or dry_run else _run_reports(loaded)
    _report(purged, reports, dry_run=dry_run, as_json=as_json)
    if stopped := {one.feed: _why(one.stopped) for one in purged if one.stopped}:
        fail_feeds(stopped)


class Bar:
    """A progress bar that a feed's run at a time is shown on; nothing where it is off."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._told: set[str] = set()

    @property
    def shown(self) -> bool:
        """Whether anybody sees it."""
        return not self._progress.disable

    def of(self, name: str, total: int | None) -> Tell:
        """What tells of a run of this feed, from 0 on."""
        self._progress.reset(self._task, total=total, description=name)

        def tell(done: int, doing: str) -> None:
            self._progress.update(
                self._task, completed=done, description=f"{name}: {doing}" if doing else name
            )
            if not self.shown and doing.startswith("feed ") and doing not in self._told:
                self._told.add(doing)
                warn(f"waiting: {doing}")

        return tell


@contextmanager
def progress_bar(as_json: bool) -> Iterator[Bar]:
    """A bar on a terminal; elsewhere one line on stderr, the first time that something is waited
    for.
    """
    errors = PlainConsole(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=errors, disable=as_json or not errors.is_terminal, transient=True
    ) as progress:
        yield Bar(progress)


def _run(
    loaded: config.Config, feed: Feed, *, dry_run: bool, tell: Tell = lambda *_: None
) -> Purged:
    patience = loaded.settings.lease * PATIENCE_LEASES

    async def run(operating: Operator) -> Purged:
        await operating.ledger.prepare()
        try:
            return await operating.purging.purge(
                feed, dry_run=dry_run, progress=tell, patience=patience
            )
        except LedgerUnavailable:
            raise
        except RowrelayError as error:  # of this feed: the others go on
            return Purged(feed.name, stopped=str(error))

    return with_operator(loaded, run)


def _why(stopped: str) -> str:
    return f"{stopped} is under way" if stopped == ANOTHER else stopped


def _run_reports(loaded: config.Config) -> ReportsPurged:
    return with_operator(loaded, lambda operating: operating.purging.purge_reports())


def _total(loaded: config.Config, feed: Feed) -> int:
    """How many payloads and records there are to purge."""
    there = _run(loaded, feed, dry_run=True)
    return there.payloads + there.records


def _feeds(loaded: config.Config, names: Sequence[str] | None) -> list[Feed]:
    try:
        return [loaded.feed(name) for name in names or loaded.feeds]
    except UnknownFeed as error:
        fail(str(error), WRONG_USAGE)


def _report(
    purged: Sequence[Purged], reports: ReportsPurged | None, *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        told = reports._asdict() if reports else None
        fields = [asdict(one) | ({"attempts": None} if dry_run else {}) for one in purged]
        print_json({"dry_run": dry_run, "feeds": fields, "reports": told})
        return
    columns = [
        "feed",
        "payloads dropped",
        "records purged",
        "attempts",
        "minutes of stats",
        "files",
    ]
    rows = [
        [p.feed, p.payloads, p.records, "–" if dry_run else p.attempts, p.stats, "\n".join(p.files)]
        for p in purged
    ]
    print_table("Would be purged" if dry_run else "Purged", columns, rows)
    if reports and any(reports):
        print(
            f"reports and certificates deleted: {reports.deleted}, files of reports: {reports.files}"
        )
