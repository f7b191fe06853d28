"""The memory budget for rows in one process: all its pages and batches together.

A row in memory exists several times over for a moment: as the driver returned it, as text, as a
document on its way to or from the ledger, as the body of a request. So it counts `COPIES` times,
with Python's overhead: its *cost*.

The budget has four lanes, so that slow work delays only its own kind:

| lane | for | part |
| --- | --- | --- |
| reading | pages of the source, until they are in the ledger; never waits for a partner | 1/4 |
| sending | rows of batches, until their request is over | 9/16 |
| sending a little | the same, for at most 1/64 of the budget: the usual batch of small rows | 1/8 |
| keeping | rows that were logged and wait to be sent, counted once (`once`); nobody waits for it | 1/16 |

Small batches use the larger lane when their own is full.

Within a lane, memory is granted in the order of requests. A feed has at most half of a lane: what
it requests beyond that waits, and lets others pass. A waiting request holds nothing, and one that
holds something does not wait (`Reservation.take`), so no two wait for each other. A request larger
than its lane gets the lane to itself, one such request in the process at a time: the budget is
exceeded by one row at most.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

MEMORY_BUDGET = 256 * 2**20
"""Bytes, where neither the settings nor the container say otherwise."""
COPIES = 4
ROW_BYTES = 1024
"""Python's overhead for a row."""
PORTION = 32 * 2**20
"""The highest cost of a page; never above half of its lane."""
BATCH = 16 * 2**20
"""The highest cost of what is loaded of a batch together; never above an eighth of its lane: a row
that waits for its partner must not hold up the rest of its feed."""


def once(content_bytes: int, rows: int) -> int:
    """The memory of rows that nothing is done with: they exist a single time."""
    return content_bytes + ROW_BYTES * rows


def cost(content_bytes: int, rows: int = 1) -> int:
    """The memory that rows with so many bytes of content cost."""
    return COPIES * once(content_bytes, rows)


def text_bytes(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class Room(Protocol):
    """Memory for a reader to fill."""

    @property
    def portion(self) -> int:
        """The highest cost of what is read together, unless a single row costs more."""

    def take(self, size: int) -> bool:
        """Take so much more, if it is free. Never waits."""


class NoRoom(Exception):
    """There is no memory for something of this cost now: wait for it, and read again."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no room for {size} bytes")
        self.size = size


@dataclass(slots=True)
class _Waiter:
    owner: str
    size: int
    granted: asyncio.Future[None]


class _Lane:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.of: Counter[str] = Counter()
        """Owner → what it holds."""
        self.waiting: list[_Waiter] = []

    def fits(self, owner: str, size: int) -> bool:
        """Whether it is free now, and no other request waits for it."""
        return (
            not self.waiting and self.held + size <= self.limit and self.within_share(owner, size)
        )

    def within_share(self, owner: str, size: int) -> bool:
        held = self.of[owner]
        return not held or held + size <= self.limit // 2


class Budget:
    """One process's memory for rows, on one event loop."""

    def __init__(self, limit: int = MEMORY_BUDGET) -> None:
        self.limit = limit
        self.held = 0
        self.peak = 0
        """The most that was held at any moment."""
        few = max(limit // 8, 1)
        self._few_at_once = limit // 64
        self._reading, self._few = _Lane(max(limit // 4, 1)), _Lane(few)
        self._keeping = _Lane(max(limit // 16, 1))
        self._sending = _Lane(max(limit - limit // 4 - few - limit // 16, 1))
        self._alone: _Lane | None = None
        """The lane that a request larger than it has to itself."""

    @property
    def waiting(self) -> int:
        """How many requests wait for memory."""
        return sum(len(lane.waiting) for lane in (self._reading, self._few, self._sending))

    def reading(self, owner: str) -> Reservation:
        """For a page of that feed: holds nothing yet."""
        return Reservation(self, self._reading, owner)

    def keeping(self, owner: str) -> Reservation:
        """For rows of that feed that were logged: holds nothing yet. Only to be taken at once."""
        return Reservation(self, self._keeping, owner)

    def sending(self, owner: str, size: int) -> Reservation:
        """For rows of that feed which cost so much: holds nothing yet."""
        few = size <= self._few_at_once and (
            self._few.fits(owner, size) or not self._sending.fits(owner, size)
        )
        return Reservation(self, self._few if few else self._sending, owner)

    @property
    def portion(self) -> int:
        """The highest cost of what is loaded of a batch together."""
        return min(BATCH, self._sending.limit // 8)

    def _try(self, lane: _Lane, owner: str, size: int) -> bool:
        """Grant it, if it is free. The caller knows whether another request was first."""
        if not lane.within_share(owner, size):
            return False
        if lane.held + size > lane.limit:
            if lane.held or self._alone:
                return False
            self._alone = lane
        lane.held += size
        lane.of[owner] += size
        self.held += size
        self.peak = max(self.peak, self.held)
        return True

    def _give_back(self, lane: _Lane, owner: str, size: int) -> None:
        lane.held -= size
        lane.of[owner] -= size
        self.held -= size
        if not lane.of[owner]:
            del lane.of[owner]
        if self._alone is lane and lane.held <= lane.limit:
            self._alone = None
        for each in (self._reading, self._few, self._sending):
            if each.waiting:
                self._grant(each)

    def _grant(self, lane: _Lane) -> None:
        """Grant what is free, in order; an owner that has its share lets others pass, but none of
        its own: else they could keep its share full, and a large request waiting, for ever.
        """
        left: list[_Waiter] = []
        blocked, waits = False, set[str]()
        for waiter in lane.waiting:
            if waiter.granted.done():  # cancelled
                continue
            owner, size = waiter.owner, waiter.size
            if not blocked and owner not in waits and self._try(lane, owner, size):
                waiter.granted.set_result(None)
                continue
            blocked = blocked or (owner not in waits and lane.within_share(owner, size))
            waits.add(owner)
            left.append(waiter)
        lane.waiting = left

    async def _wait(self, lane: _Lane, owner: str, size: int) -> None:
        waiter = _Waiter(owner, size, asyncio.get_running_loop().create_future())
        lane.waiting.append(waiter)
        self._grant(lane)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._give_back(lane, owner, size)
            else:
                self._grant(lane)  # others may have waited behind this one
            raise


class Reservation:
    """One page's or batch's part of the budget. Return it with `release`."""

    def __init__(self, budget: Budget, lane: _Lane, owner: str) -> None:
        self._budget = budget
        self._lane = lane
        self._owner = owner
        self.size = 0
        """What it holds."""
        self.used = 0
        """How much of that was taken."""

    @property
    def portion(self) -> int:
        """See `Room`."""
        return min(PORTION, self._lane.limit // 2)

    async def wait(self, size: int) -> None:
        """Wait for so much, holding nothing meanwhile."""
        self.release()
        await self._budget._wait(self._lane, self._owner, size)  # noqa: SLF001 - one thing in two classes
        self.size = size

    def take(self, size: int) -> bool:
        """Take so much, of what is reserved or more; `False`: it is not free, or other requests
        wait for it.
        """
        more = self.used + size - self.size
        if more > 0:
            if self._lane.waiting or not self._budget._try(self._lane, self._owner, more):  # noqa: SLF001
                return False
            self.size += more
        self.used += size
        return True

    def release(self, size: int | None = None) -> None:
        """Return so much, or all."""
        size = self.size if size is None else min(size, self.size)
        if size:
            self.size -= size
            self.used = min(self.used, self.size)
            self._budget._give_back(self._lane, self._owner, size)  # noqa: SLF001
