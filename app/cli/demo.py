"""`demo`: the main job on embedded servers, live, with faults; at the end its books, a certificate
and a report.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import orjson
import typer
from rich.live import Live
from rich.table import Table

from app.cli.demo_books import FEED, balance, print_books
from app.cli.loading import duration_option
from app.cli.report import print_report
from app.cli.terminal import FOUND_WRONG, console, fail
from app.core.clock import utc_now
from app.core.period import Kind, Period
from app.core.states import OPEN_STATES, State
from app.ledger import Ledger
from app.reports.reporting import Reporting
from app.runtime.clients import ledger_at
from app.testbed.embedded.demo_console import start_console
from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.stack import ROOT, Stack
from config import Settings

REPORTS = Path("reports") / "demo"
"""Where the report's page is left, from the directory that the demo was started in."""


class FaultLevel(StrEnum):
    """How badly the simulated partner behaves."""

    NONE = "none"
    MILD = "mild"
    HOSTILE = "hostile"


class Pattern(StrEnum):
    """How the generator writes rows."""

    STEADY = "steady"
    BURST = "burst"
    LATE_COMMIT = "late-commit"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the demo stands."""

    rows: int
    logged: int
    in_flight: int
    delivered: int
    retrying: int
    dead: int
    open: int
    elapsed_s: float

    @property
    def settled(self) -> bool:
        return self.logged >= self.rows and self.open == 0


def demo(
    *,
    rows: Annotated[int, typer.Option(min=1, help="Rows written to the source table.")] = 2000,
    rate: Annotated[float, typer.Option(min=0, help="Rows a second; 0 writes them at once.")] = 200,
    pattern: Annotated[Pattern, typer.Option(help="How rows are written.")] = Pattern.LATE_COMMIT,
    faults: Annotated[
        FaultLevel, typer.Option(help="How badly the partner behaves.")
    ] = FaultLevel.MILD,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")] = 1,
    patience: Annotated[
        timedelta,
        typer.Option(
            parser=duration_option,
            show_default="10m",
            help="How long to wait for everything to arrive.",
        ),
    ] = timedelta(minutes=10),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the books to this file.")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Stay up until Ctrl-C, with the operator console; says how to look around.",
        ),
    ] = False,
) -> None:
    """Run the main job on embedded servers, with faults. Exit code 1 where the books do not
    balance.

    Ends with the certificate of completeness and the report of its minutes, and leaves the report's
    page.
    """
    started_at = utc_now()
    signal.signal(
        signal.SIGTERM, lambda number, _: sys.exit(128 + number)
    )  # so that nothing is left behind
    with tempfile.TemporaryDirectory(prefix="rowrelay-demo-") as directory:
        try:
            with (
                Stack(
                    Path(directory), faults=faults.value, gap_timeout="15s", temporary=True
                ) as stack,
                _opened(stack) as (runner, ledger),
            ):
                _start(stack, workers)
                generator = stack.start_generator(rows, rate=rate, pattern=pattern.value)
                progress = runner.run(_watch(ledger, rows, patience.total_seconds()))
                generator.wait(timeout=5)
                books = runner.run(balance(stack, ledger, progress.elapsed_s))
                print_books(books)
                certified = _certify(stack)
                runner.run(_report(ledger, started_at, commands=keep))
                if json_file:
                    json_file.write_bytes(
                        orjson.dumps(asdict(books), option=orjson.OPT_INDENT_2) + b"\n"
                    )
                if keep:
                    _stay(stack)
        except (NotStarted, TimeoutError) as error:
            fail(str(error))
    if books.differences or not certified:
        raise typer.Exit(FOUND_WRONG)


def _start(stack: Stack, workers: int) -> None:
    console.print(f"A partner at {stack.partner_url}, and these servers for this run alone:")
    for description in stack.servers:
        console.print(f"- {description}", soft_wrap=True)
    for _ in range(workers):
        stack.start_worker("--loglevel", "INFO")
    stack.start_beat()


@contextmanager
def _opened(stack: Stack) -> Iterator[tuple[asyncio.Runner, Ledger]]:
    """The stack's ledger, and the loop that its client lives on."""
    with asyncio.Runner() as runner:
        ledger = ledger_at(stack.mongo_url, Settings().connect_timeout)
        try:
            yield runner, ledger
        finally:
            runner.run(ledger.close())


