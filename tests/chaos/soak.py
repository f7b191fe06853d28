"""Feeds of hostile partners, a kill every few seconds, clocks that jump and junk in Redis, for as
long as is asked.

    python -m tests.chaos.soak [--minutes 60] [--feeds 20] [--rate 10] [--kill-every 5]

Two workers take turns at being killed, now and then beat is in their place; a third worker lives
throughout, and its memory is watched. Each runs on a machine of its own, whose clock is set to
another time again and again. Every few seconds `health` is compared with what is known here: which
processes live, and when each feed was last polled.

Prints what it saw each minute; in the end the books as JSON, and `status` as an operator sees it.
Exit code 1 where a row was lost, another promise broke, `health` did not tell the truth, or the
memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pymongo
import redis

import config
from app.core.clock import utc_now
from app.ledger import Ledger
from app.monitoring.health import POLLS_MISSED, Bounds, Health, feeds, processes
from app.testbed.embedded.process import Process
from app.testbed.embedded.source import connect
from app.testbed.embedded.stack import ROOT, Stack
from bench.usage import memory_mib
from tests.chaos.cells.broker import JUNK
from tests.chaos.scene import FEED, Scene, balance, recover
from tests.support.wall import Wall

PROGRESS_BOUND = timedelta(seconds=60)
JUMP_EVERY, JUNK_EVERY, LOOK_EVERY, SAY_EVERY = 20.0, 7.0, 5.0, 60.0
BEAT_INSTEAD = 12
"""Of so many kills one is beat's."""
JUMPS = (-864_000, -86_400, -3_600, -90, -2, 0, 0, 3, 120, 3_600, 86_400, 8_640_000)
"""Seconds by which a machine's clock is wrong."""
MARGIN = 15.0
"""Seconds by which what is known here and what the ledger says may be apart."""
MIB_AN_HOUR = 8.0
"""How much the memory may grow once it has settled: what an allocator takes and keeps."""
SETTLED = 0.4
"""After this part of the run the memory has settled."""

_FEED = """
[feeds.{name}]
table = "{name}"
key = "id"
cursor = {{ strategy = "identity", column = "id", gap_timeout = "15s" }}
poll_every = "2s"
partner = {{ url = "{url}/v1/{name}", timeout = "2s" }}
retry = {{ max_attempts = 200, backoff = "500ms", backoff_cap = "3s" }}
"""
_SETTINGS = {"PROGRESS_BOUND": f"{PROGRESS_BOUND.total_seconds():g}s"}


@dataclass(slots=True)
class Seen:
    """What a soak saw besides its rows."""

    looks: int = 0
    false: list[str] = field(default_factory=list)
    """What `health` said that was not so."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and MiB of the worker that lives."""

    def growth(self) -> float | None:
        """MiB an hour, by the line through the second part of the run; `None`: there was too little
        of it.
        """
        last = [one for one in self.memory if one[0] > SETTLED * self.memory[-1][0]]
        if len(last) < 10:
            return None
        return statistics.linear_regression(*zip(*last, strict=True)).slope * 3600


