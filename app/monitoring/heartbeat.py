"""Heartbeats: what a process notices of its own progress, and writes to the ledger every few
seconds.

That a thread is alive does not prove that work is done. So a heartbeat (see
`app.ledger.heartbeats`) says how long the consumer has not asked for work, how long messages have
waited untaken, how long tasks have run without result, and, of beat, how long nothing was sent.
`app.monitoring.health` judges.

The writer has a thread, an event loop and connections of its own, so that it can report a consumer
or a loop that is stuck. When the whole process is stuck, so is its heartbeat: the age shows it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from app.broker.depths import Broker
from app.core.clock import said_of_clock, server_clock, utc_now
from app.core.errors import RowrelayError
from app.core.loop_thread import LoopThread
from app.core.unforeseen import Troubles
from app.ledger import Ledger
from app.ledger.client import answers
from app.ledger.heartbeats import (
    DURATION_BOUNDS,
    KEPT,
    Configured,
    Heartbeat,
    Held,
    Role,
    TaskTimes,
)

log = structlog.get_logger()

HEARTBEATS_A_BOUND = 9
"""Heartbeats within the time for which a process may make no progress."""
LONGEST_PAUSE = timedelta(seconds=5)
CLOCK_SAID_EVERY = timedelta(minutes=10)

Ping = Callable[[Callable[[], None]], bool]
"""Has an event loop call a function as soon as it can; `False`: there is no loop yet."""


def pause_between(bound: timedelta) -> timedelta:
    """How long a process waits between two heartbeats."""
    return min(LONGEST_PAUSE, bound / HEARTBEATS_A_BOUND)


@dataclass(slots=True)
class Activity:
    """What a process notices of its own progress. Times are of the monotonic clock."""

    stopping: bool = False
    consumed_at: float | None = None
    """When the consumer last asked for work, or was fully occupied."""
    moved_at: float | None = None
    """When a task last began or ended. (The ledger's answers are noted where it is asked.) A task
    begins when its work does, on the event loop: taking a message proves nothing."""
    sent_at: float | None = None
    taken: Counter[str] = field(default_factory=Counter)
    """Queue → messages taken from it."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → messages that were dropped."""
    troubles: Troubles = field(default_factory=Troubles)
    """Unforeseen failures."""
    short_of: str | None = None
    """What the process has too little of, since it started."""
    _begun: dict[str, float] = field(default_factory=dict)
    """Task id → when it began."""
    _times: dict[str, TaskTimes] = field(default_factory=dict)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def running(self) -> int:
        """Tasks in progress."""
        return len(self._begun)

    @property
    def times(self) -> Mapping[str, TaskTimes]:
        """Task → how its runs went."""
        with self._counting:
            return dict(self._times)

    def asked(self) -> None:
        """The consumer asks for work, or is fully occupied."""
        self.consumed_at = time.monotonic()

    def sent(self) -> None:
        """A message was sent."""
        self.sent_at = time.monotonic()

    def task_begins(self, task_id: str) -> None:
        """A task begins, in any thread."""
        self._begun[task_id] = self.moved_at = time.monotonic()

    def task_failed(self, task: str) -> None:
        """A task failed before it began. That is no progress."""
        with self._counting:
            self._times[task] = _counted(self._times.get(task, TaskTimes()), 0.0, failed=True)

    def task_ends(self, task_id: str, task: str, *, failed: bool) -> None:
        """A task ends."""
        self.moved_at = time.monotonic()
        begun = self._begun.pop(task_id, None)
        if begun is None:
            return
        seconds = time.monotonic() - begun
        with self._counting:
            self._times[task] = _counted(self._times.get(task, TaskTimes()), seconds, failed=failed)


def _counted(times: TaskTimes, seconds: float, *, failed: bool) -> TaskTimes:
    place = bisect_left(DURATION_BOUNDS, seconds)
    buckets = tuple(count + (index == place) for index, count in enumerate(times.buckets))
    return TaskTimes(times.done + 1, times.failed + failed, times.seconds + seconds, buckets)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose heartbeats they are."""

    role: Role
    name: str
    queues: tuple[str, ...] = ()
    """Worker: the queues that it consumes."""


class Observed:
    """What the writer finds out: whether Redis and the event loop answer, and whether messages
    wait.
    """

    def __init__(self, progress: Activity, queues: tuple[str, ...]) -> None:
        self._progress = progress
        self._queues = queues
        self.broker_since: float | None = None
        self._asked_at: float | None = None
        self._waiting_since: dict[str, float] = {}
        self._taken_before: Counter[str] = Counter()

    @property
    def waiting_since(self) -> float | None:
        """Since when messages have waited in a queue from which none was taken."""
        return min(self._waiting_since.values(), default=None)

    @property
    def loop_seconds(self) -> float:
        """For how long the event loop has not answered."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    async def observe(self, broker: Broker, *, full: bool) -> None:
        """Ask Redis which messages wait. `full`: the process has as many tasks as it may."""
        try:
            depths = await broker.depths(self._queues)
        except RowrelayError as error:
            if self.broker_since is not None:
                log.debug("marker_lost_broker", error=str(error))
            self.broker_since = None
            self._waiting_since.clear()
            return
        self.broker_since = self.broker_since or time.monotonic()
        self.note_waiting(depths, full=full)

    def note_waiting(self, depths: Mapping[str, int], *, full: bool) -> None:
        """Note since when each queue has held messages while none is taken, although there is room."""
        for queue, depth in depths.items():
            if not depth or full or self._progress.taken[queue] != self._taken_before[queue]:
                self._waiting_since.pop(queue, None)
            else:
                self._waiting_since.setdefault(queue, time.monotonic())
        self._taken_before = Counter(self._progress.taken)

    def probe(self, ping: Ping) -> None:
        """Ask the event loop to answer, unless it has yet to answer the last time."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            if not ping(self._answered):
                self._asked_at = None

    def _answered(self) -> None:
        self._asked_at = None


class HeartbeatWriter:
    """Writes a heartbeat to the ledger every few seconds, from a thread of its own."""

    def __init__(
        self,
        identity: Identity,
        progress: Activity,
        *,
        open_ledger: Callable[[], Ledger],
        open_broker: Callable[[], Broker],
        pause: timedelta,
        full: Callable[[], bool] = lambda: False,
        ping: Ping = lambda _: False,
        held: Callable[[], Mapping[str, tuple[int, int]]] = dict,
        configured: Callable[[], Configured | None] = lambda: None,
    ) -> None:
        """`full`: whether the process can take no more tasks; `ping`: reaches the event loop that
        they run on; `held`: feed → batches in progress, and their rows; `configured`: the
        configuration that it runs with."""
        self._identity = identity
        self._progress = progress
        self._open_ledger = open_ledger
        self._open_broker = open_broker
        self._pause = pause.total_seconds()
        self._full = full
        self._ping = ping
        self._held = held
        self._configured = configured
        self._observed = Observed(progress, identity.queues)
        self._started = time.monotonic()
        self._clock_said_at: float | None = None
        self._thread = LoopThread("rowrelay-heartbeat", self._write_on)

    def start(self) -> None:
        """Begin to write. Returns at once; no server need be reachable yet."""
        self._thread.start()

    def stop(self) -> None:
        """Remove the heartbeat: the process ends on purpose. Waits a few seconds at most."""
        self._thread.stop()

    def write_now(self) -> None:
        """Write now rather than after the pause: there is something to report."""
        self._thread.wake()

    async def _write_on(self, thread: LoopThread) -> None:
        ledger, broker = self._open_ledger(), self._open_broker()
        try:
            with suppress(RowrelayError):
                await (
                    ledger.read_clock()
                )  # before that it is the machine's, by which others may look long dead
                await ledger.heartbeats.forget(utc_now() - KEPT)
            while not thread.ending:
                await self._write(ledger, broker)
                await thread.rest(self._pause)
            with suppress(RowrelayError):
                await ledger.heartbeats.leave(self._identity.role, self._identity.name, os.getpid())
        finally:
            await broker.close()
            await ledger.close()

    async def _write(self, ledger: Ledger, broker: Broker) -> None:
        self._observed.probe(self._ping)
        await self._observed.observe(broker, full=self._full())
        try:
            await ledger.read_clock()
            self._say_clock()
            await ledger.heartbeats.put(self._current())
        except RowrelayError as error:
            log.debug("heartbeat_failed", error=str(error))

    def _say_clock(self) -> None:
        """Warn when the machine's clock differs from the ledger server's: at once, then now and
        again.
        """
        said = said_of_clock(server_clock.machine_ahead)
        if said is None:
            self._clock_said_at = None
        elif (
            self._clock_said_at is None
            or time.monotonic() - self._clock_said_at > CLOCK_SAID_EVERY.total_seconds()
        ):
            self._clock_said_at = time.monotonic()
            log.warning(
                "clock_differs", said=said, seconds=round(server_clock.machine_ahead or 0.0, 1)
            )

    def _current(self) -> Heartbeat:
        progress, observed = self._progress, self._observed
        heartbeat = Heartbeat(
            role=self._identity.role,
            name=self._identity.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=utc_now() - timedelta(seconds=time.monotonic() - self._started),
            marked_at=utc_now(),
            stopping=progress.stopping,
            broker_seconds=_age(observed.broker_since),
            sent_seconds=_age(progress.sent_at),
            clock_seconds=server_clock.machine_ahead,
            configuration=self._configured(),
        )
        if self._identity.role is Role.BEAT:
            return heartbeat
        return replace(
            heartbeat,
            consumer_seconds=_age(progress.consumed_at),
            loop_seconds=observed.loop_seconds,
            moved_seconds=_age(max(progress.moved_at or 0.0, answers.at or 0.0) or None),
            waiting_seconds=_age(observed.waiting_since),
            running=progress.running,
            taken=progress.taken.total(),
            dropped=dict(progress.dropped),
            queues=self._identity.queues,
            tasks=progress.times,
            troubles=progress.troubles.current(),
            short_of=progress.short_of,
            holds=tuple(
                Held(feed, batches, rows) for feed, (batches, rows) in sorted(self._held().items())
            ),
        )


def _age(moment: float | None) -> float | None:
    return None if moment is None else max(0.0, time.monotonic() - moment)
