"""What the console does beside answering: things that are done again and again while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from app.console.notifications.telling import EVERY_SECONDS
from app.console.services import Services
from app.console.store.changes import PRUNED_AT_ONCE
from app.core.errors import RowrelayError
from app.runtime.timekeeping import ASK_SECONDS

log = structlog.get_logger()

MOST_PRUNES = 100
"""Transactions of one prune."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Something that is done every so many seconds."""

    name: str
    every_seconds: float
    do: Callable[[], Awaitable[object]]


def repeated(services: Services) -> tuple[Repeated, ...]:
    """All of it, for these services."""
    return (
        Repeated("prune_api_keys", 3600.0, partial(_prune, services.api_keys.prune)),
        Repeated("prune_answers", 3600.0, partial(_prune, services.idempotency.prune)),
        Repeated("prune_links", 3600.0, partial(_prune, services.users.prune_links)),
        Repeated("prune_sessions", 3600.0, partial(_prune, services.sessions.prune)),
        Repeated("prune_tokens", 600.0, partial(_prune, services.tokens.prune)),
        Repeated("tell_users", EVERY_SECONDS, services.telling.tell),
        Repeated("tidy_operations", 3600.0, services.operator.bulk.tidy),
        Repeated("work_on_operations", 5.0, services.operator.operation_runner.watch),
        Repeated("read_clock", ASK_SECONDS, services.operator.ledger.read_clock),
    )


async def _prune(some: Callable[[], Awaitable[int]]) -> None:
    """Delete what is past, in transactions that are short, until little is left."""
    for _ in range(MOST_PRUNES):
        if await some() < PRUNED_AT_ONCE:
            return


@asynccontextmanager
async def background(services: Services) -> AsyncIterator[None]:
    """Do it until the end. What fails is logged, and tried again the next time."""
    tasks = [asyncio.create_task(_repeat(one), name=one.name) for one in repeated(services)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(one: Repeated) -> None:
    while True:
        try:
            await one.do()
        except RowrelayError as error:
            log.warning("console_task_failed", task=one.name, error=str(error))
        except Exception:
            log.exception("console_task_failed", task=one.name)
        await asyncio.sleep(one.every_seconds)
