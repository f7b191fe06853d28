"""How commands speak: tables for people, JSON for programs, one line for an error.

Settings, ledger and source are imported where they are opened: a command loads the drivers of the servers that it asks.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import sys
import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.core.clock import rough, utc_now
from app.core.errors import AmbiguousKey, ConfigError, LedgerUnavailable, RowrelayError, UnknownFeed
from app.core.shown import plain, plain_json, plain_lines

if TYPE_CHECKING:
    import config
    from app.broker.queue import Queue
    from app.feeds.feed import Feed
    from app.ledger import Ledger
    from app.runtime.operator import Operator
    from app.runtime.reader import Reader
    from app.source.reader import Source

T = TypeVar("T")

FOUND_WRONG, WRONG_USAGE = 1, 2

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_LEAST = 8
"""Columns of text that a cut cell keeps."""
_SHORT = 24
"""Columns of text that are not cut while a longer one can be."""
_BETWEEN = 2
"""Columns of blanks between two columns of a table."""


class PlainConsole(Console):
    """Takes every text for data: no markup, no emoji codes, and nothing in it that acts on the terminal."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
        self._width = width  # else Rich keeps the COLUMNS of the moment of the import; asked for, it reads them anew

    def render_str(self, text: str, **options: Any) -> Text:
        """As Rich calls it for each text that it prints."""
        return super().render_str(plain_lines(text), **options)


console = PlainConsole()


def load_config(log_level: str = "WARNING") -> config.Config:
    """The configuration, or one message that lists every problem, and exit code 2.

    From here on what is logged, of `log_level` and above, goes to stderr, so that stdout is the command's own.
    """
    read = load_partly(log_level)
    if read.wrong:
        fail(str(ConfigError(read.wrong)), WRONG_USAGE)
    return read.config


def load_partly(log_level: str = "WARNING") -> config.Partly:
    """The same, for a command that has something to tell without the feeds that are wrong."""
    from app.configuration import checks  # noqa: PLC0415 - as the module says
    from app.core.logs import configure_logging  # noqa: PLC0415 - as above

    try:
        read = checks.load_partly()
    except ConfigError as error:
        fail(str(error), WRONG_USAGE)
    for warning in read.config.warnings:
        warn(f"warning: {warning}")
    configure_logging(log_level, read.config.settings.log_format)
    return read


def configured_feed(loaded: config.Config, name: str) -> Feed:
    """The feed of that name, or one message that lists those there are, and exit code 2."""
    try:
        return loaded.feed(name)
    except UnknownFeed as error:
        fail(str(error), WRONG_USAGE)


def duration_option(value: object) -> timedelta:
    """An option's value, written as any duration is. Raises `typer.BadParameter`, which exits with code 2."""
    from app.feeds.duration import parse_duration  # noqa: PLC0415 - as the module says

    try:
        parsed = parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value!r}: {error}") from error
    assert isinstance(parsed, timedelta)  # noqa: S101 - what it makes of text
    if not parsed:
        raise typer.BadParameter(f"{value!r}: a duration above 0")
    return parsed


def fail(message: str, code: int = FOUND_WRONG) -> typing.NoReturn:
    """Say what is wrong on stderr, and exit."""
    warn(message)
    raise typer.Exit(code)


def warn(message: str) -> None:
    """Say something on stderr that ends nothing."""
    sys.stderr.write(f"rowrelay: {plain_lines(message)}\n")


def fail_feeds(failed: Mapping[str, str]) -> typing.NoReturn:
    """Say what went wrong, a line for each feed that is named, and exit."""
    lines = [text if text.startswith(f"feed {name}:") else f"feed {name}: {text}" for name, text in failed.items()]
    fail("\nrowrelay: ".join(lines), FOUND_WRONG)


