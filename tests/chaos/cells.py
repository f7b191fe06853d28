"""The matrix: each fault at each moment, as a function of a scene."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import redis

from app.embedded.process import Process
from app.embedded.server import Server
from tests.chaos.scene import Scene
from tests.chaos.stepped_down import SteppedDown
from tests.support.wait import wait_until

Act: TypeAlias = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one moment."""

    fault: str
    moment: str
    act: Act
    quick: bool = False
    """Part of the subset that runs in CI."""
    rows_first: bool = True
    """Whether rows flow before the act begins; else the act starts them."""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For the command line: `worker-killed/before-claim`."""
        return f"{self.fault}/{self.moment}".replace(" ", "-")


def worker_dies(scene: Scene, moment: str, number: int) -> None:
    """The only worker kills itself at the moment; then another starts.

    Rows begin once it takes messages: of those that are there before it, one poll makes one page, and the second page
    at which it is to die would never come.
    """
    worker = scene.start_doomed_worker(moment, number)
    scene.wait_for_ready(worker)
    scene.start_rows()
    scene.wait_for_death(worker)
    scene.stack.start_worker()
    scene.fault_is_over()


def worker_killed_again_and_again(scene: Scene) -> None:
    """Three workers in a row, each killed after a few rows, wherever they are."""
    for share in (0.1, 0.3, 0.5):
        worker = scene.stack.start_worker()
        scene.wait_for_share(share)
        scene.kill(worker)
    scene.stack.start_worker()
    scene.fault_is_over()


def beat_killed(scene: Scene) -> None:
    """Beat is killed and away for a while."""
    scene.stack.start_worker()
    scene.wait_for_share(0.2)
    beat = scene.stack.beat
    assert beat is not None
    scene.kill(beat)
    time.sleep(3)  # the outage itself
    scene.stack.start_beat()
    scene.fault_is_over()


def two_beats(scene: Scene) -> None:
    """Two beats and two workers, all the time."""
    scene.stack.start_beat()
    scene.stack.start_worker()
    scene.stack.start_worker()
    scene.fault_is_over()


def _frozen(scene: Scene, server: Process, seconds: float) -> None:
    server.signal(signal.SIGSTOP)
    time.sleep(seconds)  # the outage itself
    server.signal(signal.SIGCONT)
    scene.fault_is_over()


def server_killed(scene: Scene, name: str) -> None:
    """The server of that name is killed and away for a while. Redis comes back empty, the ledger as it confirmed."""
    server: Server = getattr(scene.stack, name)
    scene.stack.start_worker()
    scene.wait_for_share(0.2)
    server.kill()
    scene.kills += 1
    time.sleep(3)  # the outage itself
    server.restart()
    scene.fault_is_over()


def redis_flushed(scene: Scene) -> None:
    """FLUSHALL while rows flow."""
    scene.stack.start_worker()
    scene.wait_for_share(0.2)
    with redis.Redis.from_url(scene.stack.redis.url) as client:
        client.flushall()
    scene.fault_is_over()


def redis_paused(scene: Scene, seconds: float) -> None:
    """Redis stops answering, with its connections open."""
    scene.stack.start_worker()
    scene.wait_for_share(0.2)
    _frozen(scene, scene.stack.redis.process, seconds)


def redis_out_of_memory(scene: Scene) -> None:
    """Redis refuses every write for a while."""
    scene.stack.start_worker()
    scene.wait_for_share(0.2)
    with redis.Redis.from_url(scene.stack.redis.url) as client:
        client.config_set("maxmemory", "1kb")
        time.sleep(5)  # the outage itself
        client.config_set("maxmemory", "0")
    scene.fault_is_over()


def ledger_slow(scene: Scene) -> None:
    """The ledger's server gets a tenth of the time: frozen and let go again, for ten seconds."""
    scene.stack.start_worker()
    scene.wait_for_share(0.2)
    for _ in range(20):
        _frozen(scene, scene.stack.mongo.process, 0.45)
        time.sleep(0.05)  # what it gets


def ledger_read_only(scene: Scene) -> None:
    """The ledger's server refuses every write for a while, as a primary does that has stepped down."""
    ledger = scene.until_end.enter_context(SteppedDown(scene.stack.mongo.url).running())
    scene.stack.settings["MONGO_URL"] = ledger.url
    scene.stack.start_worker()
    scene.wait_for_share(0.2)
    ledger.read_only = True
    time.sleep(5)  # the outage itself
    ledger.read_only = False
    scene.fault_is_over()
    assert ledger.refused, "no write was tried: the cell tells nothing"


def source_slow(scene: Scene) -> None:
    """Every page of the source takes three seconds, all the time."""
    scene.start_doomed_worker("slow-source", 3)
    scene.fault_is_over()


