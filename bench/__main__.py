"""The benchmark: this system beside its peers and the limits, on the same work. `scripts/bench`
runs it.

    scripts/bench [--rows 3000] [--rounds 3] [--only NAME ...] [--quick]     everybody, and the limits
    scripts/bench --slow-partner     a partner that takes 50 ms, 200 requests in flight
    scripts/bench --two              two worker processes against one
    scripts/bench --latency          from insert to outcome, at a steady rate
    scripts/bench --million [ROWS]   many rows through one worker: memory, and speed in the end
    scripts/bench --ledger-size [N]  what the ledger's questions cost before 10,000 and before N old deliveries

`--write` puts the tables into docs/performance.md. Exit code 1 where a run lost, doubled or did not
record a row.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

from app.testbed.embedded.process import NotStarted
from bench.compare import compare, slow
from bench.latency import Load, latency
from bench.ledger_size import ledger_size
from bench.million import million
from bench.report import Section, header, publish
from bench.scene import Job, Scene
from bench.two import two

MOST_ROWS = 90_000
"""In a comparison: one poll reads them all, so they must stay below `max_backlog`."""


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    load = os.getloadavg()[0]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="rowrelay-bench-") as directory,
            Scene(Path(directory), mongo_url=options.mongo_url) as scene,
        ):
            section = _run(scene, options)
            head = header(scene, shlex.join(["scripts/bench", *sys.argv[1:]]), load)
    except NotStarted as error:
        sys.exit(f"bench: {error}")
    publish(section, head, write=options.write, json_file=options.json)
    if "FAILED" in section.body:
        sys.exit(1)


def _run(scene: Scene, options: argparse.Namespace) -> Section:
    job = Job(options.rows)
    if options.latency:
        return latency(
            scene, Load(options.rate, options.seconds, options.poll_every), options.rounds
        )
    if options.million:
        return million(scene, options.million)
    if options.ledger_size:
        return ledger_size(scene, options.ledger_size, options.rounds)
    measure = two if options.two else slow if options.slow_partner else compare
    return measure(scene, job, options.rounds, options.only)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--slow-partner", action="store_true", help="a partner that takes 50 ms, 200 in flight"
    )
    mode.add_argument("--two", action="store_true", help="two worker processes against one")
    mode.add_argument(
        "--latency", action="store_true", help="from insert to outcome, at a steady rate"
    )
    mode.add_argument(
        "--million",
        type=int,
        nargs="?",
        const=1_000_000,
        metavar="ROWS",
        help="many rows, one worker",
    )
    mode.add_argument(
        "--ledger-size", type=int, nargs="?", const=200_000, metavar="N", help="N old deliveries"
    )
    parser.add_argument("--rows", type=int, default=3000, help=f"a round; at most {MOST_ROWS:,}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="whose name contains NAME; repeat",
    )
    parser.add_argument(
        "--quick", action="store_true", help="300 rows, one round: does everything work?"
    )
    parser.add_argument("--rate", type=float, default=200, help="--latency: rows a second")
    parser.add_argument("--seconds", type=float, default=30, help="--latency: of each round")
    parser.add_argument("--poll-every", default="1s", help="--latency: the feed's poll_every")
    parser.add_argument(
        "--mongo-url", metavar="URL", help="a ledger server that runs; else an embedded one"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into docs/performance.md"
    )
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds, options.seconds = 300, 1, 5
    if options.write and (options.quick or options.only):
        parser.error(
            "--write: not with --quick or --only, whose tables are no measurement, or a part of one"
        )
    if not 1 <= options.rows <= MOST_ROWS or options.rounds < 1:
        parser.error(
            f"--rows: {options.rows}: 1 to {MOST_ROWS}; --rounds: {options.rounds}: 1 or more"
        )
    return options


if __name__ == "__main__":
    main()
