"""The ledger: the MongoDB database that is the only authority on what is owed. Every query lives in
this package.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Self

import structlog
from pymongo import AsyncMongoClient

from app.core.clock import server_clock
from app.ledger.archives import Archives
from app.ledger.attempts import Attempts
from app.ledger.audit import Audit
from app.ledger.backlog import Backlog
from app.ledger.batches import Batches
from app.ledger.certificates import Certificates
from app.ledger.client import Document, database_of, open_client, query, query_by_timer
from app.ledger.counted import Counts
from app.ledger.counters import Counters
from app.ledger.cursors import Cursors
from app.ledger.deliveries import Deliveries
from app.ledger.examine import Examination, time_of
from app.ledger.heartbeats import Heartbeats
from app.ledger.indexes import ensure_indexes
from app.ledger.listing import Listing
from app.ledger.notifications import Notifications
from app.ledger.operation_marks import OperationMarks
from app.ledger.operations import Operations
from app.ledger.operator_moves import Selections
from app.ledger.pauses import Pauses
from app.ledger.purge_watermarks import PurgeWatermarks
from app.ledger.purges import Purges
from app.ledger.reports import Reports
from app.ledger.requeueing import Requeueing
from app.ledger.retention import Retention
from app.ledger.scans import Scans
from app.ledger.state_counts import StateCounts
from app.ledger.stats import Stats
from app.ledger.ticks import Ticks

log = structlog.get_logger()


class Ledger:
    """The ledger's collections, over one client."""

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        self._client = client
        self._database = database_of(client)
        self.archives = Archives(self._database)
        self.attempts = Attempts(self._database)
        self.audit = Audit(self._database)
        self.backlog = Backlog(self._database)
        self.batches = Batches(self._database)
        self.certificates = Certificates(self._database)
        self.counts = Counts(self._database)
        self.cursors = Cursors(self._database)
        self.deliveries = Deliveries(self._database)
        self.purge_watermarks = PurgeWatermarks(self._database)
        self.listing = Listing(self._database)
        self.notifications = Notifications(self._database)
        self.heartbeats = Heartbeats(self._database)
        self.operation_marks = OperationMarks(self._database)
        self.operations = Operations(self._database)
        self.pauses = Pauses(self._database)
        self.purges = Purges(self._database)
        self.reports = Reports(self._database)
        self.requeueing = Requeueing(self._database)
        self.retention = Retention(self._database)
        self.selections = Selections(self._database)
        self.stats = Stats(self._database)
        self.state_counts = StateCounts(self._database)
        self.ticks = Ticks(self._database)
        self.scans = Scans(self._database)
        self.counters = Counters(self._database)

    @classmethod
    def at(cls, url: str, connect_timeout: timedelta) -> Self:
        """The ledger at a MongoDB URL. Connects on first use; raises `LedgerRefused` for a
        malformed URL.
        """
        return cls(open_client(url, connect_timeout))

    async def prepare(self) -> None:
        """Create missing indexes."""
        await ensure_indexes(self._database)

    def examination(self, patience: timedelta) -> Examination:
        """The questions of `doctor`; a majority may take `patience` to acknowledge a write."""
        return Examination(self._client, self._database, patience)

    @query
    async def version(self) -> str:
        """The server's version, after a round trip. Raises `LedgerUnavailable` where it cannot be
        reached.
        """
        info = await self._client.admin.command("buildInfo")
        return str(info["version"])

    @query_by_timer
    async def read_clock(self) -> None:
        """Ask the primary for the time, and set this process's clock (`app.core.clock`)."""
        asked = server_clock.steady()
        hello = await self._client.admin.command("hello")
        theirs, answered = time_of(hello), server_clock.steady()
        if theirs and (step := server_clock.note(theirs, asked, answered)):
            log.warning("ledger_clock_set", seconds=round(step, 3))

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()
