"""A snapshot is read by one for many, kept for as long as it says, and read anew after a change."""

from __future__ import annotations

import asyncio

import pytest

from app.console.snapshot import Snapshot
from app.core.errors import LedgerUnavailable


class Reading:
    """Answers with how often it was asked, once it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = asyncio.Event()
        self.may.set()
        self._came = asyncio.Condition()

    async def times(self, count: int) -> None:
        """Wait until it was asked so often."""
        async with self._came:
            await self._came.wait_for(lambda: self.asked >= count)

    async def __call__(self) -> int:
        self.asked += 1
        asked = self.asked
        async with self._came:
            self._came.notify_all()
        await self.may.wait()
        return asked


async def test_many_who_ask_at_once_and_soon_after_are_answered_by_one_reading() -> None:
    reading = Reading()
    snapshot = Snapshot(reading, fresh_seconds=60)
    assert await asyncio.gather(*(snapshot.get() for _ in range(20))) == [1] * 20
    assert await snapshot.get() == 1


async def test_what_is_old_is_read_anew() -> None:
    snapshot = Snapshot(Reading(), fresh_seconds=0)
    first = await snapshot.get()
    await asyncio.sleep(0.05)
    assert await snapshot.get() > first


async def test_what_takes_long_to_read_is_read_less_often() -> None:
    reading = Reading()

    async def slow() -> int:
        await asyncio.sleep(0.2)
        return await reading()

    snapshot = Snapshot(slow, fresh_seconds=0)
    await snapshot.get()
    await asyncio.sleep(0.1)
    assert await snapshot.get() == 1, "1.8 s may pass before it is read again"


async def test_after_a_change_a_reading_under_way_answers_nobody_new() -> None:
    reading = Reading()
    reading.may.clear()
    snapshot = Snapshot(reading, fresh_seconds=60)
    before = asyncio.create_task(snapshot.get())
    await reading.times(1)
    snapshot.forget()
    after = asyncio.create_task(snapshot.get())
    await reading.times(2)
    reading.may.set()
    assert (await before, await after) == (1, 2)


async def test_who_leaves_does_not_stop_the_reading_of_others_and_an_error_is_told_to_all() -> None:
    reading = Reading()
    reading.may.clear()

    async def failing() -> int:
        await reading()
        raise LedgerUnavailable("away")

    snapshot = Snapshot(failing, fresh_seconds=60)
    gone = asyncio.create_task(snapshot.get())
    stays = asyncio.create_task(snapshot.get())
    await reading.times(1)
    gone.cancel()
    await asyncio.sleep(0)
    reading.may.set()
    with pytest.raises(LedgerUnavailable, match="away"):
        await stays
    with pytest.raises(LedgerUnavailable):
        await snapshot.get()
    assert reading.asked == 1
