"""Every question that the ledger is asked reads what it answers with and little more, whatever lies
beside it.

The commands are those that the repositories send, caught as they are sent, and explained by the
server with their execution. A method that is added to a repository fails here until it is asked, or
said why not.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.synchronous.database import Database

from app.ledger import Ledger
from app.ledger.client import Document
from tests.support.busy_ledger import fill
from tests.support.plans import Explained
from tests.support.questions import Ask, of_an_operator, of_deliveries
from tests.support.questions_of_jobs import of_a_feed, of_batches, of_jobs, of_retention
from tests.support.questions_of_operations import of_operations

QUESTIONS: dict[str, list[Ask]] = {
    **of_deliveries(), **of_an_operator(), **of_batches(), **of_retention(), **of_jobs(), **of_a_feed(),
    **of_operations(),
}  # fmt: skip

INSERTS = {
    "archives.begin",
    "attempts.record",
    "attempts.record_unknown",
    "batches.insert",
    "deliveries.log",
    "deliveries.log_skipped",
    "deliveries.log_unreadable",
    "operations.add",
    "operations.add_to_set",
}
"""They insert documents by their ids, and ask nothing."""

SMALL = {
    "cursors": "one document a feed",
    "notifications": "one document an event that is on, or was on within a week: a few a feed and process",
    "operations": "one document an operation in bulk, for 90 days",
    "progress": "one document a process",
}
"""Collections that may be read whole, and why they stay small."""


@pytest.fixture(scope="module")
def busy(mongo_url: str, mongo_admin_url: str) -> Iterator[tuple[str, Database[Document]]]:
    """The URL of a ledger that holds enough of everything, and the database behind it."""
    name = f"rowrelay_test_{uuid4().hex[:12]}"
    url = urlunsplit(urlsplit(mongo_url)._replace(path=f"/{name}"))
    with MongoClient[Document](mongo_admin_url, tz_aware=True) as client:
        if "secantusVersion" in client.admin.command("buildInfo"):
            pytest.skip("SecantusDB: its explain counts nothing, and its planner is not MongoDB's")
        database = client[name]
        asyncio.run(_prepare(url))
        fill(database)
        yield url, database
        client.drop_database(database)


async def _prepare(url: str) -> None:
    ledger = Ledger.at(url, timedelta(seconds=5))
    await ledger.prepare()
    await ledger.close()


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_question_reads_what_it_answers_with_and_little_more(
    busy: tuple[str, Database[Document]], question: str
) -> None:
    url, database = busy
    faults: list[str] = []
    listener = Explained(database)
    async with AsyncMongoClient[Document](url, tz_aware=True, event_listeners=[listener]) as client:
        for number, asked in enumerate(QUESTIONS[question]):
            await asked.ask(Ledger(client))
            plans = listener.taken()
            assert plans or question in ASKS_NOTHING, "no command was sent"
            for plan in plans:
                if plan.collection not in SMALL:
                    faults += [
                        f"{number}: {fault}: {plan.command}"
                        for fault in plan.faults(asked.within, sorts_ties=asked.sorts_ties)
                    ]
    assert not faults, "\n".join(faults)


ASKS_NOTHING = {"reports.insert", "ticks.plan"}
"""Inserts that are tried, and refused where the document is there."""


def test_every_method_of_every_repository_is_asked() -> None:
    ledger = Ledger.at("mongodb://127.0.0.1:1/", timedelta(seconds=1))
    methods = {
        f"{name}.{method}"
        for name, repository in vars(ledger).items()
        if not name.startswith("_")
        for method, function in inspect.getmembers(type(repository), inspect.iscoroutinefunction)
        if not method.startswith("_")
    }
    assert len(methods) > 100
    assert methods == QUESTIONS.keys() | INSERTS