class Soak:
    """One run."""

    def __init__(self, scene: Scene, walls: Sequence[Wall]) -> None:
        """`walls`: the clocks of four machines: two for workers that are killed, of the one that
        lives, and of beat.
        """
        self.seen = Seen()
        self._scene = scene
        self._walls = walls
        self._random = random.Random(1)
        self._started = time.monotonic()
        self._kills = 0
        self._living: dict[str, float] = {}
        """Worker or beat → since when it runs."""
        self._dead: dict[str, float] = {}
        """Worker → when it was killed."""
        self._polled: dict[str, tuple[datetime | None, float]] = {}
        """Feed → its last poll, and when that was first seen here."""
        self._workers = [self._start_worker(0), self._start_worker(1)]
        self._survivor = self._start_worker(2)
        self._start_beat()

    async def run(self, seconds: float, rate: float, kill_every: float) -> None:
        """Let rows flow and everything else happen, for so long."""
        every = (
            (0.5, lambda: self._write(round(rate * 0.5))),
            (kill_every, self._kill),
            (JUMP_EVERY, self._jump),
            (JUNK_EVERY, self._leave_junk),
            (SAY_EVERY, self._say),
        )
        due = [time.monotonic() + interval for interval, _ in every]
        looking = asyncio.create_task(self._look_again_and_again())
        while time.monotonic() < self._started + seconds:
            for place, (interval, act) in enumerate(every):
                if time.monotonic() >= due[place]:
                    due[place] = time.monotonic() + interval
                    await asyncio.to_thread(act)
            await asyncio.sleep(0.1)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        for wall in self._walls:
            wall.set(0)

    # --- what happens

    def _write(self, rows: int) -> None:
        with closing(connect(self._scene.stack.database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for feed in self._random.choices(self._scene.feeds, k=rows):
                _insert(connection, feed)
            connection.execute("COMMIT")
        self._scene.rows += rows

    def _kill(self) -> None:
        self._kills += 1
        if self._kills % BEAT_INSTEAD == 0:
            assert self._scene.stack.beat is not None
            self._scene.kill(self._scene.stack.beat)
            self._start_beat()
            return
        place = self._kills % 2
        killed = self._workers[place]
        self._scene.kill(killed)
        self._dead[killed.name] = time.monotonic()
        self._living.pop(killed.name)
        self._workers[place] = self._start_worker(place)

    def _jump(self) -> None:
        self._random.choice(self._walls).set(self._random.choice(JUMPS))

    def _leave_junk(self) -> None:
        with redis.Redis.from_url(self._scene.stack.redis.url) as client:
            for queue in ("deliver", "poll", "maintenance"):
                client.lpush(queue, *self._random.sample(JUNK, 3))
            client.publish("/0.celery.pidbox", JUNK[0])
            client.publish("rowrelay:clock", JUNK[0])

    def _start_worker(self, machine: int) -> Process:
        self._scene.stack.settings = {**self._scene.stack.settings, **self._walls[machine].settings}
        worker = self._scene.stack.start_worker()
        self._living[worker.name] = time.monotonic()
        return worker

    def _start_beat(self) -> None:
        self._scene.stack.settings = {**self._scene.stack.settings, **self._walls[3].settings}
        self._scene.stack.start_beat()

    # --- what is looked at

    async def _look_again_and_again(self) -> None:
        loaded = config.load()
        bounds = Bounds.of(loaded.feeds.values(), loaded.settings)
        ledger = Ledger.at(self._scene.stack.mongo.url, timedelta(seconds=5))
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY)
                await ledger.read_clock()
                for (
                    name
                ) in loaded.feeds:  # before health is asked: a poll in between makes it no worse
                    self._note_poll(name, (await ledger.cursors.get(name)).last_poll_at)
                found = await processes(ledger, bounds, utc_now())
                of_feeds = await feeds(ledger, list(loaded.feeds.values()), bounds, utc_now())
                limits = {
                    name: (
                        bounds.progress + POLLS_MISSED * feed.poll_every + feed.poll_budget
                    ).total_seconds()
                    for name, feed in loaded.feeds.items()
                }
                self._compare(found, of_feeds, limits)
                self.seen.looks += 1
                self.seen.memory.append(
                    (time.monotonic() - self._started, memory_mib([self._survivor.pid]))
                )
        finally:
            await ledger.close()

    def _note_poll(self, feed: str, at: datetime | None) -> None:
        if self._polled.get(feed, (None, 0.0))[0] != at or feed not in self._polled:
            self._polled[feed] = (at, time.monotonic())

    def _compare(
        self, found: Sequence[Health], of_feeds: Sequence[Health], limits: dict[str, float]
    ) -> None:
        now, bound = time.monotonic(), PROGRESS_BOUND.total_seconds()
        told = {
            health.name.partition("@")[0]: health for health in found if health.role == "worker"
        }
        for name, since in self._living.items():
            if name in told and not told[name].live:
                self._false(
                    f"{name} lives since {now - since:.0f} s, and health says: {told[name].problems[0]}"
                )
            if name not in told and now - since > bound + MARGIN:
                self._false(f"{name} lives since {now - since:.0f} s, and health does not know it")
        for name, since in self._dead.items():
            if name in told and told[name].live and now - since > bound + MARGIN:
                self._false(
                    f"{name} is dead since {now - since:.0f} s, and health says that it makes progress"
                )
        for health in of_feeds:
            unpolled = now - self._polled[health.name][1]
            if health.live and unpolled > limits[health.name] + MARGIN:
                self._false(
                    f"{health.name} was not polled for {unpolled:.0f} s, and health says that it makes progress"
                )
            if (
                not health.live
                and unpolled < limits[health.name] - MARGIN
                and self._polled[health.name][0]
            ):
                self._false(
                    f"{health.name} was polled {unpolled:.0f} s ago, and health says: {health.problems[0]}"
                )

    def _false(self, what: str) -> None:
        self.seen.false.append(what)
        sys.stdout.write(f"FALSE: {what}\n")

    def _say(self) -> None:
        seconds, mib = self.seen.memory[-1] if self.seen.memory else (0.0, 0.0)
        sys.stdout.write(
            f"{seconds / 60:.0f} min: {self._scene.rows:,} rows written, {self._scene.delivered():,} delivered, "
            f"{self._scene.kills} kills, {self.seen.looks} looks at health, {len(self.seen.false)} of them false, "
            f"{mib:.0f} MiB\n"
        )
        sys.stdout.flush()


def _insert(connection: Any, feed: str) -> None:
    if feed == FEED:
        columns = (
            "(customer, amount, note, created_at) VALUES ('Ada', 9.5, 'soak', datetime('now'))"
        )
    else:
        columns = "(v) VALUES ('a row of some length')"
    connection.execute(f"INSERT INTO {feed} {columns}")


def main() -> None:
    """Run it."""
    options = _options()
    names = (FEED, *(f"feed{number}" for number in range(2, options.feeds + 1)))
    with ExitStack() as running:
        directory = Path(
            running.enter_context(tempfile.TemporaryDirectory(prefix="rowrelay-soak-"))
        )
        stack = running.enter_context(Stack(directory, faults="hostile", settings=_SETTINGS))
        client = running.enter_context(
            pymongo.MongoClient[dict[str, Any]](stack.mongo.url, serverSelectionTimeoutMS=2000)
        )
        _configure(stack, names)
        os.environ.update(stack.variables)
        scene = Scene(stack, 0, client, feeds=names)
        soak = Soak(scene, [_wall(directory / f"machine{number}") for number in range(4)])
        asyncio.run(soak.run(options.minutes * 60, options.rate, options.kill_every))
        scene.fault_is_over()
        books = balance(scene, recover(scene))
        growth = soak.seen.growth()
        told = asdict(books) | {
            "looks": soak.seen.looks,
            "false": soak.seen.false,
            "memory_mib": [
                round(mib) for _, mib in soak.seen.memory[:: max(1, len(soak.seen.memory) // 20)]
            ],
            "growth_mib_an_hour": None if growth is None else round(growth, 1),
        }
        sys.stdout.write(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n")
        subprocess.run(
            [sys.executable, "-m", "app", "status"], env=stack.environment, cwd=ROOT, check=True
        )
    if books.wrong or soak.seen.false or (growth is not None and growth > MIB_AN_HOUR):
        sys.exit(1)


def _configure(stack: Stack, names: Sequence[str]) -> None:
    text = "".join(_FEED.format(name=name, url=stack.partner_url) for name in names)
    (stack.directory / "feeds.toml").write_text(text, encoding="utf-8")
    with closing(connect(stack.database)) as connection:
        for name in names[1:]:
            connection.execute(
                f"CREATE TABLE {name} (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)"
            )


def _wall(directory: Path) -> Wall:
    directory.mkdir()
    return Wall(directory)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--feeds", type=int, default=20)
    parser.add_argument("--rate", type=float, default=10, help="rows a second, over all feeds")
    parser.add_argument("--kill-every", type=float, default=5, help="seconds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
