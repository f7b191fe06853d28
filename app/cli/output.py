"""How commands speak: tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import sys
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

import config
from app.clock import utc_now
from app.errors import ConfigError, RowrelayError
from app.ledger import Ledger

T = TypeVar("T")

FOUND_WRONG, WRONG_USAGE = 1, 2

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_WIDEST = 10_000
"""Columns of text; no table is wider."""

console = Console()


def load_config() -> config.Config:
    """The configuration, or one message that lists every problem, and exit code 2."""
    try:
        return config.load()
    except ConfigError as error:
        fail(str(error), WRONG_USAGE)


def fail(message: str, code: int = FOUND_WRONG) -> typing.NoReturn:
    """Say what is wrong on stderr, and exit."""
    sys.stderr.write(f"rowrelay: {message}\n")
    raise typer.Exit(code)


def fail_feeds(failed: Mapping[str, str]) -> typing.NoReturn:
    """Say what went wrong, a line for each feed that is named, and exit."""
    lines = [text if text.startswith(f"feed {name}:") else f"feed {name}: {text}" for name, text in failed.items()]
    fail("\nrowrelay: ".join(lines), FOUND_WRONG)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work. One of our errors becomes one line and exit code 1; no traceback."""
    try:
        return asyncio.run(work)
    except RowrelayError as error:
        fail(str(error))


def with_ledger(loaded: config.Config, ask: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
    """Ask the ledger something, over a client of its own."""

    async def asking() -> T:
        ledger = Ledger.at(loaded.settings.mongo_url.get_secret_value(), loaded.settings.connect_timeout)
        try:
            return await ask(ledger)
        finally:
            await ledger.close()

    return run(asking())


def print_json(value: object) -> None:
    """Print a value as indented JSON; moments in ISO 8601."""
    sys.stdout.write(
        orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() + "\n"
    )


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, an empty cell for `None`; where it is wider than the terminal, a record at a time."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    unbounded = console.options.update(max_width=_WIDEST)
    if Measurement.get(console, unbounded, table).maximum <= console.width:
        console.print(table)
        return
    console.print(title, style="italic", markup=False, highlight=False)
    for row in rows:
        print_fields(dict(zip(columns, row, strict=True)))
        console.print()


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one record, a field a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        console.print(f"{name:<{width}}  {value if value is not None else ''}", markup=False, highlight=False)


def ago(moment: datetime | None) -> str:
    """How long ago, to one unit: `12 s`, `3 min`, `5 h`, `2 d`; `never` for `None`."""
    if moment is None:
        return "never"
    seconds = max(0, (utc_now() - moment).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def operator() -> str:
    """`user@host`; the number of a user who has no name, as in some containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
