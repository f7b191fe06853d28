"""Memory for rows: never above its limit but for one row, in the order in which it was asked for,
without starving.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from app.core.budget import COPIES, PORTION, Budget, Reservation, cost, text_bytes
from app.core.container import memory_limit

LIMIT = 256 * 2**20
READING = LIMIT // 4


async def started(waiting: asyncio.Task[None], budget: Budget, waiters: int) -> None:
    """Until the task waits for memory."""
    for _ in range(1000):
        if budget.waiting >= waiters or waiting.done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never began to wait")


def test_a_row_costs_its_copies_and_a_little() -> None:
    assert cost(1_000_000, 1) >= COPIES * 1_000_000
    assert cost(0, 1000) > 0, "a page of empty rows is no page of nothing"
    assert text_bytes("ä") == 2
    assert text_bytes("\ud800") == 3, "half a surrogate pair, as a source may hold it"


async def test_what_is_held_never_exceeds_the_limit_whatever_is_asked_for() -> None:
    draw = random.Random(7)
    budget = Budget(LIMIT)

    async def one(number: int) -> None:
        owner, size = f"feed{number % 5}", draw.choice([1000, 2**20, PORTION // 2, PORTION])
        hold = budget.reading(owner) if number % 2 else budget.sending(owner, size)
        await hold.wait(size)
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        hold.release()

    await asyncio.gather(*(one(number) for number in range(500)))
    assert budget.held == 0
    assert budget.peak > LIMIT // 2, "nothing was held at once: this showed nothing"
    assert budget.peak <= LIMIT
    assert budget.waiting == 0


async def test_it_is_given_in_the_order_in_which_it_was_asked_for() -> None:
    budget, order = Budget(LIMIT), list[str]()
    first = budget.reading("a")
    assert first.take(READING // 2)
    second = budget.reading("b")
    assert second.take(READING // 2)

    async def ask(owner: str, size: int) -> None:
        hold = budget.reading(owner)
        await hold.wait(size)
        order.append(owner)
        hold.release()

    big = asyncio.create_task(ask("big", READING // 2 + 1000))
    await started(big, budget, 1)
    small = asyncio.create_task(ask("small", 1000))
    await started(small, budget, 2)
    assert not budget.reading("late").take(1000), "one that does not wait went before those that do"
    first.release()
    await asyncio.sleep(0)
    assert order == [], "the small one went before the big one, which may starve of it"
    second.release()
    await asyncio.gather(big, small)
    assert order == ["big", "small"]


async def test_a_feed_that_has_its_share_lets_others_pass() -> None:
    budget = Budget(LIMIT)
    greedy = budget.reading("greedy")
    assert greedy.take(READING // 2)
    more = asyncio.create_task(budget.reading("greedy").wait(1000))
    await started(more, budget, 1)
    other = budget.reading("other")
    await asyncio.wait_for(other.wait(1000), 5)
    assert not more.done()
    greedy.release()
    await asyncio.wait_for(more, 5)


async def test_what_waits_for_a_partner_keeps_no_page_and_no_small_batch_waiting() -> None:
    budget = Budget(LIMIT)
    slow = [budget.sending(f"slow{number}", PORTION) for number in range(4)]
    assert all(hold.take(PORTION) for hold in slow)
    assert not budget.sending("another", PORTION).take(PORTION), "the sending lane was to be full"
    assert budget.reading("another").take(PORTION)
    assert budget.sending("another", cost(50_000, 100)).take(cost(50_000, 100))


async def test_a_row_larger_than_all_of_it_goes_alone_and_one_at_a_time_in_the_process() -> None:
    budget = Budget(8 * 2**20)
    huge = cost(15_000_000)
    row = budget.reading("a")
    await asyncio.wait_for(row.wait(huge), 5)
    other = asyncio.create_task(budget.sending("b", huge).wait(huge))
    await started(other, budget, 1)
    assert not other.done(), "two rows above the budget at once"
    row.release()
    await asyncio.wait_for(other, 5)
    assert budget.peak == huge


async def test_who_stops_waiting_leaves_nothing_behind_and_holds_nobody_up() -> None:
    budget = Budget(LIMIT)
    full = [budget.reading(owner) for owner in "ab"]
    assert all(hold.take(READING // 2) for hold in full)
    given_up = asyncio.create_task(budget.reading("c").wait(READING // 2))
    await started(given_up, budget, 1)
    behind = asyncio.create_task(budget.reading("d").wait(1000))
    await started(behind, budget, 2)
    full[0].release()
    granted_and_cancelled = given_up
    granted_and_cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await asyncio.wait_for(behind, 5)
    assert budget.held == READING // 2 + 1000


async def test_who_holds_some_asks_for_more_without_waiting() -> None:
    budget = Budget(LIMIT)
    page: Reservation = budget.reading("a")
    assert page.take(1000)
    assert page.take(2000)
    assert page.size == 3000
    assert not page.take(READING), "more than there is"
    page.release()
    assert budget.held == 0


def test_the_containers_limit_is_the_least_of_its_group_and_those_above(tmp_path: Path) -> None:
    mounted, groups = tmp_path / "cgroup", tmp_path / "groups"
    inner = mounted / "app" / "worker"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (mounted / "app" / "memory.max").write_text(f"{2**30}\n")
    groups.write_text("0::/app/worker\n")
    assert memory_limit(mounted, groups) == 2**30


def test_the_containers_limit_is_found_in_version_1_too(tmp_path: Path) -> None:
    mounted, groups = tmp_path / "cgroup", tmp_path / "groups"
    (mounted / "memory" / "docker").mkdir(parents=True)
    (mounted / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (mounted / "memory" / "docker" / "memory.limit_in_bytes").write_text(f"{2**29}\n")
    groups.write_text("5:cpu:/docker\n4:memory:/docker\n0::/\n")
    assert memory_limit(mounted, groups) == 2**29


def test_a_machine_without_groups_has_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "none", tmp_path / "none") is None


async def test_a_large_request_is_not_passed_for_ever_by_small_ones_of_its_own_feed() -> None:
    budget, small = Budget(64 * 2**20), 2 * 2**20
    large = budget.sending("a", small).portion * 16  # over half of its lane
    before = budget.sending("a", small)
    assert before.take(small)
    waiting = asyncio.create_task(budget.sending("a", large).wait(large))
    await started(waiting, budget, 1)
    behind = []
    for _ in range(5):  # the feed's next batches, each there before the one before it is answered
        after = budget.sending("a", small)
        behind.append(asyncio.create_task(after.wait(small)))
        await started(behind[-1], budget, 1 + len(behind))
        assert not behind[-1].done()
    before.release()
    await asyncio.wait_for(waiting, 30)
    for each in behind:
        each.cancel()
    await asyncio.gather(*behind, return_exceptions=True)