@contextmanager
def errors_told() -> Iterator[None]:
    """One of our errors becomes one line and exit code 1, or 2 where something was named that is not there; no
    traceback."""
    try:
        yield
    except (UnknownFeed, AmbiguousKey) as error:
        fail(str(error), WRONG_USAGE)
    except RowrelayError as error:
        fail(str(error))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; its errors as `errors_told` has them."""
    with errors_told():
        return asyncio.run(work)


class Session:
    """An operator at the servers, for a command of several steps that may ask a person between two of them."""

    def __init__(self, runner: asyncio.Runner, loaded: config.Config, operating: Operator) -> None:
        self.loaded = loaded
        self.operating = operating
        self._runner = runner

    def run(self, step: Callable[[Operator], Coroutine[Any, Any, T]]) -> T:
        """Take a step; its errors as `errors_told` has them."""

        async def stepping() -> T:
            return await step(self.operating)

        with errors_told():
            return self._runner.run(stepping())


@contextmanager
def session(loaded: config.Config) -> Iterator[Session]:
    """The same clients for all steps of a command, by the ledger's clock."""
    from app.runtime.operator import open_operator  # noqa: PLC0415 - as the module says

    opened = AsyncExitStack()
    with asyncio.Runner() as runner:
        operating = runner.run(opened.enter_async_context(open_operator(loaded, lambda: open_queue(loaded))))
        try:
            begun = Session(runner, loaded, operating)
            begun.run(_set_clock)
            yield begun
        finally:
            runner.run(opened.aclose())


def with_ledger(loaded: config.Config, ask: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
    """Ask the ledger something, over a client of its own."""
    return with_reader(loaded, lambda reader: ask(reader.ledger))


def with_reader(loaded: config.Config, ask: Callable[[Reader], Coroutine[Any, Any, T]]) -> T:
    """Ask the servers something, over clients of its own, by the ledger's clock."""
    from app.runtime.reader import open_reader  # noqa: PLC0415 - as the module says

    async def asking() -> T:
        async with open_reader(loaded) as reader:
            await _set_clock(reader)
            return await ask(reader)

    return run(asking())


def with_operator(loaded: config.Config, do: Callable[[Operator], Coroutine[Any, Any, T]]) -> T:
    """Change something, over clients of its own, by the ledger's clock."""
    from app.runtime.operator import open_operator  # noqa: PLC0415 - as the module says

    async def doing() -> T:
        async with open_operator(loaded, lambda: open_queue(loaded)) as operating:
            await _set_clock(operating)
            return await do(operating)

    return run(doing())


async def _set_clock(reader: Reader) -> None:
    with suppress(LedgerUnavailable):  # told by what is asked
        await reader.ledger.read_clock()


def open_queue(loaded: config.Config) -> Queue:
    """The queue to the workers. Connects on first use."""
    from tasks import application  # noqa: PLC0415 - as the module says: this loads Celery

    return application.open_queue(loaded)


@asynccontextmanager
async def opened_ledger(loaded: config.Config) -> AsyncIterator[Ledger]:
    """The ledger, over a client of its own that connects on first use."""
    from app.runtime.reader import open_reader  # noqa: PLC0415 - as the module says

    async with open_reader(loaded) as reader:
        yield reader.ledger


def open_source(loaded: config.Config) -> Source:
    """The source, connected on first use. Close it."""
    from app.runtime import clients  # noqa: PLC0415 - as the module says

    return clients.open_source(loaded.settings)


def print_json(value: object) -> None:
    """Print a value as indented JSON; moments in ISO 8601."""
    document = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    sys.stdout.write(plain_json(document) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], spare: Sequence[str] = (), *, whole: int = 0
) -> bool:
    """Print a table, an empty cell for `None`. Returns whether all of it could be printed: what must be read is for the
    caller to say below it where it could not.

    On a terminal that is too narrow for it the columns that are `spare` are left out, the first of them first, until
    cutting the widest column makes room; where that is not enough the others are cut too, and where little would be
    left of them the widest is left out, but never the first. Of the first `whole` none is cut: where that leaves the
    others no room, the table is printed a record at a time. In a file or a pipe it is as wide as it needs to be.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if not _is_bounded() or _width_of(widths) <= console.width:
        printing = console if _is_bounded() else PlainConsole(width=_width_of(widths))
        printing.print(_table(title, columns, cells))
        return True
    needed = [min(_LEAST, widths[place]) for place in range(whole, len(columns)) if columns[place] not in spare]
    if whole and _width_of([*widths[:whole], *needed]) > console.width:
        _print_records(title, columns, rows)
        return True
    kept = _with_room(columns, widths, spare, whole)
    table = _table(title, [columns[place] for place in kept], [[row[place] for place in kept] for row in cells])
    room = console.width - _width_of([*widths[:whole], 0]) if whole else console.width
    for place, column in enumerate(table.columns):
        column.width = [*widths[:whole], *_cut([widths[place] for place in kept[whole:]], room)][place]
    console.print(table)
    if without := [name for place, name in enumerate(columns) if place not in kept]:
        console.print(f"no room for: {', '.join(without)}", style="dim", soft_wrap=True)
    return False


def _print_records(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Each row as a record of its own."""
    console.print(title, style="italic")
    for row in rows:
        print_fields(dict(zip(columns, row, strict=True)))
        console.print()


