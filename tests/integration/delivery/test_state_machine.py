"""The promises, held at random: polls, deliveries and sweeps over a real ledger, each of which may
die, freeze or lose the other side between any two of its steps, while the queue loses messages and
the partner has its moods.

`ROWRELAY_EXAMPLES=2000` makes it a long run, with new examples each time; a failure is then reduced
to a short one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from app.broker.queue import SiftedQueue
from app.core.batches import NewBatch
from app.core.cursors import Cursor
from app.core.errors import RowrelayError
from app.core.rows import LoggedRows
from app.core.states import OPEN_STATES, State
from app.delivery.deliver import Delivering
from app.delivery.sweep import Sweeping
from app.delivery.work import DeliverySettings
from app.feeds.feed import Rate
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.operations.replay import Replaying
from tests.support.doubles import MemoryQueue, MemorySource, Mood, ScriptedPartner, VirtualClock
from tests.support.feeds import make_feed
from tests.support.stateful import LONG, run_at_random
from tests.support.steps import (
    Crashed,
    Fate,
    Kind,
    Steps,
    stepped_ledger,
    stepped_partner,
    stepped_queue,
    stepped_source,
)
from tests.support.witness import Process, Step, Witness

COLLECTIONS = ("attempts", "batches", "cursors", "deliveries", "stats")
EXAMPLES = 12
LEASE = timedelta(minutes=1)
STEPS = 50
ROUNDS = 80
FEED = make_feed(page_size=4, batch_size=3, max_backlog=9, concurrency=1)
"""One request at a time: a batch can stop half-way."""

REPLAYABLE = (State.DEAD, State.CANCELLED, State.DELIVERED)

fates = st.one_of(
    st.just(Fate()),
    *(
        st.builds(Fate, st.just(kind), st.integers(1, 12), st.booleans())
        for kind in (Kind.CRASH, Kind.FREEZE, Kind.OUTAGE)
    ),
)
moods = st.lists(st.sampled_from(Mood), min_size=1, max_size=3)
waits = st.sampled_from([timedelta(0), timedelta(seconds=1), LEASE, LEASE, timedelta(minutes=7)])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole ledger at one moment, by id."""

    deliveries: dict[str, Document]
    batches: dict[str, Document]
    attempts: dict[str, Document]
    cursor: Cursor

    def attempts_of(self, delivery_id: str) -> list[Document]:
        return [
            found for key, found in self.attempts.items() if key.rpartition("#")[0] == delivery_id
        ]


