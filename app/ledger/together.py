"""Asks together what is asked at the same time.

What a command costs is mostly its way: through the driver, to the server and back. So questions of
a kind that come while one is on its way wait for it, and go together in the next. Where little is
asked each goes at once, alone; the more there is to do, the fewer commands it takes.

No question joins a command that is on its way already: it sees all that was written before it was
asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from typing import Generic, TypeAlias, TypeVar

from bson.errors import BSONError
from pymongo import DeleteOne, UpdateOne
from pymongo import errors as driver

from app.ledger.client import Collection, Document

MOST = 100
"""Questions in one command at most."""

Q = TypeVar("Q")
A = TypeVar("A")

Change: TypeAlias = tuple[Document, Document]
"""The filter of one document, and the update."""

_OF_ONE = (BSONError, OverflowError, UnicodeEncodeError)
"""A value that has no BSON form, or none in Python: nothing was sent, or nothing was changed."""


class Together(Generic[Q, A]):
    """Questions of one kind. Used on one event loop."""

    def __init__(self, ask: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]]) -> None:
        """`ask` gives an answer to each of the questions, or the error that it alone has met; what
        it raises is everybody's.
        """
        self._ask = ask
        self._waiting: list[tuple[Q, asyncio.Future[A], Context]] = []
        self._busy = False
        """A command is on its way."""
        self._asking: asyncio.Task[None] | None = None
        """The command for those that have waited."""

    async def ask(self, question: Q) -> A:
        """The answer to this one. Raises what `ask` raises, or gives."""
        if self._busy:
            answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
            self._waiting.append((question, answer, copy_context()))
            return await answer
        self._busy = True
        try:
            (found,) = await self._ask([question])
        finally:
            self._next()
        if isinstance(found, Exception):
            raise found
        return found

    def _next(self) -> None:
        """Ask what has waited. Whoever was cancelled meanwhile asks nothing any more."""
        self._waiting = [one for one in self._waiting if not one[1].done()]
        self._busy = bool(self._waiting)
        if self._busy:
            context = self._waiting[0][2]
            self._asking = asyncio.get_running_loop().create_task(self._go(), context=context)

    async def _go(self) -> None:
        asked, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            await self._answer([(one, answer) for one, answer, _ in asked if not answer.done()])
        except asyncio.CancelledError:  # the event loop ends
            for _, answer, _ in [*asked, *self._waiting]:
                answer.cancel()
            raise
        finally:
            self._next()

    async def _answer(self, asked: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        answers: Sequence[A | Exception]
        if not asked:
            return
        try:
            answers = await self._ask([question for question, _ in asked])
        except _OF_ONE as error:
            if len(asked) > 1:  # one's fault is not the others'
                for one in asked:
                    await self._answer([one])
                return
            answers = [error]
        except Exception as error:  # noqa: BLE001 - it is raised to whoever asks
            answers = [error] * len(asked)
        for (_, answer), found in zip(asked, answers, strict=True):
            if answer.done():
                continue  # whoever asked was cancelled
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)


async def upsert_each(
    collection: Collection, changes: Sequence[Change]
) -> Sequence[Exception | None]:
    """Make these changes, each also where there is no such document yet."""
    if len(changes) == 1:
        await collection.update_one(*changes[0], upsert=True)
        return [None]
    return await _write(collection, [UpdateOne(*change, upsert=True) for change in changes])


async def delete_each(
    collection: Collection, wanted: Sequence[Document]
) -> Sequence[Exception | None]:
    """Delete one document for each of these filters, where there is one."""
    if len(wanted) == 1:
        await collection.delete_one(wanted[0])
        return [None]
    return await _write(collection, [DeleteOne(one) for one in wanted])


async def _write(
    collection: Collection, writes: Sequence[UpdateOne | DeleteOne]
) -> Sequence[Exception | None]:
    """What became of each."""
    try:
        await collection.bulk_write(writes, ordered=False)
    except driver.BulkWriteError as error:
        if error.details.get("writeConcernErrors"):
            raise
        failed = {found["index"]: found for found in error.details["writeErrors"]}
        return [_error(failed.get(index)) for index in range(len(writes))]
    return [None] * len(writes)


def _error(found: Document | None) -> Exception | None:
    """As the driver raises it for a single write."""
    return None if found is None else driver.WriteError(found["errmsg"], found["code"], found)
