"""`report`: what happened in an hour or a day, compiled now."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

import config
from app.cli.loading import load_config
from app.cli.servers import with_ledger
from app.cli.tables import print_figures, print_table
from app.cli.terminal import FOUND_WRONG, WRONG_USAGE, AsJson, console, fail
from app.core.errors import UnknownFeed
from app.core.figures import duration, look_at, number, percent
from app.core.period import Period, parse_period
from app.ledger import Ledger
from app.reports.files import Format, rendered, write_whole
from app.reports.page import nobody_sends, title
from app.reports.record import ALL, FeedLine, Reason, Report
from app.reports.reporting import Compiled
from app.reports.table import figures, lacking, sentence
from app.runtime.senders import reporting_of


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
    compiled, failed = with_ledger(
        loaded,
        lambda ledger: _compiled(loaded, ledger, wanted, feed or ALL, keep=keep or send, send=send),
    )
    _show(compiled, Shown.JSON if as_json else form, output)
    if failed:
        fail("; ".join(failed), FOUND_WRONG)


def _period(text: str, loaded: config.Config) -> Period:
    try:
        return parse_period(text, loaded.settings.zone)
    except ValueError as error:
        fail(f"--period: found {text!r}; {error}", WRONG_USAGE)


async def _compiled(
    loaded: config.Config, ledger: Ledger, period: Period, feed: str, *, keep: bool, send: bool
) -> tuple[Compiled, list[str]]:
    """The report, kept and sent where that is asked for; and what could not be sent."""
    reporting = reporting_of(loaded, ledger)
    if send and not reporting.ways:
        fail(
            "--send: no way is configured; set SMTP_HOST and the others of its kind, or REPORT_WEBHOOK_URL",
            WRONG_USAGE,
        )
    try:
        found = [Compiled(report) for report in await reporting.preview(period)]
        chosen = _chosen(found, feed, loaded, period)
        if keep and not chosen.report.running:
            chosen = _chosen(await reporting.save(period), feed, loaded, period)
        elif keep and not send:
            fail(f"--keep: {period.name} is still running; it is kept when it is over", WRONG_USAGE)
    except ValueError as error:
        fail(f"--period: {error}", WRONG_USAGE)
    came = await reporting.send(chosen) if send else {}
    return chosen, [f"{way}: {error}" for way, error in came.items() if error]


def _chosen(found: list[Compiled], feed: str, loaded: config.Config, period: Period) -> Compiled:
    by_feed = {compiled.report.feed: compiled for compiled in found}
    if feed not in by_feed and feed not in (ALL, *loaded.feeds):
        fail(str(UnknownFeed(feed, tuple(loaded.feeds))), WRONG_USAGE)
    if feed not in by_feed:
        whose = "of a feed" if feed == ALL else f"of feed {feed}"
        gone = f"statistics {whose} are deleted (retention.stats_days), and no report was kept"
        fail(f"--period: {period.name}: {gone}", WRONG_USAGE)
    return by_feed[feed]


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
    if report.feeds:
        columns = [
            "feed",
            "read",
            "delivered",
            "first attempt",
            "retries",
            "dead",
            "until delivered, p95",
            "open",
        ]
        print_table("Feeds", columns, [_feed_row(line) for line in report.feeds])
    _print_reasons("Dead by reason", report.dead_reasons, commands=commands)
    _print_reasons("Top errors", report.errors, commands=commands)
    for proof in report.certificates:
        console.print(sentence(proof), style=None if proof.complete else "red")
    for name in report.uncertified:
        console.print(lacking(name), style="yellow")
    for feed, backlog in report.unsent:
        console.print(nobody_sends(feed, backlog, ZoneInfo(report.timezone)), style="red")


def _feed_row(line: FeedLine) -> list[object]:
    return [
        line.feed,
        number(line.counts.read),
        number(line.counts.delivered),
        percent(line.counts.first_success),
        number(line.counts.retries),
        number(line.counts.dead),
        duration(line.delivered_ms.p95_ms),
        number(line.backlog.open if line.backlog else None),
    ]


def _print_reasons(name: str, reasons: tuple[Reason, ...], *, commands: bool) -> None:
    if reasons:
        rows = [[number(reason.count), reason.text, _look_at(reason)] for reason in reasons]
        columns = ["count", "reason", "look at one"]
        if not commands:
            print_table(name, columns[:2], [row[:2] for row in rows])
        elif not print_table(name, columns, rows, spare=["look at one"]):
            for reason in reasons:
                console.print(
                    f"{reason.text}: {_look_at(reason) or number(reason.count)}", soft_wrap=True
                )


def _look_at(reason: Reason) -> str | None:
    return look_at(reason.example) if reason.example else None
