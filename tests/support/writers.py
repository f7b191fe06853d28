"""Four writers on one table, as an application with many transactions would be: they commit out of
order, and some roll back. On SQLite, where one transaction writes at a time, a transaction takes
its ids first and writes them later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from sqlalchemy import text

from tests.support.sources import SourceTables

WRITERS = 4
ROLLED_BACK = 0.05
MOST_A_TRANSACTION = 200
IN_FLIGHT = 25
"""Transactions that a writer holds open at most."""


class _RolledBack(Exception):
    pass


@dataclass
class Writers:
    """Write about `total` rows into the table `written`, over four concurrent writers."""

    tables: SourceTables
    total: int
    random: Random
    committed: set[int] = field(default_factory=set)
    rolled_back: int = 0
    _next_id: int = 1

    async def prepare(self) -> None:
        identity = "IDENTITY" if self.tables.mssql else "BIGINT PRIMARY KEY"
        await self.tables.make("written", id=identity, note="NVARCHAR", rv="ROWVERSION")
        await self.tables.run(f"CREATE INDEX written_rv ON {self.tables.named('written')} (rv)")

    async def write(self) -> None:
        """Write until all ids are used, and every transaction is over."""
        await asyncio.gather(*(self._writer(Random(self.random.random())) for _ in range(WRITERS)))

    async def _writer(self, random: Random) -> None:
        if self.tables.mssql:
            for size in self._transactions(random):
                await self._transaction(random, size)
            return
        open_now: deque[range] = deque()
        for size in self._transactions(random):
            open_now.append(self._take(size))
            while len(open_now) > random.randint(0, IN_FLIGHT):
                open_now.rotate(random.randint(0, len(open_now)))
                await self._finish(random, open_now.popleft())
        for ids in random.sample(list(open_now), len(open_now)):
            await self._finish(random, ids)

    def _transactions(self, random: Random) -> Iterator[int]:
        """The rows of each transaction of one writer."""
        left = self.total // WRITERS
        while left > 0:
            size = min(left, random.randint(1, MOST_A_TRANSACTION))
            left -= size
            yield size

    def _take(self, size: int) -> range:
        ids = range(self._next_id, self._next_id + size)
        self._next_id += size
        return ids

    async def _finish(self, random: Random, ids: range) -> None:
        """Commit the transaction that took these ids, or roll it back."""
        if random.random() < ROLLED_BACK:
            self.rolled_back += len(ids)
            await asyncio.sleep(0)
            return
        versioned = text(
            "INSERT INTO written SELECT :id, :note, coalesce(max(rv), 0) + 1 FROM written"
        )
        async with self.tables.engine.begin() as connection:
            await connection.execute(
                versioned, [{"id": number, "note": f"{number}"} for number in ids]
            )
        self.committed.update(ids)

    async def _transaction(self, random: Random, size: int) -> None:
        rows = ", ".join(["(N'n')"] * size)
        insert = text(
            f"INSERT INTO {self.tables.named('written')} (note) OUTPUT inserted.id VALUES {rows}"  # noqa: S608 - names of ours
        )
        try:
            async with self.tables.transaction() as connection:
                taken = (await connection.execute(insert)).scalars().all()
                await asyncio.sleep(random.random() / 100)
                _maybe_roll_back(random)
        except _RolledBack:
            self.rolled_back += size
            return
        self.committed.update(taken)


def _maybe_roll_back(random: Random) -> None:
    if random.random() < ROLLED_BACK:
        raise _RolledBack
