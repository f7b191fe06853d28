"""What does a purge cost the rows that flow meanwhile, and does it stay small itself?

    python -m bench.purge [--records 1000000] [--days 100] [--live 50] [--quiet 60] [--share 0.2] [--no-kill]
    python -m bench.purge --index-cost [--records 5000]

A ledger with `--records` old records, each with an attempt, spread over `--days` days. One worker
delivers `--live` rows a second. For `--quiet` seconds nothing else happens; then `python -m app
purge` archives and deletes the old records, is killed (SIGKILL) when half of the days are done, and
is run again; then it is quiet again. Prints the time and rate, what chunks took, the purge
process's memory over time, that each record is in exactly one verified file, and the latency of the
live rows logged in each part, from logged to recorded as delivered.

`--index-cost` prints what the index that purge reads by costs the update that records a success:
groups of 50, with and without it, in turns.

The old records look as an earlier purge left them: without payloads, and the ledger knows how far
that purge came.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import psutil
import pymongo

from app.core.clock import LONG_AGO
from app.ledger.indexes import INDEXES, SETTLED
from app.retention.archive import file
from app.retention.archive.restore import checked
from app.testbed.embedded.servers import EmbeddedMongo
from app.testbed.embedded.stack import ROOT, Stack
from bench.live import latencies, print_parts
from tests.support.wait import wait_until

Document: TypeAlias = dict[str, Any]
Database: TypeAlias = pymongo.database.Database[Document]
Window: TypeAlias = tuple[datetime, datetime]

DAYS_KEPT = 90
"""The feed's default."""
SAMPLE_SECONDS = 0.5
LONGEST = timedelta(days=1)
"""Live rows come for so long, at most."""
POINTS = 10
"""Of the memory over time."""
GROUP = 50


