"""Works on one operation in bulk that a runner has claimed.

It may die between any two steps: its lease lapses, and another goes on.

1. While the set is written down: the next writes it anew, under its own token; what is there under
   another is no part of any set.
2. In the middle of a chunk: what was moved carries the operation's mark, and moves no second time
   in this round. The next goes through the chunk again, and reads what became of each.
3. After the outcomes, before the progress: the same.
4. Anywhere else nothing but the lease was written.

Two that both take themselves for its holder do no harm: each move is conditional, and of the progress
only the holder's is taken.

The first `canary` are moved, and waited for until each is settled, for `canary_patience`: what still
waits for a retry then has failed. If more than `stop_ratio` of them failed, it pauses; so it does
later, if that holds for the last `WINDOW` that it moved. Resumed, it begins anew: what it moved and
is dead again is taken up again, the canary first.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from app.core.clock import AGREED, Clock, utc_now
from app.core.errors import LeaseLost, RowrelayError
from app.core.operations import (
    MOVED,
    Ask,
    ClosingSum,
    Happened,
    Operation,
    OperationKind,
    OperationState,
    Paused,
    Phase,
    Stop,
)
from app.core.states import State
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.operation_documents import selection_of
from app.ledger.operations import InSet
from app.ledger.persistence import persistent
from app.operations.bulk_chunk import Acting, Chunk, Obstacle, chunk_of_rows
from app.operations.bulk_request import LARGEST, rate_of
from app.operations.replay import Replaying, Room, chunk_of
from app.reads.search import walk

log = structlog.get_logger()

AT_ONCE = 1000
"""Deliveries that are read, or written down, together."""
CHUNK_SECONDS = 0.5
"""A chunk is what the rate allows in this time."""
WINDOW = 200
"""Of so many that were moved last, the ratio of failures is taken."""
LEAST = 20
"""Where fewer of them are settled, nothing can be said yet, but at the end."""
LOOK_SECONDS = 1.0
"""How often an operator's word is asked for while it waits."""
CLOSING_SECONDS = 20.0
"""What looking for marks outside of the set may take."""


class Stopped(Exception):
    """An operator asked it to stop; nothing of the chunk under way has moved."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How operations are worked on."""

    worker: str
    lease: timedelta
    largest: int = LARGEST
    canary_patience: timedelta = timedelta(minutes=2)
    """How long those of the canary may take to be settled."""
    last_patience: timedelta = timedelta(minutes=1)
    """The same, of those that are moved last: then it ends, whatever is still on its way."""


