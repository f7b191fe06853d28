"""The slots of a process: never more holders than the limit, whatever it changes to, and none is
lost.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.partner.slots import Slots, fair_share


@given(st.integers(1, 1000), st.integers(1, 60))
def test_the_shares_add_up_to_the_cap_and_none_is_nothing(cap: int, processes: int) -> None:
    shares = [fair_share(cap, processes, rank) for rank in range(processes)]
    assert sum(shares) == max(cap, processes)
    assert max(shares) - min(shares) <= 1


async def test_never_more_hold_a_slot_than_the_limit() -> None:
    slots, most = Slots(3), 0

    async def hold() -> None:
        nonlocal most
        async with slots:
            most = max(most, slots.taken)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(hold() for _ in range(20)))
    assert (most, slots.taken) == (3, 0)


async def test_a_smaller_limit_lets_no_one_in_until_enough_have_left() -> None:
    slots, leave = Slots(2), asyncio.Event()
    entered: list[int] = []

    async def hold(number: int) -> None:
        async with slots:
            entered.append(number)
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(hold(number))
        await asyncio.sleep(0)
        slots.resize(1)
        assert entered == [0, 1]
        slots.resize(3)
        await asyncio.sleep(0)
        assert entered == [0, 1, 2]
        leave.set()
    assert entered == [0, 1, 2, 3]


@pytest.mark.parametrize("with_its_turn", [True, False])
async def test_one_who_gives_up_waiting_takes_no_slot_along(with_its_turn: bool) -> None:
    slots = Slots(1)
    async with slots:
        waiting = asyncio.create_task(slots.__aenter__())
        await asyncio.sleep(0)
        if with_its_turn:
            slots.resize(2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        slots.resize(1)
    assert slots.taken == 0
    async with asyncio.timeout(1), slots:
        pass
