"""What one feed's rows wait for beside others: from insert to delivered, and how punctual the polls
are.

    python -m bench.isolation [--seconds 20] [--rate 5] [--only NAME ...] [--write]

One worker and beat, with the defaults. `fast` gets rows at a steady rate, and its partner answers
at once; beside it is a feed with 6,000 rows waiting, whose partner takes its time, or is dead. Then
50 feeds of every temper together: those whose partners answer get a row a second each and are
compared with one of their kind alone; all others have 600 rows waiting. Polls every second; what is
told of them is how much later than that the next one came. `--write` puts the table into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from app.testbed.embedded.process import NotStarted, Process
from app.testbed.embedded.source import connect
from app.testbed.embedded.stack import ROOT
from bench.contestants import QUIET, killed
from bench.report import Section, header, publish, table, whole
from bench.scene import Database, Job, Place, Scene, announced

WAITING, WAITING_EACH = 6000, 600
FEEDS = 50
POLL_SECONDS = 1.0
SETTLING_SECONDS = 8.0
"""How long the troublesome feeds have been at it when the first measured row is inserted."""
LATE_SECONDS = 60.0
"""How long rows that are measured may take at the end."""

_FEED = """
[feeds.{name}]
table = "{name}"
key = "id"
cursor = {{ strategy = "identity", column = "id" }}
poll_every = "{poll:g}s"
partner = {{ url = "{url}", timeout = "{timeout}" }}
"""


@dataclass(frozen=True, slots=True)
class Temper:
    """A kind of partner."""

    name: str
    path: str
    """At the partners of `bench.tempers`; or `refused`, `blackhole`."""
    timeout: str = "60s"


AT_ONCE = Temper("answers at once", "/after/0")
SOON = Temper("answers after 300 ms", "/after/300")
LATER = Temper("answers after 3 s", "/after/3000")
LATE = Temper("answers after 30 s", "/after/30000")
REFUSED = Temper("refuses connections", "refused")
BLACKHOLE = Temper("lets connections hang", "blackhole")
WELL = (AT_ONCE, SOON, LATER)
"""Those whose rows are delivered soon enough to be measured."""
UNWELL = (
    LATE,
    REFUSED,
    BLACKHOLE,
    Temper("never answers", "/never", "10s"),
    Temper("answers 500", "/answers/500"),
    Temper("answers 429", "/answers/429"),
    Temper("cuts connections", "/cut"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """Which feeds run together."""

    name: str
    measured: Sequence[tuple[str, Temper]]
    """Feeds that get rows at a rate."""
    beside: Sequence[tuple[str, Temper]] = ()
    """Feeds that have rows waiting."""
    rate: float | None = None
    """Rows a second and measured feed, where it is not the one asked for."""
    waiting: int = WAITING
    longer: int = 1
    """For how many times the seconds asked for rows come."""


@dataclass(slots=True)
class Found:
    """What came of a case."""

    took: dict[Temper, list[float]] = field(default_factory=dict)
    """Seconds from insert to delivered."""
    late: dict[str, list[float]] = field(default_factory=dict)
    """Feed → seconds by which polls came later than they were due."""
    missing: int = 0
    """Rows measured that were not delivered in time."""


def cases() -> Iterator[Case]:
    """In the order in which they are run."""
    fast = [("fast", AT_ONCE)]
    yield Case("alone", fast)
    for temper in (LATER, LATE, REFUSED, BLACKHOLE):
        yield Case(f"beside one that {temper.name}", fast, [("other", temper)])
    for temper in WELL:
        yield Case(f"one that {temper.name}, alone", [("one", temper)], rate=1, longer=2)
    well = [(f"well{number}", WELL[number % len(WELL)]) for number in range(FEEDS // 2)]
    unwell = [
        (f"unwell{number}", UNWELL[number % len(UNWELL)]) for number in range(FEEDS - len(well))
    ]
    yield Case(f"{FEEDS} feeds together", well, unwell, rate=1, waiting=WAITING_EACH)


# --- one case


def run(scene: Scene, case: Case, rate: float, seconds: float) -> Found:
    """Start everything anew, let rows flow, and read what came of them."""
    with scene.place("isolation", Job(0)) as place, ExitStack() as running:
        _, partners = running.enter_context(announced("bench.tempers", place.directory))
        urls = {"refused": _refusing(running), "blackhole": _swallowing(running)}
        feeds = [*case.measured, *case.beside]
        for name, _ in feeds:
            _insert(place.source, name, 0)
        for name, _ in case.beside:
            _insert(place.source, name, case.waiting)
        text = "".join(
            _FEED.format(
                name=name,
                poll=POLL_SECONDS,
                timeout=one.timeout,
                url=urls.get(one.path, partners + one.path),
            )
            for name, one in feeds
        )
        (place.directory / "feeds.toml").write_text(text, encoding="utf-8")
        _start(place, running)
        database = place.database
        assert database is not None
        names = [name for name, _ in feeds]
        _wait(
            lambda: (
                database["cursors"].count_documents({"last_poll_at": {"$ne": None}}) == len(names)
            ),
            "the polls",
        )
        beside = {"feed": {"$in": [name for name, _ in case.beside]}}
        expected = case.waiting * len(case.beside)
        _wait(
            lambda: database["deliveries"].count_documents(beside) == expected,
            "the waiting rows to be logged",
        )
        time.sleep(SETTLING_SECONDS)
        late = running.enter_context(_watched_polls(database, names))
        inserted = _let_flow(
            place.source,
            [name for name, _ in case.measured],
            case.rate or rate,
            seconds * case.longer,
        )
        return _read(database, case, inserted, late)


def _start(place: Place, running: ExitStack) -> None:
    environment = {
        **os.environ,
        "REDIS_URL": place.scene.redis.url,
        "MONGO_URL": place.ledger_url,
        "SOURCE_URL": f"sqlite:///{place.source}",
        "FEEDS_FILE": str(place.directory / "feeds.toml"),
        "LOG_LEVEL": "ERROR",
    }
    for name, arguments in {
        "worker": ["worker", *QUIET],
        "beat": ["beat", "--loglevel", "WARNING"],
    }.items():
        argv = [sys.executable, "-m", "celery", "-A", "celery_app", *arguments]
        log = place.directory / f"{name}.log"
        running.enter_context(killed(Process(name, argv, env=environment, cwd=ROOT, log=log)))


def _refusing(running: ExitStack) -> str:
    """An address at which nobody listens, and nobody else can begin to."""
    bound = running.enter_context(socket.socket())
    bound.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{bound.getsockname()[1]}/"


def _swallowing(running: ExitStack) -> str:
    """An address at which connections neither come about nor fail: a listener that takes no more of
    them.
    """
    full = running.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        waiting = running.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())
    return f"http://127.0.0.1:{full.getsockname()[1]}/"


def _insert(source: Path, name: str, count: int) -> list[int]:
    """Insert rows into the feed's table; returns their ids."""
    with closing(connect(source)) as connection:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)"
        )
        connection.execute("BEGIN IMMEDIATE")
        ids = [_insert_row(connection, name) for _ in range(count)]
        connection.execute("COMMIT")
    return ids