class OperationRun:
    """One operation, for as long as its lease is ours."""

    def __init__(
        self,
        operation: Operation,
        ledger: Ledger,
        feeds: Callable[[], Mapping[str, Feed]],
        replaying: Callable[[], Replaying],
        settings: RunSettings,
        *,
        now: Clock = utc_now,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._operation = operation
        self._ledger = ledger
        self._operations = ledger.operations
        self._feeds = feeds
        self._acting = Acting(ledger, replaying, now)
        self._settings = settings
        self._now = now
        self._sleep = sleep
        self._moved = 0
        """Of the chunk under way."""
        self._waiting = ""
        self._looked_at = time.monotonic()
        self._room = Room(1, self._wait)

    async def work(self) -> None:
        """Go on until it is paused or ends, or somebody else holds it. What cannot be helped by trying
        again pauses it; raises what can."""
        with persistent(sleep=self._sleep):
            try:
                await self._guarded()
            except LeaseLost:
                log.info("operation_taken_over", operation=self._operation.id)

    async def _guarded(self) -> None:
        try:
            await self._work()
        except Stopped:
            await self._as_asked()
        except Obstacle as error:
            await self._pause(Stop.OBSTACLE, str(error))
        except RowrelayError as error:
            if error.retryable or isinstance(error, LeaseLost):
                raise
            await self._pause(Stop.OBSTACLE, str(error))
        except Exception as error:
            log.exception("operation_failed", operation=self._operation.id)
            unforeseen = f"an unforeseen error, {type(error).__name__}: see the log"
            await self._pause(Stop.OBSTACLE, unforeseen)

    async def _work(self) -> None:
        if self._operation.state is OperationState.FREEZING:
            await self._freeze()
            return
        while await self._step():
            pass

    # --- the set is written down

    async def _freeze(self) -> None:
        """Write down what is selected and had come there before the operation was made."""
        operation = self._operation
        assert operation.lease  # noqa: S101 - it was claimed
        token, selection = operation.lease.token, selection_of(operation.chosen)
        until = min(filter(None, (selection.until, operation.created_at)))
        selection = replace(selection, until=until)
        size = 0
        async for found in walk(self._ledger, selection, AT_ONCE):
            some = [(State(one["state"]), one["_id"]) for one in found]
            size += await self._operations.add_to_set(operation, token, some)
            await self._renew(f"{size} written down")
            if size > self._settings.largest:
                break
        size = await self._operations.size_of(operation, token)
        largest = self._settings.largest
        if size > largest:
            await self._end(
                OperationState.ABANDONED, f"more than {largest:,} are selected: narrow the filter"
            )
        elif not size:
            await self._end(OperationState.ABANDONED, "nothing was selected any more")
        else:
            said = self._happened("frozen", f"{size} deliveries")
            await self._operations.freeze(operation, token, size, said)

    # --- it is gone through

    async def _step(self) -> bool:
        """One chunk, or what comes between two. `False`: it is paused, or has ended."""
        await self._renew()
        operation = self._operation
        canary = (
            operation.pace.canary - operation.moved_anew
            if operation.phase is Phase.CANARY
            else None
        )
        rows = await self._following(canary)
        looked = await self._acting.look(operation, rows)
        most = self._room.chunk if canary is None else min(self._room.chunk, canary)
        chunk = chunk_of_rows(operation, rows, looked, most)
        if operation.asked is Ask.ABANDON or (operation.asked and not chunk.begun):
            return await self._as_asked()
        if not rows:
            return await self._at_the_end_of_a_phase()
        if not chunk.begun and await self._fails():  # what may have paused the feed too
            return False
        if operation.kind is OperationKind.REPLAY:
            await self._require_feed()
        await self._act(chunk)
        return True

    async def _following(self, canary: int | None) -> list[InSet]:
        """What comes next; `canary`: how many of it are left to move."""
        if canary is not None and canary <= 0:
            return []
        rate = rate_of(self._operation.pace)
        size = self._room.chunk = chunk_of(rate.count / rate.per_seconds, CHUNK_SECONDS)
        if self._operation.round > 1:  # of what was gone through before, most stays
            size = AT_ONCE
        elif canary is not None:
            size = min(size, canary)
        return await self._operations.in_order(self._operation, size, self._operation.reached)

    async def _act(self, chunk: Chunk) -> None:
        self._moved, begun = 0, time.monotonic()
        outcomes, anew = await self._acting.act(self._operation, chunk, self._room, self._tell)
        await self._operations.tell(self._operation, outcomes, anew)
        counts = Counter(self._operation.outcomes)
        counts.update({outcome: len(rows) for outcome, rows in outcomes.items()})
        now = self._now()
        self._operation = await self._operations.record(
            replace(self._operation, moved_anew=self._operation.moved_anew + len(anew)),
            chunk.rows[-1],
            counts,
            now,
            now + self._settings.lease,
        )
        self._waiting, moved, self._moved = "", self._moved, 0
        if self._operation.kind is not OperationKind.REPLAY and moved:  # that keeps its pace itself
            rate = rate_of(self._operation.pace)
            due = begun + moved * rate.per_seconds / rate.count
            await self._wait(max(0.0, due - time.monotonic()))

    async def _at_the_end_of_a_phase(self) -> bool:
        """The canary has moved, or all have: wait for them."""
        operation, patience = self._operation, self._settings.last_patience
        canary = operation.phase is Phase.CANARY
        if canary:
            patience = self._settings.canary_patience
        moved = operation.moved_anew if canary else operation.moved
        if operation.kind is OperationKind.REPLAY and moved:
            states = await self._settled(patience)
            if self._too_many(states, at_the_end=True):
                return await self._pause_for_failures(states)
            if canary and states[State.QUEUED]:
                sent = (
                    f"{states[State.QUEUED]} of the canary were not sent within {_said(patience)}"
                )
                raise Obstacle(f"{sent}: is a worker running?")
        if canary:
            said = self._happened("canary passed", None)
            self._operation = await self._operations.enter(operation, Phase.REST, said)
            return True
        return await self._end(OperationState.DONE)

    async def _settled(self, patience: timedelta) -> Counter[str]:
        """Where those that were moved last stand, once they are settled, or too many failed, or after
        so long."""
        begun = self._now()
        while True:
            states = await self._last_states()
            on_the_way = states[State.QUEUED] + states[State.RETRYING]
            dead = Counter({**states, State.RETRYING.value: 0})
            if not on_the_way or self._too_many(dead, at_the_end=True):
                return states
            if self._now() - begun >= patience:
                return states
            self._waiting = f"waits for {on_the_way} to be settled"
            await self._require_feed()
            await self._wait(LOOK_SECONDS)

    async def _last_states(self) -> Counter[str]:
        """State → how many of those that were moved last; of the canary, all that this round moved."""
        canary = self._operation.phase is Phase.CANARY
        last = self._operation.pace.canary if canary else WINDOW
        moved = await self._operations.last_moved(self._operation, last, anew=canary)
        return await self._ledger.operation_marks.states(moved)

    async def _fails(self) -> bool:
        """Whether it was paused, since too many of those moved last failed."""
        operation = self._operation
        watched = operation.pace.stop_ratio is not None and operation.phase is Phase.REST
        if not watched or not operation.moved:
            return False
        states = await self._last_states()
        return self._too_many(states) and not await self._pause_for_failures(states)

    def _too_many(self, states: Counter[str], *, at_the_end: bool = False) -> bool:
        """Whether more than the ratio failed. What waits for a retry has failed so far."""
        ratio, failed = self._operation.pace.stop_ratio, _failed(states)
        known = failed + states[State.DELIVERED]
        if at_the_end:
            known = states.total()
        if ratio is None or not failed or (known < LEAST and not at_the_end):
            return False
        return failed > ratio * known

    async def _require_feed(self) -> None:
        """Raises `Obstacle` where nothing of the feed is sent."""
        name = self._operation.feed
        if name not in self._feeds():
            raise Obstacle(f"feed {name} is not configured any more")
        if name in await self._ledger.pauses.paused():
            why = (await self._ledger.cursors.get(name)).stopped
            raise Obstacle(f"feed {name} is paused: {why or 'resume it first'}")

    # --- paused, ended

    async def _as_asked(self) -> bool:
        await self._renew()
        if self._operation.asked is Ask.ABANDON:
            return await self._end(OperationState.ABANDONED)
        return await self._pause(Stop.OPERATOR, "by an operator")

    async def _pause_for_failures(self, states: Counter[str]) -> bool:
        told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if count)
        whose = "the canary" if self._operation.phase is Phase.CANARY else "those moved last"
        ratio = self._operation.pace.stop_ratio
        because = f"{_failed(states)} of {states.total()} of {whose} failed ({told}), and at most {ratio:.0%} may"
        return await self._pause(Stop.FAILURES, because)

    async def _pause(self, by: Stop, because: str) -> bool:
        log.info("operation_paused", operation=self._operation.id, by=by.value, because=because)
        happened = self._happened("paused", because)
        if self._operation.state is OperationState.FREEZING:
            await self._end(OperationState.ABANDONED, because)
            return False
        self._operation = await self._operations.pause(
            self._operation, Paused(by, because), happened
        )
        return False

    async def _end(self, state: OperationState, why: str | None = None) -> bool:
        """Close it, with its sum."""
        closing = await self._closing_sum()
        happened = self._happened(state.value, why)
        self._operation = await self._operations.end(self._operation, state, closing, happened)
        log.info("operation_ended", operation=self._operation.id, state=state.value)
        return False

    async def _closing_sum(self) -> ClosingSum:
        """Read from the set, and from the deliveries, what came of it."""
        operation = self._operation
        await self._tell_of_a_chunk_begun()
        told = await self._operations.outcomes(operation)
        states, marked, place = Counter[str](), 0, ""
        while rows := await self._operations.moved(operation, AT_ONCE, place):
            place = rows[-1].place
            looked = await self._acting.look(operation, rows)
            ours = [found.state.value for found in looked.values() if found.ours]
            marked, states = marked + len(ours), states + Counter(ours)
            await self._renew("closing")
        since = (operation.started_at or operation.created_at) - AGREED
        touched = await self._ledger.operation_marks.touched(
            operation.kind, operation.id, since, CLOSING_SECONDS
        )
        others = None if touched is None else max(0, touched - marked)
        states += Counter({"gone": told.get(MOVED, 0) - marked})
        unreached = operation.size - sum(told.values())
        return ClosingSum(operation.size, told, unreached, others, dict(states))

    async def _tell_of_a_chunk_begun(self) -> None:
        """What was moved of a chunk that nobody finished."""
        rows = await self._operations.in_order(self._operation, AT_ONCE, self._operation.reached)
        looked = await self._acting.look(self._operation, rows)
        moved = [row for row in rows if row.id in looked and looked[row.id].this_round]
        if moved:
            await self._operations.tell(self._operation, {MOVED: moved})

    # --- the lease, and waiting

    def _tell(self, moved: int, waits: str) -> None:
        self._moved, self._waiting = moved, waits

    async def _wait(self, seconds: float) -> None:
        """Wait, and keep the lease. Raises `Stopped` where an operator asked for that and nothing of the
        chunk has moved, and `Obstacle` where the feed was paused."""
        await self._sleep(seconds)
        if time.monotonic() - self._looked_at < LOOK_SECONDS and not self._waiting:
            return
        await self._renew(self._waiting)
        if self._moved:
            return
        if self._operation.asked:
            raise Stopped
        if self._operation.kind is OperationKind.REPLAY:
            await self._require_feed()

    async def _renew(self, waiting: str = "") -> None:
        until = self._now() + self._settings.lease
        self._operation = await self._operations.renew(self._operation, until, waiting)
        self._looked_at = time.monotonic()

    def _happened(self, what: str, why: str | None) -> Happened:
        return Happened(self._now(), self._settings.worker, what, why)


def _failed(states: Counter[str]) -> int:
    return states[State.DEAD] + states[State.RETRYING]


def _said(length: timedelta) -> str:
    return f"{length.total_seconds():g} s"