def source_away(scene: Scene) -> None:
    """The source cannot be opened for a while."""
    hidden = scene.stack.directory / "hidden"
    hidden.mkdir()
    for path in _source_files(scene):
        shutil.move(path, hidden / path.name)
    scene.stack.start_worker()
    time.sleep(4)  # the outage itself
    for path in list(hidden.iterdir()):
        shutil.move(path, scene.stack.directory / path.name)
    scene.fault_is_over()


def _source_files(scene: Scene) -> list[Path]:
    return list(scene.stack.directory.glob(f"{scene.stack.database.name}*"))


def partner_away(scene: Scene) -> None:
    """Nobody listens at the partner's address for a while. (What it saw before is forgotten: killed before any row.)"""
    scene.stack.partner_process.kill()
    scene.kills += 1
    scene.stack.start_worker()
    time.sleep(4)  # the outage itself
    scene.stack.restart_partner()
    scene.fault_is_over()


def partner_misbehaves(scene: Scene, **rates: Any) -> None:
    """The partner does one thing wrong for a share of the requests, for eight seconds."""
    scene.faults(**rates)
    scene.stack.start_worker()
    time.sleep(8)  # the outage itself
    scene.faults()
    scene.fault_is_over()


def logs_full(scene: Scene) -> None:
    """The worker's log is on a full disk, all the time."""
    with _logging_to(scene, Path("/dev/full")):
        scene.stack.start_worker()
    scene.fault_is_over()


@contextmanager
def _logging_to(scene: Scene, path: Path) -> Any:
    scene.stack.log_to = path
    yield
    scene.stack.log_to = None


def clock_jumps(scene: Scene, seconds: float) -> None:
    """Of two workers, one has a clock that jumps."""
    scene.start_doomed_worker("clock", int(seconds))
    scene.stack.start_worker()
    scene.wait_for_share(0.5)
    scene.fault_is_over()


def worker_frozen(scene: Scene) -> None:
    """A worker is frozen for longer than its leases, while another takes its batches over; then it goes on."""
    scene.faults(slow=1, slow_seconds=[0.2, 0.4])
    frozen = scene.stack.start_worker()
    scene.wait_for_share(0.1)
    frozen.signal(signal.SIGSTOP)
    scene.stack.start_worker()
    time.sleep(8)  # longer than the lease of 5 s
    scene.faults()
    os.kill(frozen.pid, signal.SIGCONT)
    wait_until(lambda: frozen.alive, timeout=5, message="the frozen worker")
    scene.fault_is_over()


def _dies(moment: str, number: int, *, quick: bool = False) -> Cell:
    return Cell("worker killed", moment, partial(worker_dies, moment=moment, number=number), quick, rows_first=False)


def _partner(moment: str, *, quick: bool = False, **rates: Any) -> Cell:
    return Cell("partner", moment, partial(partner_misbehaves, **rates), quick)


CELLS = (
    _dies("before-claim", 2),
    _dies("while-sending", 120, quick=True),
    _dies("answered-not-written", 3, quick=True),
    _dies("attempt-written-delivery-not", 3, quick=True),
    _dies("delivered-batch-not-settled", 2),
    _dies("poll-before-batches", 2),
    _dies("poll-batches-no-deliveries", 2),
    _dies("poll-logged-cursor-not", 2, quick=True),
    Cell("worker killed", "three times", worker_killed_again_and_again),
    Cell("worker frozen", "longer than its lease", worker_frozen),
    Cell("beat killed", "under load", beat_killed),
    Cell("two beats", "all the time", two_beats),
    Cell("redis killed", "under load", partial(server_killed, name="redis")),
    Cell("redis flushed", "under load", redis_flushed, quick=True),
    Cell("redis paused", "8 s", partial(redis_paused, seconds=8)),
    Cell("redis paused", "30 s", partial(redis_paused, seconds=30)),
    Cell("redis out of memory", "5 s", redis_out_of_memory),
    Cell("ledger killed", "under load", partial(server_killed, name="mongo")),
    Cell("ledger slow", "10 s", ledger_slow),
    Cell("ledger read-only", "5 s", ledger_read_only),
    Cell("source slow", "all the time", source_slow),
    Cell("source unreachable", "at the start", source_away),
    Cell("partner", "away", partner_away),
    _partner("hangs", hang=0.3),
    _partner("answers 500", statuses={500: 0.5}),
    _partner("answers 429 with Retry-After", statuses={429: 0.3}),
    _partner("answers garbage", garbage=0.5),
    _partner("closes before the answer", cut=0.5),
    _partner("closes in mid-answer", cut_answer=0.5),
    _partner("answers twice", twice=0.5),
    _partner("accepts, and the answer is lost", quick=True, lost_answer=0.5),
    Cell("disk full", "for the worker's log", logs_full, quick=True),
    Cell("clock jumps", "an hour ahead", partial(clock_jumps, seconds=3600)),
    Cell("clock jumps", "an hour back", partial(clock_jumps, seconds=-3600)),
)