class Relay(RuleBasedStateMachine):
    """Rules are what can happen; invariants are what is promised all the same."""

    def __init__(self, runner: asyncio.Runner, ledger: Ledger) -> None:
        super().__init__()
        self.runner, self.ledger = runner, ledger
        self.clock = VirtualClock()
        self.source, self.queue, self.partner = (
            MemorySource(),
            MemoryQueue(),
            ScriptedPartner(self.clock),
        )
        self.frozen: list[tuple[Process, asyncio.Future[Any]]] = []
        self.witness = Witness(self.clock)
        self.kept: list[tuple[NewBatch, LoggedRows]] = []
        """What workers took up as they logged it, and have yet to claim."""
        self.off: set[str] = set()
        """Cancelled before anybody claimed their batch."""
        self.paused = False
        self.orphans_are_possible = False
        self.broken = False

    @initialize(rows=st.sampled_from([9, 5, 2, 0]), takes=st.booleans())
    def begin(self, rows: int, takes: bool) -> None:
        self.runner.run(_emptied(self.ledger))
        if rows:
            self.source.add(rows)
            self.poll(Fate(), takes)

    # --- the source

    @rule(
        count=st.integers(1, 5),
        late=st.integers(0, 2),
        unreadable=st.sampled_from([False, False, True]),
        fate=fates,
        takes=st.booleans(),
    )
    def rows_arrive_and_are_polled(
        self, count: int, late: int, unreadable: bool, fate: Fate, takes: bool
    ) -> None:
        """The ids in front of the rows that are there belong to transactions that have not ended
        yet.
        """
        self.source.begin(late)
        ids = self.source.add(count)
        if unreadable:
            self.source.unreadable.add(ids[0])
        self.poll(fate, takes)

    @precondition(lambda self: self.source.open)
    @rule(pick=st.integers(0, 9), commits=st.booleans())
    def end_a_late_transaction(self, pick: int, commits: bool) -> None:
        row_id = self.source.open[pick % len(self.source.open)]
        if commits:
            self.source.commit([row_id])
        else:
            self.source.open.remove(row_id)

    # --- the use cases

    @rule(fate=fates, takes=st.booleans())
    def poll(self, fate: Fate, takes: bool = False) -> None:
        self._start(fate, partial(self._poll, takes=takes))

    @precondition(lambda self: self.kept)
    @rule(fate=fates, pick=st.integers(0, 9), cancels=st.booleans())
    def deliver_what_was_taken_up(self, fate: Fate, pick: int, cancels: bool) -> None:
        """However late: an operator, or another worker, may have come first."""
        batch, logged = self.kept.pop(pick % len(self.kept))
        if cancels:
            self.operator_cancels(Fate(), {int(logged.rows[0].key)})
        self._start(fate, partial(self._deliver_kept, batch, logged))

    @rule(fates=st.lists(fates, min_size=1, max_size=3), after=waits)
    def workers_take_what_is_due(self, fates: list[Fate], after: timedelta) -> None:
        self.sweep(Fate(), after)
        self.deliver(fates)

    @rule(fates=st.lists(fates, min_size=1, max_size=3))
    def deliver(self, fates: list[Fate]) -> None:
        for fate, (_, batch_id) in zip(fates, self.queue.messages[:], strict=False):
            del self.queue.messages[0]
            self._start(fate, partial(self._deliver, batch_id))

    @precondition(lambda self: self.queue.messages)
    @rule(fate=fates, pick=st.integers(0, 9), duplicated=st.booleans())
    def deliver_out_of_order(self, fate: Fate, pick: int, duplicated: bool) -> None:
        place = pick % len(self.queue.messages)
        _, batch_id = self.queue.messages[place] if duplicated else self.queue.messages.pop(place)
        self._start(fate, partial(self._deliver, batch_id))

    @rule(fate=fates, after=waits)
    def sweep(self, fate: Fate, after: timedelta) -> None:
        self.clock.advance(after)
        self._start(fate, lambda process: self._sweeping(process).sweep())

    @rule(fate=fates, after=waits)
    def adopt_orphans(self, fate: Fate, after: timedelta) -> None:
        self.clock.advance(after)
        self._start(fate, lambda process: self._sweeping(process).adopt_orphans())

    @rule(
        step=st.integers(2, 9),
        after=st.booleans(),
        fates=st.lists(fates, min_size=1, max_size=2),
        moods=moods,
    )
    def a_slow_worker_is_overtaken(
        self, step: int, after: bool, fates: list[Fate], moods: list[Mood]
    ) -> None:
        """It stands still for longer than its lease; others take over, meet a partner of another
        mood; it goes on.
        """
        self.sweep(Fate(), LEASE)
        others = len(self.frozen)
        self.deliver([Fate(Kind.FREEZE, step, after)])
        self.partner.moods = moods
        self.sweep(Fate(), LEASE)
        self.deliver(fates)
        if len(self.frozen) > others:
            self._thaw(others, dead=False)

    @precondition(lambda self: self.frozen)
    @rule(pick=st.integers(0, 9), dead=st.booleans())
    def thaw(self, pick: int, dead: bool) -> None:
        self._thaw(pick % len(self.frozen), dead=dead)

    # --- what surrounds them

    @rule(takes=st.sampled_from([None, None, None, 0, 1]))
    def broker_is_restarted_empty(self, takes: int | None) -> None:
        self.queue.messages.clear()
        self.queue.takes = takes

    @rule(moods=moods)
    def partner_changes(self, moods: list[Mood]) -> None:
        self.partner.moods = moods

    @precondition(lambda self: self.paused)
    @rule()
    def operator_resumes(self) -> None:
        self.runner.run(self.ledger.pauses.resume(FEED.name))

    @rule(fate=fates, state=st.sampled_from(REPLAYABLE))
    def operator_replays(self, fate: Fate, state: State) -> None:
        self._start(fate, partial(self._replay, Selection((state,), feeds=(FEED.name,))))

    @rule(fate=fates, rows=st.sets(st.integers(1, 12), min_size=1, max_size=4))
    def operator_cancels(self, fate: Fate, rows: set[int]) -> None:
        selection = Selection(OPEN_STATES, ids=tuple(f"{FEED.name}:{row}" for row in sorted(rows)))
        self._start(
            fate,
            lambda process: Cancelling(self._ledger(process), self.clock).cancel(
                selection, By("operator")
            ),
        )
        if not self.frozen:
            self.off |= self._off(self.runner.run(self._snapshot()), rows)

    def _off(self, now: Snapshot, rows: set[int]) -> set[str]:
        """Which of these are cancelled and were never sent, nor are they with a worker that may
        send them.
        """
        named = {f"{FEED.name}:{row}" for row in rows}
        return {
            one
            for one in named & now.deliveries.keys() - self.partner.payloads.keys()
            if now.deliveries[one]["state"] == State.CANCELLED
            and "batch" not in now.deliveries[one]
        }

    # --- what is promised

    @invariant()
    def promises_hold(self) -> None:
        now = self.runner.run(self._snapshot())
        self.paused = now.cursor.paused
        try:
            self._rows_behind_the_cursor_are_logged(now)
            self._delivered_is_a_fact(now)
            self._requests_are_of_logged_rows(now)
            self._cancelled_in_time_is_never_sent(now)
            self._attempts_are_counted_once(now)
            self._deliveries_are_with_their_holders(now)
        except AssertionError:
            self.broken = True
            raise

    def _rows_behind_the_cursor_are_logged(self, now: Snapshot) -> None:
        position = now.cursor.position if isinstance(now.cursor.position, int) else 0
        awaited = {i for gap in now.cursor.gaps for i in range(gap.low or 0, gap.high + 1)}
        read = {
            i for i in range(1, position + 1) if i in self.source.committed and i not in awaited
        }
        assert {f"{FEED.name}:{i}" for i in read} <= now.deliveries.keys()

    def _delivered_is_a_fact(self, now: Snapshot) -> None:
        delivered = {i for i, found in now.deliveries.items() if found["state"] == State.DELIVERED}
        assert delivered <= self.partner.accepted
        assert self.witness.delivered <= delivered, "nothing overwrites a success"
        succeeded = {
            key.rpartition("#")[0]
            for key, found in now.attempts.items()
            if found["outcome"] == "delivered"
        }
        assert succeeded <= self.partner.accepted

    def _requests_are_of_logged_rows(self, now: Snapshot) -> None:
        for delivery_id, payloads in self.partner.payloads.items():
            assert set(payloads) == {now.deliveries[delivery_id]["payload"]}, "one key, one content"

    def _cancelled_in_time_is_never_sent(self, now: Snapshot) -> None:
        """Unless an operator replays it, which makes it `queued` first."""
        stay = (State.CANCELLED, State.DELIVERED)
        self.off = {i for i in self.off if now.deliveries[i]["state"] in stay}
        assert not self.off & self.partner.payloads.keys()

    def _attempts_are_counted_once(self, now: Snapshot) -> None:
        """A success recorded after a take-over was counted as unknown before, and counts again: by
        one, once.
        """
        for delivery_id, found in now.deliveries.items():
            on_record = now.attempts_of(delivery_id)
            late = found["state"] == State.DELIVERED and any(
                a["outcome"] == "unknown" for a in on_record
            )
            assert found["attempts"] <= len(on_record) + late, delivery_id

    def _deliveries_are_with_their_holders(self, now: Snapshot) -> None:
        """Each queued one is in a batch, and under its last fence. Only what stood still behind the
        batch's end can leave an orphan: a poll, sweep or replay that had made the batch and not yet
        filled it.
        """
        for delivery_id, found in now.deliveries.items():
            if found["state"] == State.QUEUED:
                assert self.witness.is_fenced_by_the_last(found["batch"], found.get("token")), (
                    delivery_id
                )
                assert found["batch"] in now.batches or self.orphans_are_possible, delivery_id

    # --- at the end, everything has arrived

    def teardown(self) -> None:
        try:
            if not self.broken:
                self._heal()
                self._run_until_quiet()
                self._everything_has_arrived(self.runner.run(self._snapshot()))
        finally:
            while self.frozen:
                self._thaw(0, dead=True)

    def _heal(self) -> None:
        self.partner.moods = [Mood.ACCEPTS]
        self.queue.takes = None
        self.source.commit(self.source.open)
        while self.frozen:
            self._thaw(0, dead=len(self.frozen) % 2 == 0)
        self.operator_resumes()

    def _run_until_quiet(self) -> None:
        for _ in range(ROUNDS):
            self.clock.advance(LEASE * 2)
            for use_case in (
                self._poll,
                lambda p: self._sweeping(p).adopt_orphans(),
                lambda p: self._sweeping(p).sweep(),
            ):
                self._start(Fate(), use_case)
            while self.queue.messages:
                self.deliver([Fate()])
            self.promises_hold()
            if not self.runner.run(self._anything_owed()):
                return

    async def _anything_owed(self) -> bool:
        now = await self._snapshot()
        is_open = any(found["state"] in OPEN_STATES for found in now.deliveries.values())
        return is_open or bool(now.batches) or len(now.deliveries) < len(self.source.committed)

    def _everything_has_arrived(self, now: Snapshot) -> None:
        assert now.deliveries.keys() == {f"{FEED.name}:{i}" for i in self.source.committed}
        states = {i: found["state"] for i, found in now.deliveries.items()}
        assert set(states.values()) <= {State.DELIVERED, State.DEAD, State.CANCELLED}, (
            "a state without an exit"
        )
        assert all(
            now.deliveries[i]["reason"] for i, state in states.items() if state == State.DEAD
        )
        assert not now.batches
        assert self.witness.sent <= now.attempts.keys(), "a request that is not on record"

    # --- running one process

    def _start(self, fate: Fate, use_case: Callable[[Process], Awaitable[object]]) -> None:
        process = Process(Steps(fate))
        process.steps.seen = lambda *step: self._saw(process, *step)
        self.runner.run(self._run(process, use_case))

    def _saw(self, process: Process, step: str, args: tuple[Any, ...], result: Any) -> None:
        others = [other for other, _ in self.frozen if other is not process]
        self.witness.saw(Step(step, process, others, args, result))

    async def _run(
        self, process: Process, use_case: Callable[[Process], Awaitable[object]]
    ) -> None:
        await self._until_it_stops(process, asyncio.ensure_future(use_case(process)))

    def _thaw(self, place: int, *, dead: bool) -> None:
        process, task = self.frozen.pop(place)
        process.steps.thaw(dead=dead)
        self.runner.run(self._until_it_stops(process, task))

    async def _until_it_stops(self, process: Process, task: asyncio.Future[Any]) -> None:
        """Run a process until it has ended, died or frozen. What else it raises is a fault in the
        code under test.
        """
        frozen = asyncio.create_task(process.steps.frozen.wait())
        done, _ = await asyncio.wait(
            {task, frozen}, return_when=asyncio.FIRST_COMPLETED, timeout=10
        )
        frozen.cancel()
        assert done, f"neither ended nor frozen: {task}"
        if not task.done():
            process.steps.frozen.clear()
            self.frozen.append((process, task))
            self.orphans_are_possible |= process.batch is None
        elif error := task.exception():
            unexpected = [e for e in _leaves(error) if not _is_expected(e)]
            if unexpected:
                self.broken = True
                raise unexpected[0]

    async def _poll(self, process: Process, *, takes: bool = False) -> object:
        def take(batch: NewBatch, rows: LoggedRows | None) -> bool:
            if takes and rows:
                self.kept.append((batch, rows))
            return takes

        source, ledger, queue = (
            stepped_source(self.source, process.steps),
            self._ledger(process),
            self._queue(process),
        )
        return await Polling(
            source, ledger, queue, message_wait=timedelta(seconds=30), now=self.clock, take=take
        ).poll(FEED)

    async def _deliver(self, batch_id: str, process: Process) -> object:
        return await self._delivering(process).deliver(FEED, batch_id)

    async def _deliver_kept(self, batch: NewBatch, logged: LoggedRows, process: Process) -> object:
        delivering = self._delivering(process)
        delivering.kept.keep(batch, logged)
        return await delivering.deliver(FEED, batch.id)

    def _delivering(self, process: Process) -> Delivering:
        """Groups end by their size alone, so that a run does not depend on how fast the machine is."""
        terms = DeliverySettings(
            worker="w", lease=LEASE, group_size=2, group_wait=timedelta(hours=1)
        )
        partner = stepped_partner(self.partner, process.steps)
        return Delivering(self._ledger(process), partner, terms, now=self.clock)

    async def _replay(self, selection: Selection, process: Process) -> object:
        feeds = {FEED.name: FEED.model_copy(update={"max_backlog": 1000})}
        ledger, queue = self._ledger(process), self._queue(process)
        replaying = Replaying(
            ledger, queue, feeds, message_wait=LEASE, now=self.clock, sleep=_in_no_time
        )
        return await replaying.replay(selection, Rate(count=40, per_seconds=1), By("operator"))

    def _sweeping(self, process: Process) -> Sweeping:
        feeds = {FEED.name: FEED}
        return Sweeping(
            self._ledger(process), self._queue(process), feeds, lease=LEASE, limit=6, now=self.clock
        )

    def _ledger(self, process: Process) -> Ledger:
        return stepped_ledger(self.ledger, process.steps)

    def _queue(self, process: Process) -> SiftedQueue:
        return stepped_queue(self.queue, process.steps)

    async def _snapshot(self) -> Snapshot:
        database = self.ledger._database

        async def by_id(name: str) -> dict[str, Document]:
            return {document["_id"]: document for document in await database[name].find().to_list()}

        cursor = await self.ledger.cursors.get(FEED.name)
        return Snapshot(
            await by_id("deliveries"), await by_id("batches"), await by_id("attempts"), cursor
        )


async def _in_no_time(_seconds: float) -> None:
    await asyncio.sleep(0)


async def _emptied(ledger: Ledger) -> None:
    for name in COLLECTIONS:
        await ledger._database[name].delete_many({})


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _is_expected(error: BaseException) -> bool:
    return isinstance(error, Crashed) or (isinstance(error, RowrelayError) and error.retryable)


@pytest.mark.timeout(0 if LONG else 600)
def test_no_interruption_breaks_a_promise(runner: asyncio.Runner, runner_ledger: Ledger) -> None:
    run_at_random(lambda: Relay(runner, runner_ledger), EXAMPLES, STEPS)
