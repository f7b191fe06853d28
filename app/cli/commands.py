"""The names of all commands, and where each is: known without loading any of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

HELP = "Delivers every new row of a SQL Server table to a partner's HTTP API, and can prove it."
EPILOG = "Exit codes: 0 all is well; 1 something is wrong, or could not be done; 2 wrong usage or configuration."

COMMANDS = {
    "acknowledge": (
        "acknowledge",
        "Take dead letters for settled: they will not be delivered, and replay leaves them alone.",
    ),
    "archive": ("archive", "Check archive files, and put their records back."),
    "cancel": (
        "cancel",
        "Take queued and retrying deliveries off their way. What is being sent right now may still arrive.",
    ),
    "certificate": (
        "reconcile",
        "The last certificate of completeness of each feed, over all of it.",
    ),
    "console": (
        "console",
        "Serve the operator console: web pages and an API. Also its users, its audit log, its database's schema.",
    ),
    "deliveries": ("deliveries", "Look at single deliveries."),
    "demo": (
        "demo",
        "Run the main job on embedded servers, with faults. Exit code 1 where the books do not balance.",
    ),
    "doctor": (
        "doctor",
        "Connect to Redis, MongoDB, the source and every partner; examine every feed's table. "
        "Exit code 1 if any fails.",
    ),
    "feeds": ("feeds", "List, test, pause, resume, explain and rewind feeds."),
    "health": (
        "health",
        "Say whether worker, beat and feeds make progress. Exit code 1 where one does not, within PROGRESS_BOUND.",
    ),
    "jobs": (
        "jobs",
        "Per periodic job: the last period done, when, how long, what is due next, and the last error.",
    ),
    "metrics": (
        "metrics",
        "Serve Prometheus metrics at /metrics, read from the ledger, Redis and the source. "
        "One process an installation.",
    ),
    "notifications": (
        "notifications",
        "Events that are on, and those that were over within a week: what was said of each, and whether it was taken.",
    ),
    "operations": (
        "operations",
        "Replay, cancel or acknowledge many deliveries in two steps: freeze the set, then act on it.",
    ),
    "ping": (
        "ping",
        "Send `add(2, 3)` through broker, worker and result backend, and say how long each leg took.",
    ),
    "purge": (
        "purge",
        "Drop payloads and delete records that are kept for long enough, as each feed's retention says.",
    ),
    "reconcile": (
        "reconcile",
        "Find source rows that have no delivery, and log them, so that they are delivered.",
    ),
    "replay": (
        "replay",
        "Put dead deliveries back to queued; cancelled or delivered ones too, where --state says so.",
    ),
    "report": (
        "report",
        "Compile the report of an hour or a day now, also of one that is still running, and print it.",
    ),
    "status": (
        "status",
        "Per feed: its state, what is open, how fast it goes, until when, and what failed last.",
    ),
    "watch": (
        "watch",
        "Run a worker or beat, pass signals and its exit code on, and start it anew when it makes no progress.",
    ),
}
"""Name → the file of `app/cli/` that has it, and the first line of its help."""


def add_command(program: typer.Typer, name: str) -> None:
    """Load the command of that name, or group of commands, and make it one of the program's."""
    module, said = COMMANDS[name]
    command = getattr(import_module(f"app.cli.{module}"), name)
    if isinstance(command, type(program)):
        program.add_typer(command, name=name, help=said)
    else:
        program.command(name)(command)
