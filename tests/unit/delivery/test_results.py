"""Results in groups: none is lost, none waits for longer than a group may, and an end is an end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from app.core.attempts import Answer, Outcome, Result, Verdict
from app.core.deliveries import Delivery
from app.delivery.work import Results

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LONG, SHORT = timedelta(minutes=1), timedelta(milliseconds=1)


def result(number: int) -> Result:
    delivery = Delivery(f"orders:{number}", "orders", str(number), "{}", NOW)
    return Result(delivery, Answer(NOW, 1, 200), Verdict(Outcome.DELIVERED, "200"))


def numbers(group: list[Result]) -> list[int]:
    return [int(one.delivery.key) for one in group]


async def test_a_full_group_waits_for_nothing_and_what_came_meanwhile_is_the_next() -> None:
    results = Results()
    for number in range(5):
        results.put(result(number))
    assert [numbers((await results.group(2, LONG))[0]) for _ in range(2)] == [[0, 1], [2, 3]]
    assert (numbers((await results.group(2, SHORT))[0])) == [4], "no longer than a group may wait"


async def test_a_group_that_is_waited_for_comes_when_it_is_full() -> None:
    results = Results()
    waiting = asyncio.create_task(results.group(3, LONG))
    for number in range(3):
        await asyncio.sleep(0)
        assert not waiting.done()
        results.put(result(number))
    assert (await waiting)[0] == [result(0), result(1), result(2)]


async def test_the_end_hands_over_what_is_left() -> None:
    results = Results()
    waiting = asyncio.create_task(results.group(2, LONG))
    await asyncio.sleep(0)
    for number in range(3):
        results.put(result(number))
    results.end()
    (first, ended), (last, over) = await waiting, await results.group(2, LONG)
    assert (numbers(first), ended, numbers(last), over) == ([0, 1], False, [2], True)


async def test_the_end_without_results_ends_the_wait() -> None:
    results = Results()
    waiting = asyncio.create_task(results.group(2, LONG))
    await asyncio.sleep(0)
    results.end()
    assert await waiting == ([], True)
