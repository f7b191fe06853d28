"""What one member of a replica set alone has may be undone by it, so nobody acts on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytest
from pymongo import WriteConcern

from app.ledger import Ledger
from app.testbed.embedded.replica_set import Member
from tests.support.mongods import Client, replica_set, url_of
from tests.support.wait import until


@pytest.fixture(scope="module")
def three() -> Iterator[list[Member]]:
    with replica_set(3) as members:
        yield members


@contextmanager
def nothing_is_copied(members: Sequence[Member]) -> Iterator[None]:
    """The members answer and vote, and take over nothing that the primary writes."""
    _order(members, "alwaysOn")
    try:
        yield
    finally:
        _order(members, "off")


def _order(members: Sequence[Member], mode: str) -> None:
    for member in members:
        with Client(member.url) as client:
            client.admin.command({"configureFailPoint": "stopReplProducer", "mode": mode})


async def test_what_no_majority_has_is_not_read(three: list[Member]) -> None:
    primary, *others = three
    ledger = Ledger.at(url_of(three), timedelta(seconds=30))
    try:
        with Client(url_of(three)) as client:  # all three have joined, and have the collection
            everywhere = WriteConcern(w=3, wtimeout=60_000)
            client["ledger"].get_collection("cursors", write_concern=everywhere).insert_one(
                {"_id": "other", "version": 0}
            )
        with nothing_is_copied(others), Client(primary.url) as alone:
            cursors = alone["ledger"].get_collection("cursors", write_concern=WriteConcern(w=1))
            cursors.insert_one({"_id": "orders", "position": "9", "version": 1})
            assert (await ledger.cursors.get("orders")).position is None
        await until(
            lambda: _position(ledger), timeout=60, message="what a majority has by now to be read"
        )
    finally:
        await ledger.close()


async def _position(ledger: Ledger) -> bool:
    return (await ledger.cursors.get("orders")).position == "9"
