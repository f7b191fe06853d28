"""Many rows, a hostile partner, and a worker killed every few seconds, until everything is settled.

    python -m tests.chaos.soak [--rows 20000] [--kill-every 5]

Prints the books as JSON, and `status` as an operator sees it. Exit code 1 where a promise broke.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pymongo

from app.testbed.embedded.process import Process
from app.testbed.embedded.stack import ROOT, Stack
from tests.chaos.scene import Scene, balance, recover


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kill-every", type=float, default=5, help="seconds")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rowrelay-soak-") as directory,
        Stack(Path(directory), faults="hostile", gap_timeout="15s") as stack,
        pymongo.MongoClient[dict[str, Any]](stack.mongo.url, serverSelectionTimeoutMS=2000) as client,
    ):
        scene = Scene(stack, options.rows, client)
        stack.start_beat()
        stack.start_generator(options.rows, pattern="late-commit")
        started = time.monotonic()
        _kill_until_settled(scene, [stack.start_worker(), stack.start_worker()], options.kill_every)
        scene.fault_is_over()
        books = balance(scene, recover(scene))
        told = asdict(books) | {"elapsed_s": round(time.monotonic() - started, 1)}
        sys.stdout.write(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n")
        subprocess.run([sys.executable, "-m", "app", "status"], env=stack.environment, cwd=ROOT, check=True)
    if books.wrong:
        sys.exit(1)


def _kill_until_settled(scene: Scene, workers: list[Process], kill_every: float) -> None:
    """Kill the older of two workers, and start another in its place, again and again."""
    while not scene.settled():
        time.sleep(kill_every)  # the pace of the killing
        scene.kill(workers.pop(0))
        workers.append(scene.stack.start_worker())


if __name__ == "__main__":
    main()