def _insert_row(connection: sqlite3.Connection, name: str) -> int:
    return int(
        connection.execute(f"INSERT INTO {name} (v) VALUES ('a row of some length')").lastrowid or 0  # noqa: S608 - names of ours
    )


def _let_flow(
    source: Path, names: Sequence[str], rate: float, seconds: float
) -> Mapping[str, float]:
    """Insert rows one by one at about that rate into each table. Returns delivery id → when it was
    committed.

    Not at the very rate: polls keep their places in the interval, so what came in step with them
    would always wait for as long. Here it moves through the whole interval in 15 of them.
    """
    inserted: dict[str, float] = {}
    begun, pause = time.monotonic(), (1 - 1 / 15) / (rate * len(names))
    for number in range(int(rate * seconds) * len(names)):
        time.sleep(max(0.0, begun + number * pause - time.monotonic()))
        name = names[number % len(names)]
        (key,) = _insert(source, name, 1)
        inserted[f"{name}:{key}"] = time.time()
    return inserted


@contextmanager
def _watched_polls(database: Database, names: Sequence[str]) -> Iterator[Mapping[str, list[float]]]:
    """Feed → by how many seconds its polls came later than they were due, for as long as the
    context lasts.
    """
    late: dict[str, list[float]] = {name: [] for name in names}
    ended = threading.Event()

    def watch() -> None:
        last: dict[str, datetime] = {}
        while not ended.wait(0.1):
            for cursor in database["cursors"].find({}, {"last_poll_at": 1}):
                name, at = cursor["_id"], cursor["last_poll_at"]
                if name in last and at != last[name]:
                    late[name].append(max(0.0, (at - last[name]).total_seconds() - POLL_SECONDS))
                last[name] = at

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield late
    finally:
        ended.set()
        watching.join()


