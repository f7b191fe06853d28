"""`status`: how each feed is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.loading import duration_option, load_partly
from app.cli.servers import with_reader
from app.cli.terminal import AsJson, console, print_json
from app.core.errors import ConfigError, RowrelayError

if TYPE_CHECKING:
    from app.reads.status import Status
    from app.runtime.reader import Reader
    from config import Partly

Recount = Annotated[
    bool, typer.Option("--recount", help="Count every delivery anew, however many there are.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Tell again and again, until Ctrl-C.")]
Every = Annotated[
    timedelta,
    typer.Option(parser=duration_option, show_default="2s", help="With --watch: how often."),
]


def status(
    as_json: AsJson = False,
    recount: Recount = False,
    watch: Watch = False,
    every: Every = timedelta(seconds=2),
) -> None:
    """Per feed: its state, what is open, how fast it goes, until when, and what failed last.

    Rows a second are of the last minute; "done in" is when nothing would be open any more, nor wait
    in the source, at that pace. Counts are exact while the ledger holds up to a million deliveries.
    With more, those delivered, cancelled or skipped are counted once and remembered; such a number
    is about right, and marked with ~ (JSON: "about").
    """
    read = load_partly()
    from app.cli.status_table import show  # noqa: PLC0415 - as above
    from app.configuration import checks  # noqa: PLC0415 - with every driver, of which --help needs none

    def tell(found: Status) -> None:
        if as_json:
            print_json(found)
        else:
            show(found, read.config.settings.zone)

    async def ask(reader: Reader) -> None:
        if not watch:
            tell(await _read(read, reader, recount=recount))
            return
        present = read
        while True:
            await _tell_again(_read(present, reader), tell)
            await asyncio.sleep(every.total_seconds())
            with suppress(ConfigError):  # a setting; the ones that there are will do
                present = checks.load_partly()

    with suppress(KeyboardInterrupt) if watch else nullcontext():
        with_reader(read.config, ask)


async def _read(read: Partly, reader: Reader, *, recount: bool = False) -> Status:
    from app.reads.status import read_status  # noqa: PLC0415 - as above

    return await read_status(read, reader.ledger, reader.source, reader.broker, recount=recount)


async def _tell_again(reading: Coroutine[Any, Any, Status], tell: Callable[[Status], None]) -> None:
    """Read, then tell in place of what was told before. What does not answer now may the next time."""
    try:
        found = await reading
    except RowrelayError as error:
        console.print(f"not told: {error}", soft_wrap=True)
        return
    if console.is_terminal:
        console.clear()
    tell(found)
