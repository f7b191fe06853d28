"""Deliveries and attempts as a console's tests find them in the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, timedelta
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from app.core.clock import utc_now
from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.indexes import MOMENTS
from app.source.payload import key_text
from tests.support.console import Consoled

NOW = utc_now().replace(microsecond=0)
NASTY = "<script>alert(1)</script>\"'=cmd|' /C calc'!A0 {{ 7*7 }} \u202e"
"""What a source or a partner might write into any field."""


def delivery(*parts: object, state: State = State.DEAD, age: float = 0, **more: Any) -> Document:
    """A delivery of that key of the feed `orders`. `age`: seconds since its moment."""
    feed, key = more.pop("feed", "orders"), key_text(parts)
    at = NOW - timedelta(seconds=age)
    made: Document = {
        "_id": f"{feed}:{key}", "feed": feed, "key": key, "position": 1, "created_at": at - timedelta(hours=1),
        "attempts": 1, "payload": '{"id":1,"name":"Nguyen Van A","mail":"a@b.example"}', "state": state.value,
    }  # fmt: skip
    made[MOMENTS[state]] = at
    if state is State.DEAD:
        made |= {
            "reason": "422 Unprocessable Content",
            "last": {"at": at, "status": 422, "error": "422"},
        }
    return made | more


def attempt(delivery_id: str, number: int = 1, **more: Any) -> Document:
    """An attempt of that delivery, which was refused."""
    return {
        "_id": f"{delivery_id}#t{number}", "feed": "orders", "at": NOW - timedelta(minutes=10 - number),
        "outcome": "dead", "status": 422, "duration_ms": 31, "worker": "w1", **more,
    }  # fmt: skip


async def put(console: Consoled, *documents: Document) -> None:
    """Write them into the ledger: deliveries, and attempts."""
    database = console.services.operator.ledger._database
    deliveries = [one for one in documents if "state" in one]
    attempts = [one for one in documents if "outcome" in one]
    if deliveries:
        await database["deliveries"].insert_many(deliveries)
    if attempts:
        await database["attempts"].insert_many(attempts)


@asynccontextmanager
async def ledger_commands(console: Consoled, url: str) -> AsyncIterator[list[str]]:
    """The commands that the console's ledger is sent while it is open: their names, in order; not
    those of logging in."""
    sent: list[str] = []

    class Listener(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            if not event.command_name.startswith("sasl"):
                sent.append(event.command_name)

        def succeeded(self, event: object) -> None:
            """Not looked at."""

        failed = succeeded

    operator, before = console.services.operator, console.services.operator.ledger
    async with AsyncMongoClient[Document](
        url, tz_aware=True, tzinfo=UTC, event_listeners=[Listener()]
    ) as client:
        operator.__dict__["ledger"] = Ledger(client)
        try:
            yield sent
        finally:
            operator.__dict__["ledger"] = before
