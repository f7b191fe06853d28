"""How a command comes to its servers: a reader or an operator for one piece of work, or for several
steps.

They are imported where they are opened: a command loads the drivers of the servers that it asks.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from app.cli.terminal import WRONG_USAGE, fail
from app.core.errors import (
    AmbiguousKey,
    LedgerUnavailable,
    OperationRefused,
    RowrelayError,
    UnknownFeed,
)

if TYPE_CHECKING:
    import config
    from app.broker.queue import KnockingQueue
    from app.configuration.loaded import Loaded
    from app.ledger import Ledger
    from app.runtime.operator import Operator
    from app.runtime.reader import Reader

T = TypeVar("T")


@contextmanager
def errors_told() -> Iterator[None]:
    """One of our errors becomes one line and exit code 1, or 2 where something was named that is
    not there, or an option cannot be taken; no traceback."""
    try:
        yield
    except (UnknownFeed, AmbiguousKey) as error:
        fail(str(error), WRONG_USAGE)
    except OperationRefused as error:
        if error.field:
            fail(f"{error.field}: {error}", WRONG_USAGE)
        fail(str(error))
    except RowrelayError as error:
        fail(str(error))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; its errors as `errors_told` has them."""
    with errors_told():
        return asyncio.run(work)


class Session:
    """An operator at the servers, for a command of several steps that may ask a person between two
    of them.
    """

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
        operating = runner.run(
            opened.enter_async_context(open_operator(loaded, lambda: open_queue(loaded)))
        )
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


def open_queue(loaded: config.Config | Loaded) -> KnockingQueue:
    """The queue to the workers. Connects on first use."""
    from tasks import application  # noqa: PLC0415 - as the module says: this loads Celery

    return application.open_queue(loaded)


def operator() -> str:
    """`user@host`; the number of a user who has no name, as in some containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
