"""What is exported is read at a bounded cost, and what cannot be read is absent, not old."""

from __future__ import annotations

import asyncio

import pytest

from app.core.errors import LedgerUnavailable
from app.monitoring.metrics.reading import Reading, refresh_all


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Ledger:
    """Something that takes its time to count."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.takes = 0.0
        self.away = False
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def count(self) -> int:
        self.asked += 1
        await self.gate.wait()
        self.clock.seconds += self.takes
        if self.away:
            raise LedgerUnavailable("ledger: away")
        return self.asked


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(clock: Clock) -> Ledger:
    return Ledger(clock)


def reading(ledger: Ledger) -> Reading[int]:
    return Reading("open", ledger.count, every=5.0, share=0.01, clock=ledger.clock)


async def test_it_is_read_once_in_a_while_however_often_it_is_asked_for(
    clock: Clock, ledger: Ledger
) -> None:
    counting = reading(ledger)
    for _ in range(10):
        await refresh_all([counting], patience=1)
        clock.seconds += 0.4
    assert (ledger.asked, counting.value) == (1, 1)
    clock.seconds += 1.0
    await refresh_all([counting], patience=1)
    assert counting.value == 2


async def test_the_longer_it_takes_the_more_rarely_it_is_read(clock: Clock, ledger: Ledger) -> None:
    ledger.takes = 2.0
    counting = reading(ledger)
    await refresh_all([counting], patience=1)
    clock.seconds += 197.9
    await refresh_all([counting], patience=1)
    assert ledger.asked == 1
    assert counting.age == pytest.approx(199.9)
    clock.seconds += 0.2
    await refresh_all([counting], patience=1)
    assert ledger.asked == 2


async def test_many_scrapes_share_one_reading_and_a_slow_one_comes_later(ledger: Ledger) -> None:
    ledger.gate.clear()
    counting = reading(ledger)
    await asyncio.gather(*(refresh_all([counting], patience=0.01) for _ in range(5)))
    assert (ledger.asked, counting.value) == (1, None)
    ledger.gate.set()
    await refresh_all([counting], patience=1)
    assert (ledger.asked, counting.value) == (1, 1)


async def test_what_could_not_be_read_is_absent_and_read_again(
    clock: Clock, ledger: Ledger
) -> None:
    counting = reading(ledger)
    await refresh_all([counting], patience=1)
    clock.seconds += 5
    ledger.away = True
    await refresh_all([counting], patience=1)
    assert (counting.value, counting.age, str(counting.failed)) == (None, None, "ledger: away")
    clock.seconds += 5
    ledger.away = False
    await refresh_all([counting], patience=1)
    assert (counting.value, counting.failed) == (3, None)
    await counting.close()