@dataclass(slots=True)
class Run:
    """One run of the command, as seen from outside."""

    seconds: float = 0.0
    told: Document = field(default_factory=dict)
    """What it printed; nothing where it was killed."""
    memory_mib: list[float] = field(default_factory=list)
    """Resident, every half second."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--live", type=float, default=50)
    parser.add_argument("--quiet", type=float, default=60, help="seconds before and after")
    parser.add_argument("--share", type=float, default=0.2, help="PURGE_SHARE")
    parser.add_argument(
        "--answer-ms", type=float, default=50, help="how long the partner takes to answer"
    )
    parser.add_argument("--no-kill", dest="kill", action="store_false")
    parser.add_argument("--index-cost", action="store_true")
    options = parser.parse_args()
    if options.index_cost:
        _print_index_cost(options.records or 5000)
        return
    options.records = options.records or 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "archive"
        archive.mkdir()
        settings = {"ARCHIVE_DIR": str(archive), "PURGE_SHARE": str(options.share)}
        with Stack(Path(directory), settings=settings) as stack:
            with stack.partner() as partner:
                slow = [options.answer_ms / 1000] * 2
                partner.put(
                    "/_simulator/faults", json={"slow": 1, "slow_seconds": slow}
                ).raise_for_status()
            with pymongo.MongoClient[Document](stack.mongo.url, tz_aware=True) as client:
                _measure(stack, client.get_default_database(), archive, options)


def _measure(stack: Stack, database: Database, archive: Path, options: argparse.Namespace) -> None:
    _add_old(database, options.records, options.days)
    stack.start_worker("--loglevel", "WARNING")
    stack.start_beat()
    started = datetime.now(UTC)
    stack.start_generator(int(options.live * LONGEST.total_seconds()), rate=options.live)
    wait_until(lambda: len(_delivered(database, started)) > 2 * options.live, timeout=60)
    before = _wait(options.quiet)
    begun = datetime.now(UTC)
    runs = [_run(stack, archive, options.days // 2)] if options.kill else []
    runs.append(_run(stack, archive))
    during = begun, datetime.now(UTC)
    after = _wait(options.quiet)
    wait_until(lambda: not database["batches"].estimated_document_count(), timeout=60)
    _print_runs(runs, options.records)
    _check_archive(archive, options.records)
    delivered = _delivered(database, started)
    quiet_before, meanwhile, quiet_after = (
        _latencies(delivered, window) for window in (before, during, after)
    )
    print_parts(quiet_before, "purge", meanwhile, quiet_after)


# --- the old records


def _add_old(database: Database, count: int, days: int) -> None:
    for collection, indexes in INDEXES.items():
        database[collection].create_indexes(list(indexes))
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=DAYS_KEPT + days)
    started = time.monotonic()
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        database["deliveries"].insert_many(
            [_old(n, first + timedelta(days=days * n / count)) for n in numbers]
        )
        database["attempts"].insert_many(
            [_attempt(n, first + timedelta(days=days * n / count)) for n in numbers]
        )
    reached = {"stripped_before": today - timedelta(days=7), "purged_before": first}
    database["purges"].insert_one({"_id": "orders", "lease": None, **reached})
    print(f"{count:,} old records inserted in {time.monotonic() - started:.0f} s", flush=True)


def _old(number: int, at: datetime) -> Document:
    return {
        "_id": f"orders:old-{number:08}", "feed": "orders", "key": f"old-{number:08}", "position": 0,
        "created_at": at, "finished_at": at, "state": "delivered", "attempts": 1, "last": {"at": at, "status": 200},
    }  # fmt: skip


def _attempt(number: int, at: datetime) -> Document:
    return {
        "_id": f"orders:old-{number:08}#{number:016x}", "feed": "orders", "at": at, "outcome": "delivered",
        "status": 200, "duration_ms": 50, "worker": "host:1", "response": '{"accepted":true}',
    }  # fmt: skip


# --- runs of the command


def _run(stack: Stack, archive: Path, kill_at_files: int | None = None) -> Run:
    """Run the command to its end, or kill it when there are so many files."""
    run, started = Run(), time.monotonic()
    command = [sys.executable, "-m", "app", "purge", "orders", "--json"]
    with subprocess.Popen(
        command, env=stack.environment, cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):  # it ended this moment
                run.memory_mib.append(watched.memory_info().rss / 2**20)
            if (
                kill_at_files is not None
                and len(list(archive.glob("orders/*.zst"))) >= kill_at_files
            ):
                process.kill()
            time.sleep(SAMPLE_SECONDS)
        told = process.stdout.read() if process.stdout else b""
    run.seconds = time.monotonic() - started
    assert kill_at_files is not None or process.returncode == 0, "the purge failed"
    run.told = orjson.loads(told)["feeds"][0] if kill_at_files is None else {}
    return run


def _print_runs(runs: Sequence[Run], records: int) -> None:
    for run in runs:
        how = "run to its end" if run.told else "killed half-way"
        memory = f"memory {_over_time(run.memory_mib)}, peak {max(run.memory_mib):.0f} MiB"
        print(f"purge, {how}: {run.seconds:.0f} s; {memory}")
    told, total = runs[-1].told, sum(run.seconds for run in runs)
    print(
        f"{records:,} records in {total:.0f} s: {records / total:.0f}/s; the last run deleted {told['records']:,}"
    )
    chunks = told["chunk_ms"]
    times = ", ".join(f"{name} {chunks[name]:.0f} ms" for name in ("p50", "p95", "max"))
    print(f"chunks of the last run: {chunks['count']:,}; {times}")


def _over_time(memory: Sequence[float]) -> str:
    """A few points of it, evenly apart."""
    step = max(1, len(memory) // POINTS)
    return " ".join(f"{mib:.0f}" for mib in memory[step - 1 :: step]) + " MiB"


def _check_archive(archive: Path, records: int) -> None:
    files = sorted(archive.glob("orders/*.zst"))
    size = sum(checked(path)[0].bytes for path in files)
    seen = Counter(_ids(files))
    assert len(seen) == records, f"{len(seen)} of {records} records are in the archive"
    assert max(seen.values()) == 1, "a record is in two files"
    print(
        f"archive: {len(files)} files, {size / 2**20:.1f} MiB, each verified; each record in exactly one of them"
    )


def _ids(files: Sequence[Path]) -> Iterator[str]:
    for path in files:
        for record in file.read(path):
            yield record.id


# --- live rows


def _wait(seconds: float) -> Window:
    start = datetime.now(UTC)
    time.sleep(seconds)
    return start, datetime.now(UTC)


def _delivered(database: Database, since: datetime) -> list[Document]:
    """Live rows that were delivered since then; asked for as `settled` serves it."""
    wanted = {"state": "delivered", "feed": "orders", "finished_at": {"$gte": since}}
    return list(database["deliveries"].find(wanted, {"created_at": 1, "finished_at": 1}))


def _latencies(delivered: Sequence[Document], window: Window) -> list[float]:
    """Milliseconds from logged to delivered, of the rows logged in the window."""
    logged = [one for one in delivered if window[0] <= one["created_at"] < window[1]]
    return latencies(logged)


# --- the index


def _print_index_cost(records: int) -> None:
    rounds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as directory, EmbeddedMongo(Path(directory)) as mongo:
        for number in range(5):
            for name, measured in rounds.items():
                with pymongo.MongoClient[Document](mongo.url, w="majority") as client:
                    database = client[f"round_{number}_{name}"]
                    measured.append(_settle(database, records, with_index=name == "with"))
    for name, measured in rounds.items():
        spread = f"({min(measured):.1f} to {max(measured):.1f})"
        print(
            f"{name + ' ' + SETTLED:<18}{statistics.median(measured):>8.1f} µs a delivery {spread}"
        )


def _settle(database: Database, records: int, *, with_index: bool) -> float:
    """Record that so many queued deliveries were delivered. Returns microseconds for each."""
    indexes = [
        one for one in INDEXES["deliveries"] if with_index or one.document["name"] != SETTLED
    ]
    deliveries = database["deliveries"]
    deliveries.create_indexes(indexes)
    queued = [
        {**_old(n, LONG_AGO), "state": "queued", "batch": "b", "payload": "x" * 500}
        for n in range(records)
    ]
    for one in queued:
        del one["finished_at"]
    deliveries.insert_many(queued)
    started = time.perf_counter()
    for start in range(0, records, GROUP):
        ids = [one["_id"] for one in queued[start : start + GROUP]]
        now = datetime.now(UTC)
        deliveries.update_many(
            {"_id": {"$in": ids}, "state": {"$ne": "delivered"}},
            {
                "$set": {
                    "state": "delivered",
                    "finished_at": now,
                    "last": {"at": now, "status": 200},
                },
                "$inc": {"attempts": 1},
                "$unset": {"batch": ""},
            },
        )
    return (time.perf_counter() - started) / records * 1e6


if __name__ == "__main__":
    main()
