"""Reads settled deliveries in the order of their moments, a chunk at a time, and survives a lost
cursor.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from datetime import datetime

from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import PyMongoError

from app.ledger.client import Document, query
from app.ledger.records import CHUNK_BYTES, weight
from app.ledger.settled import Category, TimeRange, settled

_BATCH = 100
"""Documents that a server sends together: few enough that chunks with the longest pauses between
them do not take the 10 minutes after which a server drops an idle cursor."""


_LARGEST_BATCH = 6400
"""Batches grow when cursors are lost: documents that share the last moment are read again, which
must not fail too.
"""


class Reading:
    """What of a category settled in a time range, in that order, a chunk at a time. Close it when
    done.

    When a cursor is lost, nothing it read is: the next call of `next` continues with a new one.
    """

    def __init__(
        self,
        find: Callable[[TimeRange, int], AsyncCursor[Document]],
        category: Category,
        span: TimeRange,
    ) -> None:
        """`find`: opens a cursor over a part of the time range, with so many documents a batch."""
        self._find = find
        self._at_once = _BATCH
        self._category = category
        self._span = span
        self._cursor: AsyncCursor[Document] | None = None
        self._place = _Place()
        self._chunk: list[Document] = []

    @query
    async def next(self, size: int) -> list[Document]:
        """The next documents, at most `size`, fewer where they are large; none at the end."""
        try:
            await self._fill(size)
        except PyMongoError:
            self._cursor = None  # the driver has closed it
            self._at_once = min(4 * self._at_once, _LARGEST_BATCH)
            raise
        chunk, self._chunk = self._chunk, []
        return chunk

    @query
    async def close(self) -> None:
        """Close the server's cursor."""
        if self._cursor:
            await self._cursor.close()

    async def _fill(self, size: int) -> None:
        held = sum(map(_weight, self._chunk))
        while len(self._chunk) < size and held < CHUNK_BYTES:
            document = await self._following()
            if document is None:
                return
            found = settled(document)
            if found and found.category is self._category:
                self._chunk.append(document)
                held += _weight(document)

    async def _following(self) -> Document | None:
        """The next document not read before."""
        if self._cursor is None:
            behind = TimeRange(self._place.come_back() or self._span.start, self._span.end)
            self._cursor = self._find(behind, self._at_once)
        while (document := await anext(self._cursor, None)) is not None:
            if self._place.reach(document["_id"], document[self._category.moment]):
                return document
        return None


class _Place:
    """How far a reading has come: the last moment, and hashes of what was read of it, since a
    million may share one.
    """

    def __init__(self) -> None:
        self._moment: datetime | None = None
        self._read = array("q")
        self._again: frozenset[int] = frozenset()
        """What a cursor opened at the last moment returns a second time."""

    def reach(self, delivery_id: str, moment: datetime) -> bool:
        """Note a document. Returns whether it is new."""
        if moment != self._moment:
            self._moment, self._read, self._again = moment, array("q"), frozenset()
        known = hash(delivery_id)
        if known in self._again:
            return False
        self._read.append(known)
        return True

    def come_back(self) -> datetime | None:
        """The moment from which a new cursor has to read; `None`: nothing was read yet."""
        self._again = frozenset(self._read)
        return self._moment


def _weight(document: Document) -> int:
    return weight(document, document.get("attempts", 0))
