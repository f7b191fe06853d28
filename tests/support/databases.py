"""Databases on the run's one MongoDB, each for one test at a time.

To make the ledger's collections with their indexes, and to drop them, costs a server more than most tests ask of
it. So a database that a test leaves as it was made is emptied, and given to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from pymongo import MongoClient, WriteConcern
from pymongo.database import Database

from app.ledger.indexes import INDEXES

MOST_KEPT = 5000
"""Documents that are deleted one by one; with more of them a database is dropped."""


def of_database(url: str, name: str) -> str:
    """The URL of a server, with that database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


class Databases:
    """Those of one server, by the URL of its administrator; close it."""

    def __init__(self, admin_url: str) -> None:
        self._client = MongoClient[dict[str, Any]](admin_url)
        self._empty: list[str] = []
        self._made: dict[str, int] = {}
        """Collection → how many indexes it has, as they are made."""

    @contextmanager
    def bare(self) -> Iterator[str]:
        """The name of a database in which there is nothing."""
        name = f"rowrelay_test_{uuid4().hex[:12]}"
        try:
            yield name
        finally:
            self._client.drop_database(name)

    @contextmanager
    def prepared(self) -> Iterator[str]:
        """The name of a database with the ledger's indexes, and without a document."""
        name = self._empty.pop() if self._empty else self._make()
        yield name
        if self._emptied(self._client[name]):
            self._empty.append(name)
        else:
            self._client.drop_database(name)

    def close(self) -> None:
        for name in self._empty:
            self._client.drop_database(name)
        self._client.close()

    def _make(self) -> str:
        database = self._client[f"rowrelay_test_{uuid4().hex[:12]}"]
        for collection, indexes in INDEXES.items():
            database[collection].create_indexes(list(indexes))
        self._made = self._made or {
            collection: len(database[collection].index_information()) for collection in INDEXES
        }
        return database.name

    def _emptied(self, database: Database[dict[str, Any]]) -> bool:
        """Delete all documents. False where there are too many of them, or what is left would not be
        what `_make` makes.
        """
        stats = database.command("dbStats")
        found = {one["name"]: one for one in database.list_collections()}
        if stats["objects"] > MOST_KEPT or not self._as_made(found, stats["indexes"]):
            return False
        left = stats["objects"]
        for name in found:
            if left > 0:
                collection = database[name].with_options(write_concern=WriteConcern(1))
                left -= collection.delete_many({}).deleted_count
        # Readers see what a majority has: this waits until it has all of the above.
        database["deliveries"].with_options(write_concern=WriteConcern("majority")).delete_many({})
        return True

    def _as_made(self, found: Mapping[str, Mapping[str, Any]], indexes: int) -> bool:
        """Whether these collections, with so many indexes in all, are those that are made; others may
        be there that have none but `_id`.
        """
        if not self._made.keys() <= found.keys():
            return False
        if any(one["type"] != "collection" or one["options"] for one in found.values()):
            return False
        return indexes == sum(self._made.values()) + len(found) - len(self._made)
