"""Operations in bulk: what was frozen is acted on, once, and nothing else, wherever a runner dies; and
a sum at the end that balances.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core.errors import OperationRefused
from app.core.operations import Operation, OperationKind, OperationState, Pace, Phase, Stop
from app.core.states import State
from app.delivery.sweep import Sweeping
from app.ledger import Ledger
from app.ledger.operation_documents import chosen_of, selection_of
from app.ledger.operations import EXPIRES, KEPT
from app.ledger.reasons import normal
from app.ledger.selection import Between, Selection
from app.operations.bulk import Bulk
from app.operations.bulk_request import NewOperation
from app.operations.bulk_run import RunSettings
from app.operations.bulk_runner import OperationRunner
from app.operations.by import By
from app.operations.replay import Replaying
from tests.integration.operations.test_replay import FEED, LEASE, World
from tests.support.doubles import MemoryQueue, Mood, ScriptedPartner, VirtualClock
from tests.support.stateful import LONG
from tests.support.steps import Crashed, Fate, Kind, Steps, stepped_ledger, stepped_queue
from tests.support.wait import until

ADA = By("ada", "the partner mended it")
REPLAY, CANCEL, ACKNOWLEDGE = OperationKind
FAST = Pace("2000/second")
DEAD = Selection((State.DEAD,), feeds=("orders",))
RUN = RunSettings("w", LEASE)


class Office:
    """Operators and runners over one ledger."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.feeds = {"orders": FEED}
        self.bulk = Bulk(world.ledger, lambda: self.feeds, world.replaying, world.clock)
        self.sends = True
        """Whether a worker runs."""
        self.sweeps = False
        """Whether beat has it swept."""
        self._sweeping = Sweeping(
            world.ledger, world.queue, self.feeds, lease=LEASE, limit=100, now=world.clock
        )

    def runner(self, steps: Steps | None = None, **changes: Any) -> OperationRunner:
        steps = steps or Steps(Fate())
        ledger, queue = (
            stepped_ledger(self.world.ledger, steps),
            stepped_queue(self.world.queue, steps),
        )

        def replaying() -> Replaying:
            return Replaying(
                ledger, queue, self.feeds, message_wait=LEASE, now=self.world.clock, sleep=_at_once
            )

        return OperationRunner(
            ledger,
            lambda: self.feeds,
            replaying,
            replace(RUN, **changes),
            now=self.world.clock,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        """Time passes, and a worker sends what is queued."""
        self.world.clock.advance(timedelta(seconds=seconds))
        if self.sweeps:
            await self._sweeping.requeue()
        while self.sends and self.world.queue.messages:
            await self.world.deliver(self.world.queue.messages.pop(0)[1])
        await asyncio.sleep(0)

    async def create(
        self,
        selection: Selection = DEAD,
        pace: Pace = FAST,
        kind: OperationKind = REPLAY,
        id: str = "operation-1",  # noqa: A002
    ) -> Operation:
        self.world.clock.advance(timedelta(seconds=1))
        return await self.bulk.create(NewOperation(id, kind, selection, pace), ADA)

    async def frozen(self, *args: Any, **named: Any) -> Operation:
        made = await self.create(*args, **named)
        await self.runner().work_off()
        return await self.bulk.get(made.id)

    async def run(self, *args: Any, **named: Any) -> Operation:
        """Make one, start it, and work on it until it stands still."""
        made = await self.frozen(*args, **named)
        await self.bulk.start(made.id, ADA)
        return await self.go_on(made.id)

    async def go_on(self, operation_id: str = "operation-1") -> Operation:
        await self.runner().work_off()
        return await self.bulk.get(operation_id)

    async def resumed(self, operation_id: str = "operation-1") -> Operation:
        self.world.clock.advance(timedelta(seconds=1))
        await self.bulk.resume(operation_id, ADA)
        return await self.go_on(operation_id)

    async def replays(self, keys: Sequence[str]) -> list[int]:
        return [(await self.world.get(key)).get("replay_count", 0) for key in keys]


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def office(mongo_database_url: str) -> AsyncIterator[Office]:
    ledger = Ledger.at(mongo_database_url, timedelta(seconds=5))
    clock = VirtualClock()
    yield Office(World(ledger, clock, MemoryQueue(), ScriptedPartner(clock)))
    await ledger.close()


def keys(count: int) -> list[str]:
    return [f"{number:03}" for number in range(count)]


# --- frozen


async def test_the_set_is_frozen_and_only_it_is_acted_on(office: Office) -> None:
    await office.world.fail(*keys(5))
    frozen = await office.frozen()
    assert (frozen.state, frozen.size) == (OperationState.FROZEN, 5)
    await office.world.fail("later")
    await office.bulk.start(frozen.id, ADA)
    done = await office.go_on()
    assert (done.state, done.moved, done.skipped) == (OperationState.DONE, 5, {})
    assert done.closing
    assert done.closing.balances
    assert (done.closing.outcomes, done.closing.others) == ({"moved": 5}, 0)
    assert done.closing.states == {"delivered": 5}
    assert await office.replays([*keys(5), "later"]) == [1, 1, 1, 1, 1, 0]
    assert [one.what for one in done.history] == ["created", "frozen", "started", "done"]
    replay = (await office.world.get("000"))["replays"][0]
    assert (replay["by"], replay["operation"]) == ("ada", "operation-1/1")


async def test_what_moved_on_since_it_was_frozen_is_left_and_told(office: Office) -> None:
    await office.world.fail(*keys(5))
    frozen = await office.frozen()
    await office.world.change("000", state="cancelled")
    await office.world.change("001", finished_at=office.world.clock())
    await office.world.change("002", acknowledged={"at": office.world.clock(), "by": "bob"})
    await office.world.ledger._database["deliveries"].delete_one({"_id": "orders:003"})
    await office.bulk.start(frozen.id, ADA)
    done = await office.go_on()
    assert done.closing
    assert done.closing.outcomes == {
        "moved": 1,
        "cancelled by then": 1,
        "changed meanwhile": 1,
        "acknowledged": 1,
        "not in the ledger": 1,
    }
    assert done.closing.balances


async def test_nothing_moves_before_an_operator_starts_it(office: Office) -> None:
    await office.world.fail("1")
    await office.frozen()
    await office.go_on()
    assert await office.world.states("1") == ["dead"]


async def test_the_same_one_made_twice_is_one(office: Office) -> None:
    await office.world.fail(*keys(3))
    first = await office.run()
    assert (await office.create()).id == first.id
    with pytest.raises(OperationRefused, match="another operation"):
        await office.create(pace=Pace("1/second"))
    assert len(await office.world.ledger.operations.page(10)) == 1


@pytest.mark.parametrize(
    ("selection", "kind", "pace", "field"),
    [
        (Selection((State.DEAD,)), REPLAY, FAST, "filter"),
        (Selection(()), REPLAY, FAST, "filter"),
        (Selection((), feeds=("orders", "other")), REPLAY, FAST, "feed"),
        (Selection((), reason="x"), REPLAY, FAST, "feed"),
        (Selection((State.QUEUED,), feeds=("orders",)), REPLAY, FAST, "states"),
        (Selection((State.DEAD,), feeds=("orders",)), CANCEL, FAST, "states"),
        (replace(DEAD, status=777), REPLAY, FAST, "filter"),
        (DEAD, REPLAY, Pace("soon"), "rate"),
        (DEAD, REPLAY, Pace("20000/second"), "rate"),
        (DEAD, REPLAY, Pace("1/second", canary=5), "stop_ratio"),
        (DEAD, REPLAY, Pace("1/second", stop_ratio=2), "stop_ratio"),
        (DEAD, ACKNOWLEDGE, Pace("1/second", canary=5, stop_ratio=0.1), "canary"),
    ],
)
async def test_what_cannot_be_an_operation_is_refused(
    office: Office, selection: Selection, kind: OperationKind, pace: Pace, field: str
) -> None:
    await office.world.fail("1")
    with pytest.raises(OperationRefused) as refused:
        await office.create(selection, pace, kind)
    assert refused.value.field == field
    assert not await office.world.ledger.operations.page(1)


async def test_a_set_that_would_be_too_large_is_abandoned_and_says_so(office: Office) -> None:
    await office.world.fail(*keys(3))
    made = await office.create()
    await office.runner(largest=2).work_off()
    found = await office.bulk.get(made.id)
    assert found.state is OperationState.ABANDONED
    assert found.history[-1].why == "more than 2 are selected: narrow the filter"


async def test_one_at_a_time_a_feed(office: Office) -> None:
    await office.world.fail(*keys(3))
    first, second = await office.frozen(), await office.frozen(id="operation-2")
    await office.bulk.start(first.id, ADA)
    with pytest.raises(OperationRefused, match="operation-1 of feed orders is running"):
        await office.bulk.start(second.id, ADA)
    await office.go_on()
    await office.bulk.start(second.id, ADA)
    done = await office.go_on(second.id)
    assert done.skipped == {"delivered by then": 3}


async def test_two_that_are_started_at_once_are_one(office: Office) -> None:
    await office.world.fail(*keys(3))
    made = [await office.frozen(), await office.frozen(id="operation-2")]
    started = await asyncio.gather(
        *(office.bulk.start(one.id, ADA) for one in made), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in started) == ["Operation", "OperationRefused"]


# --- canary, failures, pause


async def test_a_canary_that_fails_stops_it_and_once_mended_all_are_delivered(
    office: Office,
) -> None:
    await office.world.fail(*keys(50))
    await office.world.fail("other")
    office.world.partner.moods = [Mood.REFUSES]
    chosen = replace(DEAD, ids=tuple(f"orders:{key}" for key in keys(50)))
    stopped = await office.run(chosen, Pace("1000/second", canary=10, stop_ratio=0.2))
    assert (stopped.state, stopped.phase, stopped.moved) == (
        OperationState.PAUSED,
        Phase.CANARY,
        10,
    )
    assert stopped.paused
    assert stopped.paused.by is Stop.FAILURES
    assert stopped.paused.because == "10 of 10 of the canary failed (10 dead), and at most 20% may"
    assert await office.replays(keys(50)) == [1] * 10 + [0] * 40
    office.world.partner.moods = [Mood.ACCEPTS]
    await office.world.ledger.pauses.resume("orders")  # so many refusals in a row had paused it
    done = await office.resumed()
    assert done.state is OperationState.DONE
    assert done.closing
    assert (done.closing.outcomes, done.closing.others) == ({"moved": 50}, 0)
    assert done.closing.states == {"delivered": 50}
    assert await office.replays([*keys(50), "other"]) == [2] * 10 + [1] * 40 + [0]


async def test_failures_stop_it_later_too_and_what_went_well_is_not_sent_again(
    office: Office,
) -> None:
    await office.world.fail(*keys(100))
    office.world.partner.moods = [Mood.ACCEPTS] * 40 + [Mood.REFUSES] * 40
    stopped = await office.run(pace=Pace("20/second", canary=10, stop_ratio=0.1))
    assert (stopped.state, stopped.phase) == (OperationState.PAUSED, Phase.REST)
    assert stopped.paused
    assert stopped.paused.by is Stop.FAILURES
    assert stopped.moved == 50, "it stopped as soon as it could tell"
    await office.world.ledger.pauses.resume("orders")
    office.world.partner.moods = [Mood.ACCEPTS]
    done = await office.resumed()
    assert done.closing
    assert done.closing.states == {"delivered": 100}
    failed = stopped.moved - 40
    assert (await office.replays(keys(100))).count(2) == failed
    assert office.world.partner.requests == 100 + failed


async def test_a_canary_that_nobody_sends_stops_it(office: Office) -> None:
    await office.world.fail(*keys(5))
    office.sends = False
    stopped = await office.run(pace=Pace("10/second", canary=2, stop_ratio=0.5))
    assert stopped.paused
    assert stopped.paused.by is Stop.OBSTACLE
    assert "is a worker running?" in stopped.paused.because
    office.sends = True
    assert (await office.resumed()).moved == 5


async def test_it_stands_still_while_its_feed_is_paused_and_skips_nothing_for_that(
    office: Office,
) -> None:
    await office.world.fail(*keys(5))
    await office.world.ledger.pauses.pause("orders", "401 of the partner")
    stopped = await office.run()
    assert stopped.paused
    assert "401 of the partner" in stopped.paused.because
    assert stopped.gone_through == 0
    await office.world.ledger.pauses.resume("orders")
    assert (await office.resumed()).moved == 5


async def test_an_operator_pauses_and_resumes_it_and_it_goes_on_where_it_was(
    office: Office,
) -> None:
    await office.world.fail(*keys(40))
    frozen = await office.frozen(pace=Pace("20/second"))
    await office.bulk.start(frozen.id, ADA)
    slept = 0

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        await Office.sleep(office, seconds)
        if slept == 2:
            asked = await office.bulk.pause(frozen.id, By("bob", "lunch"))
            assert asked.asked

    office.sleep = sleep  # type: ignore[method-assign]
    paused = await office.go_on()
    assert (paused.state, paused.moved) == (OperationState.PAUSED, 20)
    assert [(one.by, one.what, one.why) for one in paused.history[-2:-1]] == [
        ("bob", "pause asked", "lunch")
    ]
    with pytest.raises(OperationRefused, match="changed meanwhile"):
        await office.bulk.resume(frozen.id, ADA, version=1)
    done = await office.resumed()
    assert (done.state, done.moved) == (OperationState.DONE, 40)
    assert await office.replays(keys(40)) == [1] * 40


async def test_while_it_waits_for_room_it_can_be_abandoned(office: Office) -> None:
    await office.world.fail(*keys(40))
    office.sends = False
    frozen = await office.frozen(pace=Pace("4/second"))
    await office.bulk.start(frozen.id, ADA)
    working = asyncio.create_task(office.runner().work_off())

    async def waits_for_a_worker() -> bool:
        return "is a worker running?" in (await office.bulk.get(frozen.id)).waiting

    await until(waits_for_a_worker, message="it to wait for a worker")
    await office.bulk.abandon(frozen.id, ADA)
    await working
    ended = await office.bulk.get(frozen.id)
    assert ended.state is OperationState.ABANDONED
    assert ended.closing
    assert ended.closing.balances
    moved = ended.closing.outcomes["moved"]
    assert 0 < moved < 40
    assert ended.closing.unreached == 40 - moved
    assert sum(await office.replays(keys(40))) == moved


async def test_of_reasons_of_a_kind_no_other_is_in_the_set(office: Office) -> None:
    await office.world.fail("1", reason="422 order 1701 is closed")
    await office.world.fail("2", reason="422 order 1801 is closed")
    await office.world.fail("3", reason="422 order 1801 is closed, and late")
    kind = normal("422 order 1701 is closed")
    frozen = await office.frozen(replace(DEAD, reason_kind=kind))
    assert frozen.size == 2


@pytest.mark.parametrize("state", list(OperationState))
async def test_every_state_has_an_exit_or_is_the_end(office: Office, state: OperationState) -> None:
    await office.world.fail("1")
    made = await office.create()
    if state is not OperationState.FREEZING:
        await office.runner().work_off()
    if state in (OperationState.RUNNING, OperationState.PAUSED, OperationState.DONE):
        await office.bulk.start(made.id, ADA)
    if state is OperationState.PAUSED:
        await office.bulk.pause(made.id, ADA)
    if state in (OperationState.PAUSED, OperationState.DONE):
        await office.go_on()
    if state is OperationState.ABANDONED:
        await office.bulk.abandon(made.id, ADA)
    assert (await office.bulk.get(made.id)).state is state
    if state in (OperationState.DONE, OperationState.ABANDONED):
        office.world.clock.advance(KEPT * 2)
        await office.bulk.tidy()
        assert not await office.world.ledger.operations.page(1)
        assert not await office.world.ledger._database["operation_deliveries"].count_documents({})
        return
    await office.bulk.abandon(made.id, ADA)
    assert (await office.go_on()).state is OperationState.ABANDONED


async def test_a_set_that_nobody_starts_is_abandoned_in_time(office: Office) -> None:
    await office.world.fail("1")
    await office.frozen()
    await office.bulk.tidy()
    assert (await office.bulk.get("operation-1")).state is OperationState.FROZEN
    office.world.clock.advance(EXPIRES * 2)
    await office.bulk.tidy()
    assert (await office.bulk.get("operation-1")).state is OperationState.ABANDONED


# --- cancel, acknowledge


async def test_cancel_and_acknowledge_act_on_the_set_alone(office: Office) -> None:
    await office.world.log(*keys(3))
    await office.world.fail("d1", "d2")
    cancel = await office.frozen(Selection((), feeds=("orders",)), kind=CANCEL)
    await office.world.log("later")
    await office.bulk.start(cancel.id, ADA)
    done = await office.go_on()
    assert done.closing
    assert (done.closing.outcomes, done.closing.others) == ({"moved": 3}, 0)
    assert await office.world.states([*keys(3), "later"]) == ["cancelled"] * 3 + ["queued"]
    done = await office.run(DEAD, kind=ACKNOWLEDGE, id="operation-2")
    assert done.closing
    assert (done.closing.outcomes, done.closing.others) == ({"moved": 2}, 0)
    assert (await office.world.get("d1"))["acknowledged"]["why"] == "the partner mended it"


async def test_a_mark_outside_of_the_set_is_found(office: Office) -> None:
    await office.world.fail("1", "2")
    chosen = replace(DEAD, ids=("orders:1",))
    frozen = await office.frozen(chosen)
    await office.bulk.start(frozen.id, ADA)
    await office.world.change(
        "2", replays=[{"operation": "operation-1/1"}], finished_at=office.world.clock()
    )
    done = await office.go_on()
    assert done.closing
    assert done.closing.others == 1
    assert not done.closing.balances


# --- killed


@pytest.mark.parametrize("step", range(1, 40, 1 if LONG else 3))
async def test_wherever_a_runner_dies_another_goes_on_and_each_moves_once(
    office: Office, step: int
) -> None:
    await office.world.fail(*keys(6))
    office.sweeps = True
    pace = Pace("6/second", canary=2, stop_ratio=0.5)
    dying = office.runner(Steps(Fate(Kind.CRASH, step, after=True)))
    await office.create(pace=pace)
    with suppress(Crashed):
        await dying.work_off()
    office.world.clock.advance(2 * LEASE)
    frozen = await office.go_on()
    assert (frozen.state, frozen.size) == (OperationState.FROZEN, 6)
    await office.bulk.start(frozen.id, ADA)
    with suppress(Crashed):
        await dying.work_off()
    office.world.clock.advance(2 * LEASE)
    done = await office.go_on()
    assert done.state is OperationState.DONE
    assert done.closing
    assert (done.closing.outcomes, done.closing.others) == ({"moved": 6}, 0)
    assert done.closing.balances
    assert await office.replays(keys(6)) == [1] * 6
    await office.world.run_until_quiet()
    assert await office.world.states(keys(6)) == ["delivered"] * 6


@pytest.mark.parametrize("step", range(4, 24, 4))
async def test_abandoned_after_a_runner_died_its_sum_counts_what_had_moved(
    office: Office, step: int
) -> None:
    await office.world.fail(*keys(6))
    frozen = await office.frozen(pace=Pace("6/second"))
    await office.bulk.start(frozen.id, ADA)
    with suppress(Crashed):
        await office.runner(Steps(Fate(Kind.CRASH, step))).work_off()
    with suppress(OperationRefused):
        await office.bulk.abandon(frozen.id, ADA)
    office.world.clock.advance(2 * LEASE)
    ended = await office.go_on()
    assert ended.closing
    assert ended.closing.balances
    assert ended.closing.outcomes.get("moved", 0) == sum(await office.replays(keys(6)))


async def test_two_runners_at_once_move_each_once(office: Office) -> None:
    await office.world.fail(*keys(20))
    frozen = await office.frozen(pace=Pace("10/second"))
    await office.bulk.start(frozen.id, ADA)
    await asyncio.gather(*(office.runner().work_off() for _ in range(3)))
    done = await office.bulk.get(frozen.id)
    assert (done.state, done.moved) == (OperationState.DONE, 20)
    assert await office.replays(keys(20)) == [1] * 20


async def test_chosen_by_text_only_what_was_previewed_is_in_the_set(office: Office) -> None:
    await office.world.fail("1", "2", reason="422 no such currency")
    await office.world.fail("3", "4", "5", reason="422 order is closed")
    chosen = replace(DEAD, text="currency")
    previewed = await office.bulk.preview(REPLAY, chosen)
    assert previewed.count
    assert previewed.count.number == 2
    frozen = await office.frozen(chosen)
    assert (frozen.state, frozen.size) == (OperationState.FROZEN, 2)
    await office.bulk.start(frozen.id, ADA)
    await office.go_on()
    assert await office.replays(["1", "2", "3", "4", "5"]) == [1, 1, 0, 0, 0]


async def test_the_same_id_with_another_text_is_another_operation(office: Office) -> None:
    await office.world.fail("1", reason="422 no such currency")
    await office.world.fail("2", reason="422 order is closed")
    await office.create(replace(DEAD, text="currency"))
    with pytest.raises(OperationRefused, match="another operation"):
        await office.create(replace(DEAD, text="closed"))


def test_a_stored_selection_is_the_one_that_was_chosen() -> None:
    moment = datetime(2026, 8, 1, tzinfo=UTC)
    whole = Selection(
        (State.DEAD,), ids=("a:1",), feeds=("a",), since=moment, until=moment, reason="r", text="t",
        reason_kind="k", status=500, without_status=True, attempts=Between(1, 2), key_pattern="p",
    )  # fmt: skip
    unset = [one.name for one in fields(Selection) if getattr(whole, one.name) in (None, ())]
    assert not unset, "a new field belongs in this test"
    assert selection_of(chosen_of(whole)) == whole


async def test_resumed_after_later_failures_the_canary_is_of_what_is_sent_then(
    office: Office,
) -> None:
    await office.world.fail(*keys(100))
    office.world.partner.moods = [Mood.ACCEPTS] * 40 + [Mood.REFUSES] * 40
    stopped = await office.run(pace=Pace("20/second", canary=5, stop_ratio=0.1))
    assert stopped.paused
    assert (stopped.paused.by, stopped.phase) == (Stop.FAILURES, Phase.REST)
    before = office.world.partner.requests
    office.world.partner.moods = [Mood.REFUSES]  # it is not mended
    await office.world.ledger.pauses.resume("orders")
    again = await office.resumed()
    assert again.state is OperationState.PAUSED
    assert again.phase is Phase.CANARY, (again.phase, again.paused, [h.what for h in again.history])
    assert office.world.partner.requests - before == 5
