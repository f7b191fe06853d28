"""The ledger: the MongoDB database that is the only authority on what is owed. Every query lives in this package."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pymongo import AsyncMongoClient

from app.ledger.attempts import Attempts
from app.ledger.batches import Batches
from app.ledger.client import Document, database_of, open_client, query
from app.ledger.cursors import Cursors
from app.ledger.deliveries import Deliveries
from app.ledger.indexes import ensure_indexes
from app.ledger.selection import Selections
from app.ledger.stats import Stats


class Ledger:
    """The ledger's collections, over one client."""

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        self._client = client
        self._database = database_of(client)
        self.attempts = Attempts(self._database)
        self.batches = Batches(self._database)
        self.cursors = Cursors(self._database)
        self.deliveries = Deliveries(self._database)
        self.selections = Selections(self._database)
        self.stats = Stats(self._database)

    @classmethod
    def at(cls, url: str, connect_timeout: timedelta) -> Self:
        """The ledger at a MongoDB URL. Connects on first use; raises `LedgerRefused` for a malformed URL."""
        return cls(open_client(url, connect_timeout))

    async def prepare(self) -> None:
        """Make what indexes are missing."""
        await ensure_indexes(self._database)

    @query
    async def version(self) -> str:
        """The server's version, after a round trip. Raises `LedgerUnavailable` where it cannot be reached."""
        info = await self._client.admin.command("buildInfo")
        return str(info["version"])

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()