def _table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """Without rules between its columns, which a narrow terminal has no room for."""
    table = Table(
        title=title, title_justify="left", show_header=any(columns), box=SIMPLE_HEAD, show_edge=False, pad_edge=False,
        padding=(0, _BETWEEN - 1, 0, 0),
    )  # fmt: skip
    for column in columns:
        table.add_column(column, overflow="ellipsis")
    for row in cells:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return table


def _width_of(widths: Sequence[int]) -> int:
    """Of a table with columns of these widths."""
    return sum(widths) + _BETWEEN * (len(widths) - 1)


def _with_room(columns: Sequence[str], widths: Sequence[int], spare: Sequence[str], whole: int) -> list[int]:
    """The places of the columns that the terminal has room for; see `print_table`."""
    kept = list(range(len(columns)))

    def least(cut: int) -> int:
        """The width with the `cut` widest columns cut, of those that may be."""
        found = sorted((widths[place] for place in kept[whole:]), reverse=True)
        return _width_of([*widths[:whole], *(min(width, _LEAST) for width in found[:cut]), *found[cut:]])

    for name in spare:
        if least(1) <= console.width:
            break
        kept.remove(columns.index(name))
    last = max(1, whole)
    while len(kept) > last and least(len(kept)) > console.width:
        kept.remove(max(kept[last:], key=lambda place: (widths[place], place)))
    return kept


def _cut(widths: Sequence[int], room: int) -> list[int]:
    """How wide columns are in that room: long ones all alike, and where that is not enough, short ones stay whole as
    long as one that was long has anything left."""
    level = max([_SHORT, *(level for level in range(_SHORT, room) if _width_of(_at_most(widths, level)) <= room)])
    found = _at_most(widths, level)
    for place in sorted(range(len(widths)), key=lambda place: (widths[place], place), reverse=True):
        found[place] -= min(max(0, _width_of(found) - room), max(0, found[place] - _LEAST))
    return found


def _at_most(widths: Sequence[int], level: int) -> list[int]:
    return [min(width, level) for width in widths]


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one record, a field a line. A terminal wraps what is longer than its lines, so that a command in it can be
    copied whole."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        console.print(f"{name:<{width}}  {_cell(value)}", soft_wrap=True)


def print_figures(title: str, fields: Mapping[str, object]) -> None:
    """Print figures, one a line under a title, each with its name. What is longer than a terminal's line goes on below
    itself, beside no name."""
    console.print(title, style="italic", soft_wrap=True)
    width = max(map(len, fields), default=0) + _BETWEEN
    room = console.width - width
    for name, value in fields.items():
        text = Text(_cell(value))
        lines = text.wrap(console, room) if _is_bounded() and room > _LEAST else [text]
        for number, line in enumerate(lines):
            console.print(f"{'' if number else name:<{width}}{line.plain.rstrip()}", soft_wrap=True)


def _cell(value: object) -> str:
    return "" if value is None else plain(str(value))


def _is_bounded() -> bool:
    """Whether the output has a width: a terminal, or what COLUMNS says."""
    return console.is_terminal or "COLUMNS" in os.environ


def ago(moment: datetime | None) -> str:
    """How long ago, to one unit: `12 s`, `3 min`, `5 h`, `2 d`; `never` for `None`."""
    return "never" if moment is None else rough(utc_now() - moment)


def operator() -> str:
    """`user@host`; the number of a user who has no name, as in some containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