def _read(
    database: Database, case: Case, inserted: Mapping[str, float], late: Mapping[str, list[float]]
) -> Found:
    found, tempers = (
        Found(late={name: list(values) for name, values in late.items()}),
        dict(case.measured),
    )
    wanted = {"_id": {"$in": list(inserted)}, "state": "delivered"}
    deadline = time.monotonic() + LATE_SECONDS
    while (
        database["deliveries"].count_documents(wanted) < len(inserted)
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    for delivery in database["deliveries"].find(wanted, {"feed": 1, "finished_at": 1}):
        ended = delivery["finished_at"].replace(tzinfo=UTC).timestamp()
        found.took.setdefault(tempers[delivery["feed"]], []).append(
            ended - inserted[delivery["_id"]]
        )
    found.missing = len(inserted) - sum(map(len, found.took.values()))
    return found


def _wait(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotStarted(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


# --- what is told


def section(found: Mapping[str, Found], rate: float, seconds: float) -> Section:
    """The table. `FAILED` stands in it where a row that is measured was not delivered."""
    rows = [line for name, one in found.items() for line in _rows(name, one)]
    failed = "".join(
        f"\nFAILED: {name}: {one.missing} rows not delivered"
        for name, one in found.items()
        if one.missing
    )
    columns = ("", "insert → delivered, p50 ms", "p95 ms", "polls late, p95 ms", "at most, ms")
    body = (
        f"{table(columns, rows)}\n\n"
        f"First lines: a feed of {rate:g} rows/s for {seconds:g} s, partner answering at once; the one beside it has "
        f"{WAITING:,} rows waiting. {FEEDS} together: {FEEDS // 2} whose partners answer, one row a second each; the "
        f"others have {WAITING_EACH} rows waiting, and partners that answer after 30 s, never, with 500 or 429, that "
        "refuse connections, let them hang, or cut them. "
        f"Polled every {POLL_SECONDS:g} s; one worker and all settings at their defaults.{failed}"
    )
    return Section("isolation", "One feed beside others", body, _data(found))


def _rows(name: str, found: Found) -> Iterator[list[str]]:
    late = [value for values in found.late.values() for value in values]
    polls = [_ms(late, 0.95), _ms(late, 1.0)]
    for temper, took in sorted(found.took.items(), key=lambda item: item[0].path):
        title = name if len(found.took) == 1 else f"{name}: {temper.name}"
        yield [title, _ms(took, 0.5), _ms(took, 0.95), *polls]


def _ms(values: Sequence[float], cut: float) -> str:
    ordered = sorted(values)
    return whole(ordered[min(int(len(ordered) * cut), len(ordered) - 1)] * 1000) if ordered else "–"


def _data(found: Mapping[str, Found]) -> object:
    return {
        name: {"took": {temper.name: took for temper, took in one.took.items()}, "late": one.late}
        for name, one in found.items()
    }


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=5, help="rows a second of `fast`")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="cases whose name contains NAME"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/performance.md"
    )
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write: not with --only, whose table is a part of one")
    wanted = [
        case
        for case in cases()
        if not options.only or any(part in case.name for part in options.only)
    ]
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="rowrelay-bench-") as directory,
        Scene(Path(directory)) as scene,
    ):
        found = {}
        for case in wanted:
            found[case.name] = run(scene, case, options.rate, options.seconds)
            for line in _rows(case.name, found[case.name]):
                print("  ".join(line), file=sys.stderr)
        command = shlex.join(["python", "-m", "bench.isolation", *sys.argv[1:]])
        told, head = section(found, options.rate, options.seconds), header(scene, command, load)
    publish(told, head, write=options.write, json_file=options.json)
    if "FAILED" in told.body:
        sys.exit(1)


if __name__ == "__main__":
    main()
