"""Where a worker's CPU time goes under the full job: the functions that cost most, by a row.

    python -m bench.profile_worker [--rows 10000] [--top 40] [--in-flight 100] [--poller] [--raw FILE]

py-spy (in `.venv-bench/main`, which `scripts/bench` makes) samples whichever thread holds the
interpreter's lock: on a busy machine that is time waited for a processor too. First by the parts
that the functions belong to, then function by function. *Self* is what a function itself used, C
code that it called included (the event loop's own is in `Thread.run`); *with callees* what ran
below it too. Sampling costs: the figures are higher than the benchmark's, and it is the shares that
tell.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contestants import PEERS, Rowrelay
from bench.report import table
from bench.rounds import WARM_UP_ROWS, wait_for_outcomes
from bench.scene import Job, Scene
from bench.usage import Meter

SAMPLES_A_SECOND = 250

PARTS = (
    ("record", ("app/delivery/recording.py",)),
    ("read the source, make JSON and hashes of it", ("app/source/", "aiosqlite/")),
    ("log", ("app/intake/intake.py",)),
    ("send", ("app/partner/", "app/delivery/sending.py")),
    ("claim, load, settle, a batch's own work", ("app/delivery/", "tasks/deliver.py")),
    ("polls' own work", ("app/intake/", "tasks/poll.py")),
    ("messages", ("tasks/queue.py", "tasks/transport.py", "tasks/consumer.py")),
    ("sweeps, heartbeats and the rest", ("app/", "tasks/", "celery/", "kombu/", "redis/")),
)
"""A part, and the files whose functions belong to it with all that they call; the first that has
one in a stack has the sample."""
NO_PART = "the event loop and the driver's sockets"


def main() -> None:
    """Run the job under py-spy, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--top", type=int, default=40, help="functions shown")
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument(
        "--poller", action="store_true", help="polls in a worker of its own, which is not profiled"
    )
    parser.add_argument(
        "--mongo-url", metavar="URL", help="a ledger server that runs; else an embedded one"
    )
    parser.add_argument(
        "--raw", type=Path, metavar="FILE", help="keep the stacks, for a flame graph"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rowrelay-profile-") as directory:
        raw = options.raw or Path(directory) / "stacks"
        with Scene(Path(directory), mongo_url=options.mongo_url) as scene:
            cpu_us = _profile(
                scene, Job(options.rows, in_flight=options.in_flight), raw, poller=options.poller
            )
        print(f"worker CPU: {cpu_us:,.0f} µs a row\n")
        _print(raw.read_text(encoding="utf-8"), options.rows, options.top)


def _print(stacks: str, rows: int, top: int) -> None:
    own, below, threads = count(stacks)

    def us(samples: int) -> str:
        return f"{samples / SAMPLES_A_SECOND / rows * 1e6:,.1f}"

    dearest = [[name, us(samples), us(below[name])] for name, samples in own.most_common(top)]
    ours = [
        (name, samples)
        for name, samples in below.most_common()
        if "(app/" in name or "(tasks/" in name
    ]
    by_part = parts(stacks).most_common()
    for columns, lines in (
        (("part", "µs a row"), [[name, us(samples)] for name, samples in by_part]),
        (("function, µs a row", "self", "with callees"), dearest),
        (
            ("function of this project, µs a row", "with callees"),
            [[name, us(n)] for name, n in ours[:top]],
        ),
        (("thread, µs a row", "self"), [[name, us(n)] for name, n in threads.most_common(8)]),
    ):
        print(table(columns, lines) + "\n")


def _profile(scene: Scene, job: Job, raw: Path, *, poller: bool) -> float:
    """Run the job once, warm. Returns the worker's CPU, in µs a row."""
    rowrelay = Rowrelay("profile", poller=poller)
    with scene.place(rowrelay.name, job) as place, rowrelay.start(place) as running:
        place.add_rows(1, WARM_UP_ROWS)
        running.go(1, WARM_UP_ROWS)
        meter = Meter({"worker": running.groups["worker"]})
        wait_for_outcomes(place, WARM_UP_ROWS, meter)
        scene.partner.reset(0, WARM_UP_ROWS + 1)
        place.add_rows(WARM_UP_ROWS + 1, WARM_UP_ROWS + job.rows)
        with _sampling(running.groups["worker"][0], raw):
            meter = Meter({"worker": running.groups["worker"]})
            running.go(WARM_UP_ROWS + 1, WARM_UP_ROWS + job.rows)
            wait_for_outcomes(place, job.rows, meter)
            return meter.used_s()["worker"] / job.rows * 1e6


@contextmanager
def _sampling(pid: int, raw: Path) -> Iterator[None]:
    program = PEERS / "main" / "bin" / "py-spy"
    if not program.exists():
        sys.exit(f"profile: no {program}: run scripts/bench --quick once")
    rate = str(SAMPLES_A_SECOND)
    sampler = subprocess.Popen(
        [str(program), "record", "--pid", str(pid), "--rate", rate, "--gil", "--nonblocking", "--threads",
         "--format", "raw", "--output", str(raw)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(1)  # it says nothing when it has begun
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)
        _, said = sampler.communicate(timeout=60)
    if not raw.exists():
        sys.exit(f"profile: {said.decode(errors='replace')}")


def count(stacks: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Samples by function, of itself and with its callees, and by thread. A line:
    `thread;outer;…;inner samples`.
    """
    own, below, threads = Counter[str](), Counter[str](), Counter[str]()
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        thread, *frames = (_short(frame) for frame in stack.split(";"))
        if not frames:
            continue
        own[frames[-1]] += int(samples)
        threads[thread] += int(samples)
        for frame in set(frames):
            below[frame] += int(samples)
    return own, below, threads


def parts(stacks: str) -> Counter[str]:
    """Samples by part."""
    found = Counter[str]()
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        found[_part_of(stack)] += int(samples)
    return found


def _part_of(stack: str) -> str:
    for name, files in PARTS:
        if any(f"({file}" in stack for file in files):
            return name
    return NO_PART


def _short(frame: str) -> str:
    """`function (package/file.py)`, without the line, so that a function is one entry."""
    return re.sub(r":\d+\)$", ")", frame)


if __name__ == "__main__":
    main()
