"""`report`: what happened in an hour or a day, compiled now."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo

import typer

import config
from app.cli.loading import load_config
from app.cli.servers import operator, with_ledger
from app.cli.tables import print_figures, print_table
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, console, fail
from app.core.figures import duration, look_at, number, percent
from app.core.period import Period, parse_period
from app.ledger import Ledger
from app.operations.by import By
from app.operations.report import Published, publish_report
from app.reads.reports import read_report
from app.reports.files import Format, rendered, write_whole
from app.reports.page import nobody_sends, title
from app.reports.record import ALL, FeedLine, Reason, Report
from app.reports.reporting import Compiled
from app.reports.table import figures, lacking, sentence
from app.runtime.senders import reporting_of

Line = TypeVar("Line", FeedLine, Reason)


class Shown(StrEnum):
    """How the report is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    HTML = "html"


FeedName = Annotated[str | None, typer.Option("--feed", help="Only this feed; else all together.")]
PeriodName = Annotated[
    str,
    typer.Option(
        "--period",
        help="today, yesterday, last-hour, 2026-11-21 or 2026-11-21T14, on the TIMEZONE clock.",
    ),
]
Form = Annotated[Shown, typer.Option("--format", help="How it is printed.")]
Output = Annotated[
    Path | None, typer.Option("--output", help="Write to this file instead.", dir_okay=False)
]
Keep = Annotated[
    bool,
    typer.Option(
        "--keep", help="Keep it in the ledger and REPORTS_DIR too; for a period that is over."
    ),
]
Send = Annotated[
    bool, typer.Option("--send", help="Send it too, by every way that is configured; kept first.")
]


def report(
    *,
    feed: FeedName = None,
    period: PeriodName = "today",
    form: Form = Shown.TABLE,
    output: Output = None,
    keep: Keep = False,
    send: Send = False,
    as_json: AsJson = False,
) -> None:
    """Compile the report of an hour or a day now, also of one that is still running, and print it.

    Nothing is changed by it, unless --keep or --send says so.
    """
    if output is not None and form is Shown.TABLE and not as_json:
        fail("--output: needs --format json, csv or html", WRONG_USAGE)
    loaded = load_config()
    wanted = _period(period, loaded)
    published = with_ledger(
        loaded,
        lambda ledger: _compiled(loaded, ledger, wanted, feed or ALL, keep=keep, send=send),
    )
    _show(published.compiled, Shown.JSON if as_json else form, output)
    if failed := [f"{way}: {error}" for way, error in published.not_sent.items()]:
        fail("; ".join(failed), FOUND_WRONG)


def _period(text: str, loaded: config.Config) -> Period:
    try:
        return parse_period(text, loaded.settings.zone)
    except ValueError as error:
        fail(f"--period: found {text!r}; {error}", WRONG_USAGE)


async def _compiled(
    loaded: config.Config, ledger: Ledger, period: Period, feed: str, *, keep: bool, send: bool
) -> Published:
    """The report, kept and sent where that is asked for; and what could not be sent."""
    reporting = reporting_of(loaded, ledger)
    if send and not reporting.ways:
        fail(
            "--send: no way is configured; set SMTP_HOST and the others of its kind, or REPORT_WEBHOOK_URL",
            WRONG_USAGE,
        )
    try:
        found = await read_report(reporting, loaded.feeds, period, feed)
    except ValueError as error:
        fail(f"--period: {error}", WRONG_USAGE)
    if found is None:
        whose = "of a feed" if feed == ALL else f"of feed {feed}"
        gone = f"statistics {whose} are deleted (retention.stats_days), and no report was kept"
        fail(f"--period: {period.name}: {gone}", WRONG_USAGE)
    if keep and not send and found.running:
        fail(f"--keep: {period.name} is still running; it is kept when it is over", WRONG_USAGE)
    if not keep and not send:
        return Published(Compiled(found))
    return await publish_report(reporting, found, period, By(operator()), send=send)


def _show(compiled: Compiled, form: Shown, output: Path | None) -> None:
    if form is Shown.TABLE:
        print_report(compiled.report)
        return
    content = rendered(compiled.report, Format(form.value), compiled.revised)
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        _write(output, content)
    except OSError as error:
        fail(f"--output: {output}: {error.strerror or error}")


def _write(output: Path, content: bytes) -> None:
    """A file as a whole, where a link leads to; a pipe or a device as it is."""
    if output.exists() and not output.is_file():
        output.write_bytes(content)
    else:
        write_whole(output.resolve(), content)


def print_report(report: Report, *, commands: bool = True) -> None:
    """Print the report as tables. Without `commands`: of a ledger that nobody can ask any more."""
    running = " (still running)" if report.running else ""
    print_figures(
        f"{title(report)}, {report.period}, {report.timezone}{running}", dict(figures(report))
    )
    _print_lines("Feeds", _OF_A_FEED, report.feeds)
    _print_reasons("Dead by reason", report.dead_reasons, commands=commands)
    _print_reasons("Top errors", report.errors, commands=commands)
    for proof in report.certificates:
        console.print(sentence(proof), style=None if proof.complete else "red")
    for name in report.uncertified:
        console.print(lacking(name), style="yellow")
    for feed, backlog in report.unsent:
        console.print(nobody_sends(feed, backlog, ZoneInfo(report.timezone)), style="red")


def _print_lines(
    title: str,
    columns: Mapping[str, Callable[[Line], object]],
    lines: Sequence[Line],
    spare: Sequence[str] = (),
) -> bool:
    """Print a table, unless it is empty. Returns what `print_table` does."""
    rows = [[shown(line) for shown in columns.values()] for line in lines]
    return not rows or print_table(title, [*columns], rows, spare=spare)


def _print_reasons(title: str, reasons: Sequence[Reason], *, commands: bool) -> None:
    columns = _OF_A_REASON | ({_LOOK: _look_at} if commands else {})
    spare = [name for name in columns if name == _LOOK]
    if not _print_lines(title, columns, reasons, spare) and commands:
        for reason in reasons:
            console.print(
                f"{reason.text}: {_look_at(reason) or number(reason.count)}", soft_wrap=True
            )


def _look_at(reason: Reason) -> str | None:
    return look_at(reason.example) if reason.example else None


_OF_A_FEED: Mapping[str, Callable[[FeedLine], object]] = {
    "feed": lambda line: line.feed,
    "read": lambda line: number(line.counts.read),
    "delivered": lambda line: number(line.counts.delivered),
    "first attempt": lambda line: percent(line.counts.first_success),
    "retries": lambda line: number(line.counts.retries),
    "dead": lambda line: number(line.counts.dead),
    "until delivered, p95": lambda line: duration(line.delivered_ms.p95_ms),
    "open": lambda line: number(line.backlog.open if line.backlog else None),
}
_OF_A_REASON: dict[str, Callable[[Reason], object]] = {
    "count": lambda reason: number(reason.count),
    "reason": lambda reason: reason.text,
}
_LOOK = "look at one"
