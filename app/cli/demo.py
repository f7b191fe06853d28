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
from collections.abc import Mapping
from contextlib import closing
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

from app.cli.loading import duration_option
from app.cli.report import print_report
from app.cli.tables import print_fields
from app.cli.terminal import FOUND_WRONG, console, fail
from app.core.clock import utc_now
from app.core.period import Kind, Period
from app.core.states import OPEN_STATES, State
from app.ledger import Ledger
from app.reports.reporting import Reporting
from app.runtime.clients import ledger_at
from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.source import connect
from app.testbed.embedded.stack import ROOT, Stack
from config import Settings

FEED = "orders"
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


@dataclass(frozen=True, slots=True)
class Books:
    """The account at the end: what the source held, the ledger says and the partner saw."""

    rows: int
    logged: int
    delivered: int
    dead: int
    open: int
    partner_requests: int
    partner_unique: int
    partner_duplicates: int
    elapsed_s: float
    rows_per_s: float
    differences: list[str]


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
        bool, typer.Option("--keep", help="Stay up until Ctrl-C, and say how to look around.")
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
            with Stack(
                Path(directory), faults=faults.value, gap_timeout="15s", temporary=True
            ) as stack:
                _start(stack, workers)
                generator = stack.start_generator(rows, rate=rate, pattern=pattern.value)
                progress = asyncio.run(_watch(stack, rows, patience.total_seconds()))
                generator.wait(timeout=5)
                books = asyncio.run(_balance(stack, progress))
                _print_books(books)
                certified = _certify(stack)
                asyncio.run(_report(stack, started_at, commands=keep))
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


async def _watch(stack: Stack, rows: int, patience: float) -> Progress:
    """Show progress until every row is settled or `patience` seconds have passed."""
    started = time.monotonic()
    ledger = ledger_at(stack.mongo.url, Settings().connect_timeout)
    try:
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
    finally:
        await ledger.close()


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


async def _balance(stack: Stack, progress: Progress) -> Books:
    """Compare the source, the ledger and the partner by key."""
    ledger = ledger_at(stack.mongo.url, Settings().connect_timeout)
    try:
        logged = await ledger.deliveries.ids(FEED)
    finally:
        await ledger.close()
    with closing(connect(stack.database)) as source:
        in_source = {f"{FEED}:{row[0]}" for row in source.execute("SELECT id FROM orders")}
    with stack.partner() as partner:
        counts = partner.get("/_simulator/counts").json()
        seen = {orjson.loads(line)["key"] for line in partner.get("/_simulator/keys").iter_lines()}
    delivered = {delivery_id for delivery_id, state in logged.items() if state is State.DELIVERED}
    still_open = {delivery_id for delivery_id, state in logged.items() if state in OPEN_STATES}
    return Books(
        rows=len(in_source),
        logged=len(logged),
        delivered=len(delivered),
        dead=sum(state is State.DEAD for state in logged.values()),
        open=len(still_open),
        partner_requests=counts["requests"],
        partner_unique=len(seen),
        partner_duplicates=counts["duplicates"],
        elapsed_s=round(progress.elapsed_s, 2),
        rows_per_s=round(len(delivered) / progress.elapsed_s, 1),
        differences=[
            *_difference("in the source but not in the ledger", in_source - logged.keys()),
            *_difference("in the ledger but not in the source", logged.keys() - in_source),
            *_difference("delivered, but never seen by the partner", delivered - seen),
            *_difference("seen by the partner, but not delivered", seen - delivered),
            *_difference("still open", still_open),
        ],
    )


def _difference(what: str, ids: set[str]) -> list[str]:
    """One line that names the first few ids; nothing for an empty set."""
    if not ids:
        return []
    shown = ", ".join(sorted(ids)[:5]) + (", …" if len(ids) > 5 else "")
    return [f"{len(ids)} {what}: {shown}"]


def _print_books(books: Books) -> None:
    account = {name: value for name, value in asdict(books).items() if name != "differences"}
    print_fields(account)
    for line in books.differences:
        console.print(f"DIFFERENCE: {line}", style="red")
    if not books.differences:
        console.print(
            "The books balance: every row of the source is settled, and every delivered row was seen."
        )


def _certify(stack: Stack) -> bool:
    """Reconcile, as an operator does. Returns whether the certificate is complete."""
    console.print("\nReconciled:")
    asked = subprocess.run(
        [sys.executable, "-m", "app", "reconcile"], env=stack.environment, cwd=ROOT, check=False
    )
    return asked.returncode == 0


async def _report(stack: Stack, started_at: datetime, *, commands: bool) -> None:
    """Print the report of the demo's minutes, and leave its page. `commands` that look further:
    while all stays up.
    """
    minute = timedelta(minutes=1)
    begin = started_at.replace(second=0, microsecond=0)
    end = utc_now().replace(second=0, microsecond=0) + minute
    ledger = ledger_at(stack.mongo.url, Settings().connect_timeout)
    try:
        reporting = Reporting(ledger, [FEED], zone=ZoneInfo("UTC"), folder=REPORTS)
        reports, page = await reporting.snapshot(Period(Kind.HOUR, begin, end, "demo"))
    finally:
        await ledger.close()
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
    """Keep everything running until Ctrl-C, and say how to look around."""
    console.print("\nStill running. In another terminal:")
    for line in ways_to_look(stack.variables, stack.partner_url):
        console.print(f"  {line}", soft_wrap=True)
    console.print("Ctrl-C stops everything.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping")