async def _watch(ledger: Ledger, rows: int, patience: float) -> Progress:
    """Show progress until every row is settled or `patience` seconds have passed."""
    started = time.monotonic()
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            asked = time.monotonic()
            progress = await _progress(ledger, rows, started)
            live.update(_picture(progress))
            if progress.settled or progress.elapsed_s > patience:
                break
            await asyncio.sleep(max(0.25, 4 * (time.monotonic() - asked)))
    console.print()  # where the output is no terminal, the live view ends without a line's end
    return progress


async def _progress(ledger: Ledger, rows: int, started: float) -> Progress:
    now = utc_now()
    counts = (await ledger.state_counts.by_feed(now)).get(FEED)
    states = counts.states if counts else {}
    leased = await ledger.batches.leased(FEED, now)
    return Progress(
        rows=rows,
        logged=sum(states.values()),
        in_flight=min(leased, states.get(State.QUEUED, 0)),
        delivered=states.get(State.DELIVERED, 0),
        retrying=states.get(State.RETRYING, 0),
        dead=states.get(State.DEAD, 0),
        open=sum(states.get(state, 0) for state in OPEN_STATES),
        elapsed_s=time.monotonic() - started,
    )


def _picture(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", min_width=8)
    for name, value in {
        "rows read": f"{progress.logged} of {progress.rows}",
        "in flight": progress.in_flight,
        "delivered": progress.delivered,
        "retrying": progress.retrying,
        "dead": progress.dead,
        "rows/s": f"{progress.delivered / progress.elapsed_s:.0f}",
        "seconds": f"{progress.elapsed_s:.1f}",
    }.items():
        table.add_row(name, str(value))
    return table


def _certify(stack: Stack) -> bool:
    """Reconcile, as an operator does. Returns whether the certificate is complete."""
    console.print("\nReconciled:")
    asked = subprocess.run(
        [sys.executable, "-m", "app", "reconcile"], env=stack.environment, cwd=ROOT, check=False
    )
    return asked.returncode == 0


async def _report(ledger: Ledger, started_at: datetime, *, commands: bool) -> None:
    """Print the report of the demo's minutes, and leave its page. `commands` that look further:
    while all stays up.
    """
    minute = timedelta(minutes=1)
    begin = started_at.replace(second=0, microsecond=0)
    end = utc_now().replace(second=0, microsecond=0) + minute
    reporting = Reporting(ledger, [FEED], zone=ZoneInfo("UTC"), folder=REPORTS)
    reports, page = await reporting.snapshot(Period(Kind.HOUR, begin, end, "demo"))
    console.print()
    print_report(reports[0], commands=commands)
    console.print(f"The report as a page: {page.resolve()}", soft_wrap=True)


def ways_to_look(variables: Mapping[str, str], partner_url: str) -> list[str]:
    """The lines that a person types to look around, from wherever the terminal stands."""
    python = shlex.quote(sys.executable)
    return [
        f"cd {shlex.quote(str(ROOT))}",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        *(
            f"{python} -m app {command}"
            for command in ("status", "deliveries list", "doctor", "ping")
        ),
        f"{python} -m celery -A celery_app flower --address=127.0.0.1",
        f"curl {partner_url}/_simulator/counts",
    ]


def _stay(stack: Stack) -> None:
    """Keep everything running until Ctrl-C, with the operator console, and say how to look around."""
    pages = start_console(stack)
    console.print(f"\nThe operator console: {pages.url}", soft_wrap=True)
    console.print(f"  log in as {pages.name} with {pages.password}, a password of this run")
    console.print("\nStill running. In another terminal:")
    for line in ways_to_look(stack.variables, stack.partner_url):
        console.print(f"  {line}", soft_wrap=True)
    console.print("Ctrl-C stops everything.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping")
