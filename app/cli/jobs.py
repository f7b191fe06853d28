"""`jobs`: how each periodic job is doing."""

from __future__ import annotations

from dataclasses import asdict
from zoneinfo import ZoneInfo

import typer

from app.cli.loading import load_config
from app.cli.servers import with_ledger
from app.cli.tables import ago, print_table
from app.cli.terminal import FOUND_WRONG, AsJson, print_json
from app.core.clock import utc_now
from app.reads.jobs import JobStatus, read_jobs


def jobs(as_json: AsJson = False) -> None:
    """Per periodic job: the last period done, when, how long, what is due next, and the last error.

    Exit code 1 where a job is late, or the latest period it tried is given up, the source refused
    some of it, or a certificate is not complete.
    """
    loaded = load_config()
    lines = with_ledger(loaded, lambda ledger: read_jobs(ledger, utc_now()))
    if as_json:
        print_json({"timezone": loaded.settings.timezone, "jobs": [asdict(line) for line in lines]})
    else:
        columns = [
            "job",
            "misfire",
            "last done",
            "when",
            "took",
            "next",
            "due",
            "now",
            "last error",
        ]
        print_table(
            f"Periodic jobs ({loaded.settings.timezone})",
            columns,
            [_row(line, loaded.settings.zone) for line in lines],
        )
    if not all(line.ok for line in lines):
        raise typer.Exit(FOUND_WRONG)


def _row(line: JobStatus, zone: ZoneInfo) -> list[object]:
    return [
        line.job,
        line.misfire,
        line.last_done,
        f"{ago(line.done_at)} ago" if line.done_at else "never",
        f"{line.duration_ms / 1000:.1f} s" if line.duration_ms is not None else None,
        line.next_period,
        f"{line.next_due.astimezone(zone):%Y-%m-%d %H:%M}" if line.next_due else None,
        line.now,
        f"{line.error_period}: {line.last_error}" if line.last_error else None,
    ]
